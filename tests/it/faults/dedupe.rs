//! Equal records: the first that is finished counts and the others are dropped, whatever happens to engines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, numbers};
use crate::support::commands::ask;
use crate::support::{Cluster, Message, wait_until};

const STAGE: &str = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n\
     dedupe = { key = \"value.id\", window = \"1h\" }\n";
/// Records of this number fail for good.
const FAIL: &str =
    "\n[[STAGE.steps]]\nwhen = \"value.number == 1\"\nfail.code = \"doomed\"\nfail.message = \"no\"\n";

/// The same static member again and again: a restart waits for no session.
const NAMED: [(&str, &str); 1] = [("BIPLANE_ENGINE_ID", "one")];

fn record(number: i64, id: &str) -> Message {
    Message::json(id, &json!({"number": number, "id": id}))
}

fn marks(bed: &Bed) -> String {
    format!("{}.bed.marks.{}", bed.prefix, bed.topic("input"))
}

/// Whether the topic is there and holds so many records, claims of owners included.
fn marked(cluster: &Cluster, bed: &Bed, count: i64) -> bool {
    cluster.has(&marks(bed)) && cluster.count(&marks(bed)) >= count
}

fn committed(cluster: &Cluster, bed: &Bed, count: i64) {
    wait_until("all is committed", DEADLINE, || bed.committed(cluster) == count);
}

fn config(bed: &Bed) -> String {
    std::fs::read_to_string(bed.root.path().join("pipelines/bed.toml")).expect("the config")
}

fn reconfigure(bed: &Bed, text: &str) {
    bed.root.write("pipelines/bed.toml", text);
}

/// A first life that writes the marks of these records and cannot write their outputs: that topic, `late`, is
/// made once the engine is killed.
fn killed_between_mark_and_output(cluster: &Cluster, bed: &Bed, records: &[Message]) {
    reconfigure(bed, &config(bed).replace(&bed.topic("output"), &bed.topic("late")));
    cluster.produce(&bed.topic("input"), records);
    let mut engine = bed.launch_at(cluster.brokers(), &NAMED);
    wait_until("a claim and all marks", DEADLINE, || marked(cluster, bed, 1 + records.len() as i64));
    engine.kill();
    assert_eq!(bed.committed(cluster), 0, "{}", engine.log());
    cluster.create_topic(&bed.topic("late"), 1, &[]);
}

/// Without `mark-origin` the records meet their own marks and are lost.
#[test]
fn an_engine_that_is_killed_between_a_records_mark_and_its_output_does_it_again() {
    fn check(without: &'static str) -> Vec<i64> {
        let cluster = Cluster::shared();
        let bed = Bed::new(&cluster, 1, STAGE, without);
        killed_between_mark_and_output(&cluster, &bed, &[record(1, "a"), record(2, "b")]);
        let _engine = bed.start_named(cluster.brokers());
        let input = bed.topic("input");
        cluster.produce(&input, &[record(3, "a"), record(4, "c"), record(5, "b")]);
        committed(&cluster, &bed, 5);
        numbers(&cluster.read_all(&bed.topic("late")))
    }
    assert_eq!(check(INTACT), [1, 2, 4]);
    #[cfg(debug_assertions)]
    assert_eq!(check("mark-origin"), [4]);
}

/// The mark is there, the output is not, and in its second life the record is given up: its equal must be
/// worked on, also by an engine that knows no more than the topic says. Without `take-back` it is dropped.
#[test]
fn a_record_that_is_given_up_takes_the_mark_of_an_earlier_life_back() {
    fn check(without: &'static str) -> Vec<i64> {
        let cluster = Cluster::shared();
        let bed = Bed::new(&cluster, 1, STAGE, without);
        killed_between_mark_and_output(&cluster, &bed, &[record(1, "a")]);
        let plain = config(&bed);
        reconfigure(&bed, &(plain.clone() + &FAIL.replace("STAGE", "stages.bed")));
        let mut engine = bed.start_named(cluster.brokers());
        committed(&cluster, &bed, 1);
        assert_eq!(cluster.count(&bed.topic("dlq")), 1, "{}", engine.log());
        engine.kill();
        reconfigure(&bed, &plain);
        cluster.produce(&bed.topic("input"), &[record(2, "a"), record(3, "b")]);
        let _engine = bed.start_named(cluster.brokers());
        committed(&cluster, &bed, 3);
        numbers(&cluster.read_all(&bed.topic("late")))
    }
    assert_eq!(check(INTACT), [2, 3]);
    #[cfg(debug_assertions)]
    assert_eq!(check("take-back"), [3]);
}

#[test]
fn the_window_outlives_engines_and_goes_by_the_records_own_time() {
    const HOUR: i64 = 3_600_000;
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 1, STAGE, INTACT);
    let input = bed.topic("input");
    let now = chrono::Utc::now().timestamp_millis();
    let at = |number, id, time| Message { timestamp: Some(time), ..record(number, id) };
    let mut engine = bed.start_named(cluster.brokers());
    cluster.produce(&input, &[at(1, "a", now - 3 * HOUR), at(2, "b", now - 3 * HOUR)]);
    committed(&cluster, &bed, 2);
    engine.kill();
    let behind = [at(3, "a", now - 2 * HOUR), at(4, "b", now - 2 * HOUR + 1), at(5, "b", now - HOUR)];
    cluster.produce(&input, &behind);
    let mut engine = bed.start_named(cluster.brokers());
    committed(&cluster, &bed, 5);
    let metric = |name: &str| engine.metric(name, &["stage=\"bed\""]);
    assert_eq!(metric("biplane_stage_duplicates_total"), 2.0);
    wait_until("the marks are counted", DEADLINE, || metric("biplane_stage_marks") == 1.0);
    assert!(engine.terminate(DEADLINE).success());
    let _engine = bed.start_named(cluster.brokers());
    cluster.produce(&input, &[at(6, "b", now - HOUR), at(7, "c", now)]);
    committed(&cluster, &bed, 7);
    assert_eq!(numbers(&cluster.read_all(&bed.topic("output"))), [1, 2, 4, 7]);
}

