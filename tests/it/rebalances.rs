//! Engines that come and go while records are in flight: what is read on, what is waited for, what is
//! committed, each on a real Kafka.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;

use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, ConfigRoot, Engine, Message, signal, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(90);

/// A stage whose one step asks an HTTP server, between two topics of a test's own.
struct Bed {
    prefix: String,
    root: ConfigRoot,
    stub: Stub,
}

impl Bed {
    /// `keys` are further keys of the stage.
    fn new(cluster: &Cluster, partitions: i32, keys: &str, stub: Stub) -> Self {
        let prefix = unique("rebalance");
        let pipeline = format!(
            "[topics.input]\ntopic = \"{prefix}.input\"\n\n[topics.output]\ntopic = \"{prefix}.output\"\n\n\
             [dlqs.dead]\ntopic = \"{prefix}.dlq\"\n\n[http_clients.stub]\nbase_url = \"{}\"\ntimeout = \"80s\"\n\n\
             [stages.bed]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n{keys}\n\n\
             [[stages.bed.steps]]\nhttp.client = \"stub\"\nhttp.path = \"/{{{{ value.path }}}}\"\n",
            stub.url()
        );
        let root = ConfigRoot::new(&[("pipelines/bed.toml", &pipeline)]);
        let bed = Self { prefix, root, stub };
        for (name, partitions) in [("input", partitions), ("output", partitions), ("dlq", 1)] {
            cluster.create_topic(&bed.topic(name), partitions, &[]);
        }
        bed
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn group(&self) -> String {
        format!("{}.bed", self.prefix)
    }

    fn start(&self, cluster: &Cluster) -> Engine {
        let mut engine = self.launch(cluster);
        engine.wait_ready();
        engine
    }

    fn launch(&self, cluster: &Cluster) -> Engine {
        Engine::launch(&self.root, cluster.brokers(), &[("BIPLANE_NAMESPACE", self.prefix.as_str())])
    }

    /// Writes `count` records to one partition, each with a key of its own.
    fn produce(&self, cluster: &Cluster, partition: i32, path: &str, count: usize) {
        let records: Vec<_> = (0..count)
            .map(|number| Message::json(format!("{path}-{number}"), &json!({"path": path})).at(partition))
            .collect();
        cluster.produce(&self.topic("input"), &records);
    }

    fn out(&self, cluster: &Cluster) -> i64 {
        cluster.count(&self.topic("output"))
    }

    fn committed(&self, cluster: &Cluster) -> i64 {
        cluster.committed(&self.group(), &self.topic("input")).values().map(|(offset, _)| offset).sum()
    }

    /// How many members the coordinator knows.
    fn members(&self, cluster: &Cluster) -> usize {
        let consumer: BaseConsumer = cluster.config().create().expect("a consumer");
        let groups = consumer.fetch_group_list(Some(&self.group()), DEADLINE).expect("an answer");
        groups.groups().iter().map(|group| group.members().len()).sum()
    }
}

fn wait_for(released: &AtomicBool) {
    let (_keep, wait) = std::sync::mpsc::channel::<()>();
    while !released.load(Ordering::Acquire) {
        let _ = wait.recv_timeout(Duration::from_millis(20));
    }
}

/// The client keeps a pause over rebalances: a stage that was full when a member joined, and has room
/// afterwards, must ask for records again.
#[test]
fn what_was_paused_when_a_member_joined_is_read_on() {
    static RELEASED: AtomicBool = AtomicBool::new(false);
    fn answer(_: &str, stream: &mut TcpStream) {
        wait_for(&RELEASED);
        reply(stream, "200 OK", "{}");
    }
    const WINDOW: usize = 10;
    const MORE: usize = 30;
    let cluster = Cluster::shared();
    let keys = format!(
        "drain = \"1s\"\nconcurrency = {WINDOW}\nwindow = {{ records = {WINDOW}, bytes = \"1MiB\" }}"
    );
    let bed = Bed::new(&cluster, 2, &keys, Stub::start(answer));
    for partition in 0..2 {
        bed.produce(&cluster, partition, "first", WINDOW / 2);
    }
    let first = bed.start(&cluster);
    wait_until("half a window of each partition hangs", DEADLINE, || bed.stub.asked() == WINDOW);
    for partition in 0..2 {
        bed.produce(&cluster, partition, "more", MORE);
    }
    wait_until("the stage is paused", DEADLINE, || {
        first.metric("biplane_stage_state", &["stage=\"bed\"", "state=\"paused\""]) == 1.0
    });
    let second = bed.start(&cluster);
    RELEASED.store(true, Ordering::Release);
    let all = (WINDOW + 2 * MORE) as i64;
    wait_until("all is committed", DEADLINE, || bed.committed(&cluster) == all);
    assert_eq!(bed.out(&cluster), all, "{}{}", first.log(), second.log());
}

/// What runs when a member joins or leaves is finished first, so nothing is done twice.
#[test]
fn members_that_join_and_leave_repeat_nothing_that_ends_within_drain() {
    static RELEASED: AtomicBool = AtomicBool::new(false);
    fn answer(_: &str, stream: &mut TcpStream) {
        wait_for(&RELEASED);
        reply(stream, "200 OK", "{}");
    }
    const PARTITIONS: i32 = 4;
    const EACH: usize = 10;
    const ALL: usize = PARTITIONS as usize * EACH;
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, PARTITIONS, "drain = \"60s\"\nconcurrency = 40", Stub::start(answer));
    let hang = |asked| {
        RELEASED.store(false, Ordering::Release);
        (0..PARTITIONS).for_each(|partition| bed.produce(&cluster, partition, "slow", EACH));
        wait_until("all hang in their step", DEADLINE, || bed.stub.asked() == asked);
    };
    let first = bed.start(&cluster);
    hang(ALL);
    let mut second = bed.launch(&cluster);
    let rebalances = |count: f64| first.metric("biplane_stage_rebalances_total", &["stage=\"bed\""]) == count;
    wait_until("the first is to hand over", DEADLINE, || rebalances(2.0));
    RELEASED.store(true, Ordering::Release);
    second.wait_ready();
    wait_until("all is committed", DEADLINE, || bed.committed(&cluster) == ALL as i64);
    hang(2 * ALL);
    signal(second.id(), "TERM");
    wait_until("the second drains", DEADLINE, || second.log().contains("draining"));
    RELEASED.store(true, Ordering::Release);
    wait_until("the second has left", DEADLINE, || !second.runs());
    wait_until("all is committed", DEADLINE, || bed.committed(&cluster) == 2 * ALL as i64);
    assert_eq!((bed.stub.asked(), bed.out(&cluster)), (2 * ALL, 2 * ALL as i64));
    assert_eq!(first.metric("biplane_stage_records_repeated_total", &["stage=\"bed\""]), 0.0);
}

