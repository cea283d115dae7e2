//! Faults that a stage must survive, each on a real Kafka: what happened is counted, nothing is lost,
//! and the stage goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, ConfigRoot, Engine, Message, PrivateKafka, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(90);

/// One stage between two topics of a test's own.
struct Bed {
    prefix: String,
    root: ConfigRoot,
}

impl Bed {
    /// A stage with these keys and steps; `STAGE` stands for its table.
    fn new(cluster: &Cluster, partitions: i32, stage: &str) -> Self {
        let prefix = unique("fault");
        let pipeline = format!(
            "[topics.input]\ntopic = \"{prefix}.input\"\n\n[topics.output]\ntopic = \"{prefix}.output\"\n\n\
             [dlqs.dead]\ntopic = \"{prefix}.dlq\"\n\n{}",
            stage.replace("STAGE", "stages.bed")
        );
        let root = ConfigRoot::new(&[("pipelines/bed.toml", &pipeline)]);
        let bed = Self { prefix, root };
        for (name, partitions) in [("input", partitions), ("output", partitions), ("dlq", 1)] {
            cluster.create_topic(&bed.topic(name), partitions, &[]);
        }
        bed
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn start(&self, cluster: &Cluster) -> Engine {
        Engine::start(&self.root, cluster.brokers(), &[("BIPLANE_NAMESPACE", self.prefix.as_str())])
    }

    /// The same static member again and again: a restart waits for no session.
    fn start_named(&self, cluster: &Cluster) -> Engine {
        let variables = [("BIPLANE_NAMESPACE", self.prefix.as_str()), ("BIPLANE_ENGINE_ID", "one")];
        Engine::start(&self.root, cluster.brokers(), &variables)
    }

    fn committed(&self, cluster: &Cluster) -> i64 {
        let committed = cluster.committed(&format!("{}.bed", self.prefix), &self.topic("input"));
        committed.values().map(|(offset, _)| offset).sum()
    }
}

/// Fault 15. The guard is the attempts in the commit's metadata: without them each kill starts the
/// count again, and the stub is asked up to `kills` times more than once a kill.
#[test]
fn a_record_whose_engine_is_killed_at_each_attempt_is_tried_at_most_once_more_a_kill() {
    const MOST: usize = 4;
    const KILLS: usize = 6;
    let cluster = Cluster::shared();
    let stub = Stub::start(|_, stream| reply(stream, "503 Service Unavailable", ""));
    let stage = format!(
        "[retries.slow]\nmax_attempts = {MOST}\ndelays = [\"1500ms\"]\n\n\
         [STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\nretry = \"slow\"\n\n\
         [[STAGE.steps]]\nhttp.url = \"{}/\"\n",
        stub.url()
    );
    let bed = Bed::new(&cluster, 1, &stage);
    cluster.produce(&bed.topic("input"), &[Message::json("k", &json!({}))]);
    for _ in 0..KILLS {
        let before = stub.asked();
        let mut engine = bed.start_named(&cluster);
        wait_until("another attempt or the dead letter", DEADLINE, || {
            stub.asked() > before || cluster.count(&bed.topic("dlq")) > 0
        });
        engine.kill();
    }
    let _engine = bed.start_named(&cluster);
    cluster.wait_for_records(&bed.topic("dlq"), 1, DEADLINE);
    let asked = stub.asked();
    assert!((MOST..=MOST + KILLS).contains(&asked), "{asked} attempts with {KILLS} kills");
}

/// Fault 17. Offsets of aborted records and of transaction markers do not exist for a reader.
#[test]
fn a_stage_does_not_wait_for_offsets_that_transactions_left_empty() {
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 1, "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n");
    let mut config = cluster.config();
    config.set("transactional.id", &bed.prefix);
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(DEADLINE).expect("transactions");
    let input = bed.topic("input");
    for round in 0..6 {
        producer.begin_transaction().expect("a transaction");
        let value = json!({"round": round}).to_string();
        producer.send(BaseRecord::to(&input).key("k").payload(value.as_bytes())).expect("sent");
        producer.flush(DEADLINE).expect("flushed");
        match round % 2 {
            0 => producer.commit_transaction(DEADLINE).expect("committed"),
            _ => producer.abort_transaction(DEADLINE).expect("aborted"),
        }
    }
    let _engine = bed.start(&cluster);
    let rounds: Vec<_> = cluster
        .wait_for_records(&bed.topic("output"), 3, DEADLINE)
        .iter()
        .map(|record| record.value_json()["round"].as_i64().expect("a round"))
        .collect();
    assert_eq!(rounds, [0, 2, 4]);
    // Round 4 lies at offset 8: two offsets a round.
    wait_until("all that exists is committed", DEADLINE, || bed.committed(&cluster) >= 9);
}

