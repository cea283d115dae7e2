//! Exactly-once, Kafka to Kafka: readers of committed records see each record once, whatever happens.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, numbers};
use crate::support::commands::ask;
use crate::support::gate::{Gate, Kind};
use crate::support::{Cluster, Message, PrivateKafka, Random, holds_within, wait_until};

const STAGE: &str = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ndelivery = \"exactly-once\"\n\n\
     [[STAGE.steps]]\nwhen = \"value.number % 97 == 13\"\nfail.code = \"doomed\"\nfail.message = \"no\"\n";

fn records(numbers: std::ops::Range<i64>) -> Vec<Message> {
    numbers.map(|number| Message::json(format!("key-{}", number % 20), &json!({"number": number}))).collect()
}

/// How many of the first `count` numbers readers never see, and how many they see again.
fn seen(cluster: &Cluster, bed: &Bed, count: i64) -> (usize, usize) {
    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    for topic in ["output", "dlq"] {
        for number in numbers(&cluster.read_all(&bed.topic(topic))) {
            *times.entry(number).or_default() += 1;
        }
    }
    let missing = (0..count).filter(|number| !times.contains_key(number)).count();
    (missing, times.values().map(|times| times - 1).sum())
}

#[test]
fn an_engine_that_is_killed_shows_readers_each_record_once() {
    const COUNT: i64 = 20_000;
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 4, STAGE, INTACT);
    cluster.produce(&bed.topic("input"), &records(0..COUNT));
    for life in 1..4 {
        let mut engine = bed.start_named(cluster.brokers());
        wait_until("some are out", DEADLINE, || cluster.count(&bed.topic("output")) >= COUNT * life / 5);
        engine.kill();
    }
    let _engine = bed.start_named(cluster.brokers());
    wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT);
    assert_eq!(seen(&cluster, &bed, COUNT), (0, 0));
}

/// Of two engines with one id the older stops for good, and readers see each record once. Without
/// `fence` it takes the id back.
#[test]
fn a_stage_whose_transactional_id_another_engine_takes_stops_for_good() {
    const COUNT: i64 = 2_000;
    /// Whether the older one stopped, and what readers saw.
    fn check(without: &'static str) -> (bool, (usize, usize)) {
        let cluster = Cluster::shared();
        let bed = Bed::new(&cluster, 4, STAGE, without);
        let older = bed.start_named(cluster.brokers());
        cluster.produce(&bed.topic("input"), &records(0..COUNT));
        wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT);
        let _newer = bed.start_named(cluster.brokers());
        let halted = || older.log().contains("another engine writes under the transactional id");
        let mut sent = COUNT;
        let stopped = holds_within(Duration::from_secs(if without.is_empty() { 60 } else { 5 }), || {
            cluster.produce(&bed.topic("input"), &records(sent..sent + 100));
            sent += 100;
            halted()
        });
        if stopped {
            wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= sent);
        }
        (stopped, if stopped { seen(&cluster, &bed, sent) } else { (0, 0) })
    }
    assert_eq!(check(INTACT), (true, (0, 0)));
    #[cfg(debug_assertions)]
    assert!(!check("fence").0);
}

/// The broker commits, and its answer never comes. Without `read-anew` the epoch is taken for aborted and
/// done twice.
#[test]
fn an_epoch_whose_commit_was_not_answered_is_looked_up_and_not_done_twice() {
    const COUNT: i64 = 2_000;
    fn check(without: &'static str) -> (usize, usize) {
        let broker = PrivateKafka::start();
        let cluster = broker.cluster();
        let gate = Gate::before(&cluster);
        let bed = Bed::new(&cluster, 1, STAGE, without);
        let engine = bed.start_named(&gate.brokers());
        cluster.produce(&bed.topic("input"), &records(0..COUNT));
        wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT);
        gate.hold_answers(Kind::EndTransaction);
        cluster.produce(&bed.topic("input"), &records(COUNT..COUNT * 2));
        wait_until("an answer is held back", DEADLINE, || gate.held() > 0);
        // The engine gives up waiting; what was held back comes to nobody.
        wait_until("the broker has committed", DEADLINE, || bed.committed(&cluster) > COUNT);
        let renewed = || engine.log().contains("commit a transaction");
        wait_until("the engine gives up waiting", DEADLINE, renewed);
        gate.cut();
        gate.open();
        wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT * 2);
        // What is done twice comes before what is new.
        cluster.produce(&bed.topic("input"), &records(COUNT * 2..COUNT * 2 + 100));
        wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT * 2 + 100);
        seen(&cluster, &bed, COUNT * 2 + 100)
    }
    assert_eq!(check(INTACT), (0, 0));
    #[cfg(debug_assertions)]
    assert_ne!(check("read-anew"), (0, 0));
}