/// The offset is set back while the stage runs. What is read again meets no mark of what came behind it, which it
/// would without `marks-before`.
#[test]
fn records_that_are_read_again_on_purpose_are_no_duplicates_of_later_ones() {
    fn check(without: &'static str) -> Vec<i64> {
        const MINUTE: i64 = 60_000;
        let cluster = Cluster::shared();
        let bed = Bed::new(&cluster, 1, STAGE, without);
        let now = chrono::Utc::now().timestamp_millis();
        let at = |number, minutes| Message { timestamp: Some(now - minutes * MINUTE), ..record(number, "a") };
        let _engine = bed.start_named(cluster.brokers());
        // The second is a duplicate of the first, and the third of none.
        cluster.produce(&bed.topic("input"), &[at(1, 100), at(2, 50), at(3, 10)]);
        committed(&cluster, &bed, 3);
        ask(&bed.root, &bed.prefix, &["offsets", "set", "bed", "--to-offset", "1", "--yes"]).well();
        committed(&cluster, &bed, 3);
        numbers(&cluster.read_all(&bed.topic("output")))
    }
    assert_eq!(check(INTACT), [1, 3, 2]);
    #[cfg(debug_assertions)]
    assert_eq!(check("marks-before"), [1, 3, 3]);
}

/// The topic of marks is deleted under a running engine. It is made again with all marks in it, so that the next
/// engine knows them; without `marks-again` that one lets duplicates pass.
#[test]
fn marks_whose_topic_is_deleted_are_written_again() {
    fn check(delivery: &str, without: &'static str) -> Vec<i64> {
        let cluster = Cluster::shared();
        let stage = STAGE.replace("dlq =", &format!("delivery = \"{delivery}\"\ndlq ="));
        let bed = Bed::new(&cluster, 1, &stage, without);
        let mut engine = bed.start_named(cluster.brokers());
        cluster.produce(&bed.topic("input"), &[record(1, "a"), record(2, "b")]);
        committed(&cluster, &bed, 2);
        let metric = || engine.metric("biplane_stage_marks", &["stage=\"bed\""]);
        wait_until("a look at the topic", DEADLINE, || metric() == 2.0);
        cluster.delete_topic(&marks(&bed));
        // A claim and the marks.
        let least = if without == INTACT { 3 } else { 0 };
        wait_until("the topic is made again", DEADLINE, || marked(&cluster, &bed, least));
        assert_eq!(
            engine.log().contains("the marks are written again"),
            without == INTACT,
            "{}",
            engine.log()
        );
        engine.kill();
        cluster.produce(&bed.topic("input"), &[record(3, "a"), record(4, "c"), record(5, "b")]);
        let _engine = bed.start_named(cluster.brokers());
        committed(&cluster, &bed, 5);
        numbers(&cluster.read_all(&bed.topic("output")))
    }
    for delivery in ["at-least-once", "exactly-once"] {
        assert_eq!(check(delivery, INTACT), [1, 2, 4], "{delivery}");
    }
    #[cfg(debug_assertions)]
    assert_eq!(check("at-least-once", "marks-again"), [1, 2, 3, 4, 5]);
}