/// Fault 28, the answers: a deadline over the whole answer, a cap on its body, no redirect followed.
#[test]
fn slow_endless_and_redirecting_answers_end_in_the_dlq_with_their_code() {
    fn answer(path: &str, stream: &mut TcpStream) {
        match path {
            "/slow" => {
                // A byte now and then would keep a mere idle timeout from ever firing.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
                let (_keep, wait) = std::sync::mpsc::channel::<()>();
                while stream.write_all(b" ").is_ok() {
                    let _ = wait.recv_timeout(Duration::from_millis(100));
                }
            }
            "/bomb" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n\"");
                while stream.write_all(&[b'x'; 65_536]).is_ok() {}
            }
            "/away" => {
                let away = b"HTTP/1.1 302 Found\r\nLocation: /fine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(away);
            }
            _ => reply(stream, "200 OK", "{}"),
        }
    }
    let cluster = Cluster::shared();
    let stub = Stub::start(answer);
    let stage = format!(
        "[retries.once]\nmax_attempts = 1\n\n[http_clients.stub]\nbase_url = \"{}\"\ntimeout = \"1s\"\n\
         max_response_bytes = \"256KiB\"\n\n[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n\
         retry = \"once\"\n\n[[STAGE.steps]]\nhttp.client = \"stub\"\nhttp.path = \"/{{{{ value.path }}}}\"\n",
        stub.url()
    );
    let bed = Bed::new(&cluster, 1, &stage);
    let records = ["slow", "bomb", "away", "fine"].map(|path| Message::json(path, &json!({"path": path})));
    cluster.produce(&bed.topic("input"), &records);
    let engine = bed.start(&cluster);
    let dead = cluster.wait_for_records(&bed.topic("dlq"), 3, DEADLINE);
    let codes: BTreeMap<_, _> = dead
        .iter()
        .map(|letter| (letter.key_text(), letter.header_text("biplane-error-code").expect("a code")))
        .collect();
    assert_eq!(
        codes,
        BTreeMap::from([("away", "http-302"), ("bomb", "body-too-large"), ("slow", "timeout")])
    );
    assert_eq!(cluster.wait_for_records(&bed.topic("output"), 1, DEADLINE)[0].key_text(), "fine");
    assert!(engine.resident_bytes() < 200 << 20, "{} bytes", engine.resident_bytes());
}

/// Fault 28, the templates: work without end is cut by its fuel, and so is what has no end of output.
#[test]
fn endless_templates_end_in_the_dlq_and_the_partition_goes_on() {
    let cluster = Cluster::shared();
    let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n\n[[STAGE.steps]]\n\
        name = \"loop\"\nwhen = \"value.kind == 'loop'\"\n\
        set.text = \"{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}\"\n\n\
        [[STAGE.steps]]\nname = \"flood\"\nwhen = \"value.kind == 'flood'\"\n\
        set.text = \"{% for a in range(90000) %}{{ value.pad }}{% endfor %}\"\n";
    let bed = Bed::new(&cluster, 1, stage);
    let pad = "x".repeat(1_000);
    let records =
        ["loop", "flood", "fine"].map(|kind| Message::json("k", &json!({"kind": kind, "pad": pad})));
    cluster.produce(&bed.topic("input"), &records);
    let _engine = bed.start(&cluster);
    let dead = cluster.wait_for_records(&bed.topic("dlq"), 2, DEADLINE);
    let codes: Vec<_> = dead.iter().filter_map(|letter| letter.header_text("biplane-error-code")).collect();
    assert_eq!(codes, ["fuel", "output-too-large"]);
    assert_eq!(cluster.wait_for_records(&bed.topic("output"), 1, DEADLINE)[0].value_json()["kind"], "fine");
}