/// Members come and go while records flow.
#[test]
fn engines_that_join_and_leave_show_readers_each_record_once() {
    const EACH: i64 = 4_000;
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 4, STAGE, INTACT);
    let _steady = bed.start_at(cluster.brokers(), &[("BIPLANE_ENGINE_ID", "steady")]);
    for round in 0..3 {
        let first = round * EACH * 2;
        cluster.produce(&bed.topic("input"), &records(first..first + EACH));
        let mut guest = bed.start_at(cluster.brokers(), &[("BIPLANE_ENGINE_ID", "guest")]);
        cluster.produce(&bed.topic("input"), &records(first + EACH..first + EACH * 2));
        if round == 1 {
            guest.kill();
        } else {
            assert!(guest.terminate(Duration::from_secs(20)).success(), "{}", guest.log());
        }
    }
    wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= EACH * 6);
    assert_eq!(seen(&cluster, &bed, EACH * 6), (0, 0));
}

/// Some outputs are larger than their topic takes, which spoils the transactions that they are in: each is
/// aborted, and all of it is done again. Without `rewind` what was aborted is lost.
#[test]
fn an_epoch_that_is_aborted_in_the_middle_is_done_again_and_seen_once() {
    const COUNT: i64 = 3_000;
    /// Missing and repeated, and whether anything was aborted.
    fn check(without: &'static str) -> ((usize, usize), bool) {
        let cluster = Cluster::shared();
        let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ndelivery = \"exactly-once\"\n\
                     order = \"key\"\n";
        let bed = Bed::without_topics(stage, without);
        cluster.create_topic(&bed.topic("input"), 2, &[]);
        cluster.create_topic(&bed.topic("output"), 2, &[("max.message.bytes", "20000")]);
        cluster.create_topic(&bed.topic("dlq"), 1, &[]);
        let record = |number: i64| {
            // What cannot be packed into less.
            let mut random = Random(number.unsigned_abs());
            let size = if number % 1_000 == 500 { 40_000 } else { 10 };
            let pad: String = (0..size).map(|_| char::from(b'!' + (random.uniform() * 60.0) as u8)).collect();
            Message::json(format!("key-{}", number % 20), &json!({"number": number, "pad": pad}))
        };
        cluster.produce(&bed.topic("input"), &(0..COUNT).map(record).collect::<Vec<_>>());
        let _engine = bed.start_named(cluster.brokers());
        let limit = if without == INTACT { DEADLINE } else { Duration::from_secs(6) };
        let done = holds_within(limit, || bed.committed(&cluster) >= COUNT);
        assert!(done || without != INTACT, "{}", bed.committed(&cluster));
        let found = seen(&cluster, &bed, COUNT);
        let dead = cluster.read_all(&bed.topic("dlq")).len();
        assert!(dead == 3 || without != INTACT, "{dead} dead letters");
        // Markers are two offsets a transaction at most; what was aborted is many more.
        let written = cluster.written(&bed.topic("output"));
        (found, written > COUNT + 50)
    }
    assert_eq!(check(INTACT), ((0, 0), true));
    #[cfg(debug_assertions)]
    assert!(check("rewind").0.0 > 0);
}

/// One record rests in its lane while those behind it are finished: their transactions say so beside the
/// offset. After a kill they are not done again; once that text is cleared, they are.
#[test]
fn what_transactions_say_beyond_their_offset_holds_after_a_kill() {
    let cluster = Cluster::shared();
    let stage = "[retries.slow]\nmax_attempts = 100\ndelays = [\"5m\"]\nin_place_up_to = \"unlimited\"\n\n\
                 [STAGE]\nfrom = \"input\"\nto = \"output\"\n\
                 dlq = \"dead\"\nretry = \"slow\"\ndelivery = \"exactly-once\"\n\n[[STAGE.steps]]\n\
                 when = \"value.number == 0\"\nfail.class = \"transient\"\nfail.code = \"later\"\nfail.message = \"no\"\n";
    let bed = Bed::new(&cluster, 1, stage, INTACT);
    // The first holds up no other.
    let produce = |numbers: std::ops::Range<i64>| {
        let record = |number: i64| Message::json(number.to_string(), &json!({ "number": number }));
        cluster.produce(&bed.topic("input"), &numbers.map(record).collect::<Vec<_>>());
    };
    produce(0..200);
    let mut engine = bed.start_named(cluster.brokers());
    let out = |numbers: std::ops::Range<i64>| {
        let all = numbers.count();
        wait_until("all but one are out", DEADLINE, || cluster.read_all(&bed.topic("output")).len() >= all);
    };
    out(1..200);
    engine.kill();
    assert_eq!(bed.committed(&cluster), 0, "the first is not finished");
    let mut engine = bed.start_named(cluster.brokers());
    produce(200..300);
    out(1..300);
    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
    assert_eq!(seen(&cluster, &bed, 300), (1, 0), "only the first is missing, and none came again");

    let mut engine = bed.start_named(cluster.brokers());
    let cleared = ask(&bed.root, &bed.prefix, &["offsets", "set", "bed", "--to-earliest", "--yes"]).well();
    assert_eq!(cleared["again"], 299, "{cleared}");
    out(1..599);
    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
    assert_eq!(seen(&cluster, &bed, 300), (1, 299));
}