/// A record hangs in its step as the engine is told to stop. What is finished before it is committed all
/// the same, and the group is left, whether the time is up or somebody hurries.
#[test]
fn a_stop_that_gives_a_record_up_still_commits_and_leaves_the_group() {
    static RELEASED: AtomicBool = AtomicBool::new(false);
    fn answer(path: &str, stream: &mut TcpStream) {
        if path == "/hang" {
            wait_for(&RELEASED);
        }
        reply(stream, "200 OK", "{}");
    }
    const COUNT: usize = 50;
    let cluster = Cluster::shared();
    for (drain, hurried) in [("1s", false), ("80s", true)] {
        // Only the last commit can say what was finished.
        let keys = format!("drain = \"{drain}\"\ncommit_interval = \"1h\"");
        let bed = Bed::new(&cluster, 1, &keys, Stub::start(answer));
        bed.produce(&cluster, 0, "quick", COUNT);
        bed.produce(&cluster, 0, "hang", 1);
        let mut engine = bed.start(&cluster);
        wait_until("one record hangs, all others are out", DEADLINE, || {
            bed.stub.asked() == COUNT + 1 && bed.out(&cluster) == COUNT as i64
        });
        if hurried {
            signal(engine.id(), "TERM");
            wait_until("it drains", DEADLINE, || engine.log().contains("draining"));
        }
        let ended = engine.terminate(Duration::from_secs(15));
        assert!(ended.success(), "{ended}: {}", engine.log());
        assert_eq!((bed.committed(&cluster), bed.members(&cluster)), (COUNT as i64, 0), "{}", engine.log());
    }
    RELEASED.store(true, Ordering::Release);
}