/// Fault 29: series and log lines are bounded by the config, not by what the data says.
#[test]
fn many_keys_and_many_errors_add_no_series_and_few_log_lines() {
    let cluster = Cluster::shared();
    let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n\n[[STAGE.steps]]\n\
        when = \"value.number % 2 == 0\"\nfail.code = \"even\"\nfail.message = \"{{ value.number }}\"\n";
    let bed = Bed::new(&cluster, 1, stage);
    let mut engine = bed.start(&cluster);
    let send = |numbers: std::ops::Range<i64>| {
        let records: Vec<_> = numbers
            .map(|number| Message::json(format!("key-{number}"), &json!({"number": number})))
            .collect();
        cluster.produce(&bed.topic("input"), &records);
    };
    let series = |engine: &Engine| {
        let text = engine.get("/metrics").map(|answer| answer.body).unwrap_or_default();
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    send(0..200);
    wait_until("the first are done", DEADLINE, || bed.committed(&cluster) == 200);
    let before = series(&engine);
    send(200..20_000);
    wait_until("all are done", DEADLINE, || bed.committed(&cluster) == 20_000);
    assert_eq!(series(&engine), before);
    assert_eq!(cluster.count(&bed.topic("dlq")), 10_000);
    let lines = engine.log().lines().count();
    assert!(lines < 100, "{lines} lines of log for 10,000 errors");
    assert!(engine.runs());
}

/// Fault 5. Members come and go; whatever is revoked is not committed by the one that lost it, and each
/// key's first occurrences stay in order.
#[test]
fn members_that_join_and_leave_all_the_time_lose_nothing_and_keep_the_order() {
    const COUNT: i64 = 30_000;
    const KEYS: i64 = 40;
    let cluster = Cluster::shared();
    let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ncommit_interval = \"100ms\"\n";
    let bed = Bed::new(&cluster, 4, stage);
    let steady = bed.start(&cluster);
    for round in 0..5 {
        let numbers = round * COUNT / 5..(round + 1) * COUNT / 5;
        let records: Vec<_> = numbers
            .map(|number| Message::json(format!("key-{}", number % KEYS), &json!({"number": number})))
            .collect();
        let mut guest = bed.start(&cluster);
        cluster.produce(&bed.topic("input"), &records);
        wait_until("some of this round is out", DEADLINE, || {
            cluster.count(&bed.topic("output")) > round * COUNT / 5 + 500
        });
        if round % 2 == 0 {
            assert!(guest.terminate(Duration::from_secs(20)).success(), "{}", guest.log());
        } else {
            guest.kill();
        }
    }
    wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT);
    let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for record in cluster.read_all(&bed.topic("output")) {
        let number = record.value_json()["number"].as_i64().expect("a number");
        if seen.insert(number) {
            let before = newest.insert(number % KEYS, number);
            assert!(before.is_none_or(|before| before < number), "{number} came after {before:?}");
        }
    }
    assert_eq!(seen.len() as i64, COUNT, "{}", steady.log());
}