/// All that readers see of each id: which records of the input it comes from, and how often.
fn seen(cluster: &Cluster, bed: &Bed) -> BTreeMap<String, (BTreeSet<String>, usize)> {
    let mut seen: BTreeMap<String, (BTreeSet<String>, usize)> = BTreeMap::new();
    for message in cluster.read_all(&bed.topic("output")) {
        let id = message.value_json()["id"].as_str().expect("an id").to_owned();
        let (origins, times) = seen.entry(id).or_default();
        origins.insert(message.header_text("biplane-id").expect("an id header").to_owned());
        *times += 1;
    }
    seen
}

/// Each id three times, now and then: two at once, one much later.
fn stream(from: i64, count: i64) -> Vec<Message> {
    let ids = (from..from + count).flat_map(|id| [id, id, id - count / 2]);
    ids.enumerate().map(|(number, id)| record(number as i64, &format!("id-{id}"))).collect()
}

/// Engines that leave in peace repeat nothing; one that is killed repeats what was in flight, the same
/// records, and lets no other of theirs pass.
#[test]
fn engines_that_join_and_leave_let_no_equal_record_pass() {
    const EACH: i64 = 1_000;
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 4, STAGE, INTACT);
    let _steady = bed.start(&cluster);
    let mut sent = 0;
    for round in 0..4 {
        let mut guest = bed.launch_at(cluster.brokers(), &[]);
        let records = stream(round * EACH, EACH);
        let (first, second) = records.split_at(records.len() / 2);
        cluster.produce(&bed.topic("input"), first);
        guest.wait_ready();
        cluster.produce(&bed.topic("input"), second);
        sent += records.len() as i64;
        if round == 3 {
            guest.kill();
        } else {
            assert!(guest.terminate(Duration::from_secs(20)).success(), "{}", guest.log());
            committed(&cluster, &bed, sent);
            assert!(seen(&cluster, &bed).values().all(|(_, times)| *times == 1), "round {round}");
        }
    }
    committed(&cluster, &bed, sent);
    let seen = seen(&cluster, &bed);
    assert_eq!(seen.len() as i64, 4 * EACH + EACH / 2);
    assert!(seen.values().all(|(origins, _)| origins.len() == 1));
}

/// Marks are part of the transactions.
#[test]
fn with_exactly_once_readers_see_each_key_once_though_engines_are_killed() {
    const COUNT: i64 = 6_000;
    let cluster = Cluster::shared();
    let stage = STAGE.replace("dlq =", "delivery = \"exactly-once\"\ndlq =");
    let bed = Bed::new(&cluster, 4, &stage, INTACT);
    let records = stream(0, COUNT);
    cluster.produce(&bed.topic("input"), &records);
    for life in 1..4 {
        let mut engine = bed.start_named(cluster.brokers());
        wait_until("some are out", DEADLINE, || cluster.count(&bed.topic("output")) >= COUNT * life / 5);
        engine.kill();
    }
    let _engine = bed.start_named(cluster.brokers());
    wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= records.len() as i64);
    let seen = seen(&cluster, &bed);
    assert_eq!(seen.len() as i64, COUNT + COUNT / 2);
    assert!(seen.values().all(|(_, times)| *times == 1));
}
