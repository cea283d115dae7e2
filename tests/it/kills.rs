//! Killed and frozen brokers, clean ends: nothing is lost, the order of a key holds. Kills of the engine are
//! in `kill_run`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;

use crate::support::{Cluster, ConfigRoot, Engine, Message, PrivateKafka, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(120);
const KEYS: usize = 50;

const PIPELINE: &str = r#"
[topics.input]
topic      = "PREFIX.input"
partitions = 3

[topics.output]
topic      = "PREFIX.output"
partitions = 3

[dlqs.dead]
topic = "PREFIX.dlq"

[stages.relay]
from            = "input"
to              = "output"
dlq             = "dead"
commit_interval = "200ms"

[[stages.relay.steps]]
name         = "doomed"
when         = "value.number % 97 == 13"
fail.code    = "doomed"
fail.message = "{{ value.number }}"

[[stages.relay.steps]]
map.number = "{{ value.number }}"
"#;

struct Relay {
    prefix: String,
    root: ConfigRoot,
}

impl Relay {
    fn new(cluster: &Cluster) -> Self {
        let prefix = unique("relay");
        let root = ConfigRoot::new(&[("pipelines/relay.toml", &PIPELINE.replace("PREFIX", &prefix))]);
        let relay = Self { prefix, root };
        for (name, partitions) in [("input", 3), ("output", 3), ("dlq", 1)] {
            cluster.create_topic(&relay.topic(name), partitions, &[]);
        }
        relay
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn start(&self, cluster: &Cluster) -> Engine {
        self.start_without(cluster, "")
    }

    /// An engine that does without one guard.
    fn start_without(&self, cluster: &Cluster, guard: &str) -> Engine {
        let variables = [("BIPLANE_NAMESPACE", self.prefix.as_str()), ("BIPLANE_TEST_WITHOUT", guard)];
        Engine::start(&self.root, cluster.brokers(), &variables)
    }

    /// With a name of its own: the next of that name need not wait for a killed member's session.
    fn start_named(&self, cluster: &Cluster) -> Engine {
        let variables = [("BIPLANE_NAMESPACE", self.prefix.as_str()), ("BIPLANE_ENGINE_ID", "one")];
        Engine::start(&self.root, cluster.brokers(), &variables)
    }

    fn produce(&self, cluster: &Cluster, numbers: std::ops::Range<usize>) {
        let records: Vec<_> =
            numbers.map(|number| Message::json(key_of(number), &json!({"number": number}))).collect();
        cluster.produce(&self.topic("input"), &records);
    }

    fn wait_until_finished(&self, cluster: &Cluster) {
        wait_until("all is committed", DEADLINE, || self.is_finished(cluster));
    }

    fn is_finished(&self, cluster: &Cluster) -> bool {
        let input = self.topic("input");
        let committed = cluster.committed(&format!("{}.relay", self.prefix), &input);
        committed.values().map(|(offset, _)| offset).sum::<i64>() >= cluster.count(&input)
    }

    /// Fails unless each of the numbers came out at least once, first occurrences in order by key.
    /// Returns how many came again.
    fn verify(&self, cluster: &Cluster, count: usize) -> usize {
        let passed = numbers(&cluster.read_all(&self.topic("output")));
        let dead = numbers(&cluster.read_all(&self.topic("dlq")));
        let doomed = |number: &usize| number % 97 == 13;
        let seen: BTreeSet<_> = passed.iter().chain(&dead).copied().collect();
        let missing: Vec<_> = (0..count).filter(|number| !seen.contains(number)).collect();
        assert!(missing.is_empty(), "{} are lost: {:?}…", missing.len(), &missing[..missing.len().min(10)]);
        assert!(dead.iter().all(doomed) && !passed.iter().any(doomed));
        let mut newest: BTreeMap<String, usize> = BTreeMap::new();
        let mut known = BTreeSet::new();
        for number in passed.iter().copied().filter(|number| known.insert(*number)) {
            let before = newest.insert(key_of(number), number);
            assert!(before.is_none_or(|before| before < number), "{number} came after {before:?}");
        }
        passed.len() + dead.len() - seen.len()
    }
}

fn key_of(number: usize) -> String {
    format!("key-{}", number % KEYS)
}

fn numbers(messages: &[Message]) -> Vec<usize> {
    messages
        .iter()
        .map(|message| message.value_json()["number"].as_u64().expect("a number") as usize)
        .collect()
}

#[test]
fn after_sigterm_all_that_was_written_is_committed_and_nothing_repeats() {
    let cluster = Cluster::shared();
    let relay = Relay::new(&cluster);
    const COUNT: usize = 20_000;
    relay.produce(&cluster, 0..COUNT);
    for _ in 0..3 {
        let before = cluster.count(&relay.topic("output"));
        let mut engine = relay.start(&cluster);
        wait_until("more is out", DEADLINE, || {
            cluster.count(&relay.topic("output")) > before || before as usize > COUNT * 9 / 10
        });
        let ended = engine.terminate(Duration::from_secs(20));
        assert!(ended.success(), "{ended}: {}", engine.log());
    }
    let _engine = relay.start(&cluster);
    relay.wait_until_finished(&cluster);
    assert_eq!(relay.verify(&cluster, COUNT), 0);
}

/// Without `ride-out` the stage halts at the first connection that breaks.
#[test]
fn a_killed_broker_comes_back_and_the_same_engine_goes_on_without_loss() {
    const EACH: usize = 3_000;
    /// How many records came again; `None` where the engine gave up.
    fn check(broker: &mut PrivateKafka, kills: usize, without: &str) -> Option<usize> {
        let cluster = broker.cluster();
        let relay = Relay::new(&cluster);
        let mut engine = relay.start_without(&cluster, without);
        for round in 0..kills {
            relay.produce(&cluster, round * EACH..(round + 1) * EACH);
            broker.kill();
            broker.restart();
        }
        relay.produce(&cluster, kills * EACH..(kills + 1) * EACH);
        let gave_up = |engine: &Engine| engine.log().contains("halted");
        wait_until("all is committed", DEADLINE, || relay.is_finished(&cluster) || gave_up(&engine));
        assert!(engine.runs(), "{}", engine.log());
        if gave_up(&engine) {
            return None;
        }
        let repeats = relay.verify(&cluster, (kills + 1) * EACH);
        engine.wait_ready();
        assert!(engine.terminate(Duration::from_secs(20)).success(), "{}", engine.log());
        Some(repeats)
    }
    let mut broker = PrivateKafka::start();
    let repeats = check(&mut broker, 2, "");
    // A kill repeats at most what its round had finished or in flight.
    assert!(repeats.is_some_and(|repeats| repeats <= 2 * EACH), "{repeats:?} repeats");
    #[cfg(debug_assertions)]
    assert_eq!(check(&mut broker, 1, "ride-out"), None);
}

#[test]
fn a_frozen_broker_makes_the_engine_unready_but_alive_until_it_thaws() {
    let broker = PrivateKafka::start();
    let cluster = broker.cluster();
    let relay = Relay::new(&cluster);
    relay.produce(&cluster, 0..500);
    let mut engine = relay.start(&cluster);
    relay.wait_until_finished(&cluster);
    broker.freeze();
    wait_until("the engine is not ready", DEADLINE, || {
        engine.get("/ready").is_some_and(|answer| answer.status == 503)
    });
    assert_eq!(engine.get("/live").map(|answer| answer.status), Some(200));
    broker.thaw();
    engine.wait_ready();
    relay.produce(&cluster, 500..1_000);
    relay.wait_until_finished(&cluster);
    relay.verify(&cluster, 1_000);
    assert!(engine.runs(), "{}", engine.log());
}

/// The guard is the replaced consumer: without it the stage halts at the first fence.
#[test]
fn an_engine_whose_static_name_was_taken_for_a_moment_goes_on() {
    let cluster = Cluster::shared();
    let relay = Relay::new(&cluster);
    let engine = relay.start_named(&cluster);
    relay.produce(&cluster, 0..2_000);
    wait_until("something is out", DEADLINE, || cluster.count(&relay.topic("output")) > 0);
    let mut thief = cluster.config();
    thief.set("group.id", format!("{}.relay", relay.prefix)).set("group.instance.id", "one");
    let thief: BaseConsumer = thief.create().expect("a consumer");
    thief.subscribe(&[&relay.topic("input")]).expect("subscribed");
    wait_until("the engine's member is fenced", DEADLINE, || {
        let _ = thief.poll(Duration::from_millis(10));
        engine.log().contains("is replaced")
    });
    drop(thief);
    relay.produce(&cluster, 2_000..4_000);
    relay.wait_until_finished(&cluster);
    relay.verify(&cluster, 4_000);
}