/// Fault 6. Work hangs in a step while the group changes. What goes to the other engine is abandoned here
/// and done there; what comes back in the same rebalance goes on where it stood and is asked for once.
#[test]
fn a_rebalance_abandons_what_is_lost_and_neither_loses_nor_repeats_what_comes_back() {
    static RELEASED: AtomicBool = AtomicBool::new(false);
    static ASKED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
    fn answer(path: &str, stream: &mut TcpStream) {
        *ASKED.lock().expect("counts").entry(path.to_owned()).or_default() += 1;
        let (_keep, wait) = std::sync::mpsc::channel::<()>();
        while !RELEASED.load(Ordering::Acquire) {
            let _ = wait.recv_timeout(Duration::from_millis(20));
        }
        reply(stream, "200 OK", "{}");
    }
    const PARTITIONS: i32 = 4;
    let cluster = Cluster::shared();
    let stub = Stub::start(answer);
    let stage = format!(
        "[http_clients.stub]\nbase_url = \"{}\"\ntimeout = \"80s\"\n\n[STAGE]\nfrom = \"input\"\nto = \"output\"\n\
         dlq = \"dead\"\n\n[[STAGE.steps]]\nhttp.client = \"stub\"\nhttp.path = \"/{{{{ value.partition }}}}\"\n",
        stub.url()
    );
    let bed = Bed::new(&cluster, PARTITIONS, &stage);
    let records: Vec<_> = (0..PARTITIONS)
        .map(|partition| Message::json("k", &json!({"partition": partition})).at(partition))
        .collect();
    cluster.produce(&bed.topic("input"), &records);
    let first = bed.start(&cluster);
    wait_until("each record hangs in its step", DEADLINE, || stub.asked() == PARTITIONS as usize);
    let second = bed.start(&cluster);
    // `range` leaves two of the four with the first; the second asks anew for the two it was given.
    wait_until("the second engine has taken over its share", DEADLINE, || {
        stub.asked() == PARTITIONS as usize + 2
    });
    RELEASED.store(true, Ordering::Release);
    let out = cluster.wait_for_records(&bed.topic("output"), PARTITIONS as usize, DEADLINE);
    wait_until("all is committed", DEADLINE, || bed.committed(&cluster) == i64::from(PARTITIONS));
    let partitions: BTreeSet<_> =
        out.iter().map(|record| record.value_json()["partition"].to_string()).collect();
    assert_eq!(partitions.len(), PARTITIONS as usize);
    assert_eq!(cluster.count(&bed.topic("output")), i64::from(PARTITIONS), "{}{}", first.log(), second.log());
    let mut asked: Vec<_> = ASKED.lock().expect("counts").values().copied().collect();
    asked.sort_unstable();
    assert_eq!(asked, [1, 1, 2, 2]);
}

/// Faults 10 and 11. Sends hang while records keep coming: memory stays within the window, a stop ends in
/// time, and what was given up is sent by the next engine.
#[test]
fn sends_that_hang_are_bounded_and_given_up_at_a_stop_without_loss() {
    const COUNT: i64 = 30_000;
    let broker = PrivateKafka::start();
    let cluster = broker.cluster();
    let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ndrain = \"1s\"\n\
        window = { records = 2000, bytes = \"4MiB\" }\n";
    let bed = Bed::new(&cluster, 2, stage);
    let pad = "x".repeat(2_000);
    let records: Vec<_> = (0..COUNT)
        .map(|number| Message::json(format!("key-{}", number % 20), &json!({"number": number, "pad": pad})))
        .collect();
    cluster.produce(&bed.topic("input"), &records);
    let mut engine = bed.start(&cluster);
    wait_until("some are out", DEADLINE, || cluster.count(&bed.topic("output")) > 0);
    broker.freeze();
    let ended = engine.terminate(Duration::from_secs(15));
    assert!(ended.success(), "{ended}: {}", engine.log());
    broker.thaw();
    let engine = bed.start(&cluster);
    wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT);
    let seen: BTreeSet<_> = cluster
        .read_all(&bed.topic("output"))
        .iter()
        .map(|record| record.value_json()["number"].as_i64().expect("a number"))
        .collect();
    assert_eq!(seen.len() as i64, COUNT);
    assert!(engine.resident_bytes() < 150 << 20, "{} bytes", engine.resident_bytes());
}
