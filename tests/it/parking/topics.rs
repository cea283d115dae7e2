//! Parking topics that are not as they should be, and stages that change while records are parked.

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, faults};
use crate::support::{Cluster, Engine, Message, Random, wait_until};

fn parked(engine: &Engine) -> f64 {
    engine.metric("biplane_stage_parked_records", &["bed"])
}

fn pipeline(bed: &Bed) -> String {
    std::fs::read_to_string(bed.root.path().join("pipelines/bed.toml")).expect("the pipeline")
}

/// A record with its headers is larger than the parking topic takes: it waits in place, which is said, and
/// its key stays in order. What is smaller is parked.
#[test]
fn a_record_that_its_parking_topic_does_not_take_waits_in_place() {
    for delivery in ["at-least-once", "exactly-once"] {
        let cluster = Cluster::shared();
        let bed = Bed::new(&cluster, 1, "200ms", &format!("delivery = \"{delivery}\""), INTACT);
        cluster.create_topic(&bed.parking(), 1, &[("max.message.bytes", "5000")]);
        let engine = bed.start(&cluster);
        let mut random = Random(3);
        let pad: String = (0..9_000).map(|_| char::from(b'!' + (random.uniform() * 60.0) as u8)).collect();
        let record = |key: &str, path: &str, number: usize, pad: &str| {
            Message::json(key, &json!({"key": key, "path": path, "number": number, "pad": pad}))
        };
        cluster.produce(
            &bed.topic("input"),
            &[
                record("large", "bad-large", 0, &pad),
                record("small", "bad-small", 0, ""),
                record("large", "good", 1, ""),
                record("small", "good", 1, ""),
                record("well", "good", 0, ""),
            ],
        );
        wait_until("the other is out", DEADLINE, || bed.out(&cluster).contains_key("well"));
        wait_until("what is small is parked", DEADLINE, || parked(&engine) == 2.0);
        let asked = bed.stub.by_path().get("/bad-large").copied().unwrap_or_default();
        wait_until("the large one is tried again", DEADLINE, || bed.stub.by_path()["/bad-large"] > asked + 2);
        assert!(engine.log().contains("takes no records as large as its input's"), "{}", engine.log());
        assert!(!bed.is_done(&cluster), "it is not done on the input");
        bed.heal();
        wait_until("all is done", DEADLINE, || bed.is_done(&cluster) && bed.is_cleared(&cluster));
        let keys = ["large".to_owned(), "small".to_owned()];
        assert_eq!(faults(&bed.out(&cluster), &keys, 2), (0, 0), "{delivery}");
    }
}

/// The stage has another name while records are parked under the old one: they are tried, and what comes
/// behind them follows.
#[test]
fn a_stage_that_is_renamed_tries_what_it_parked_under_its_old_name() {
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 1, "300ms", "", INTACT);
    let mut engine = bed.start(&cluster);
    bed.produce(&cluster, &[("ill".to_owned(), "bad", 0), ("ill".to_owned(), "good", 1)]);
    wait_until("both are parked", DEADLINE, || parked(&engine) == 2.0 && bed.is_done(&cluster));
    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
    let renamed = pipeline(&bed).replace("[stages.bed]", "[stages.new]\nwas = \"bed\"");
    bed.root.write("pipelines/bed.toml", &renamed.replace("[[stages.bed.steps]]", "[[stages.new.steps]]"));
    let engine = bed.launch(&cluster, &[]);
    let group = format!("{}.new", bed.prefix);
    wait_until("they are known", DEADLINE, || engine.metric("biplane_stage_parked_records", &["new"]) == 2.0);
    bed.produce(&cluster, &[("ill".to_owned(), "good", 2), ("well".to_owned(), "good", 0)]);
    wait_until("another is out", DEADLINE, || bed.out(&cluster).contains_key("well"));
    let asked = bed.stub.asked();
    wait_until("it is tried again", DEADLINE, || bed.stub.asked() > asked + 1);
    assert!(!bed.out(&cluster).contains_key("ill"), "nothing overtakes it");
    bed.heal();
    wait_until("all are out", DEADLINE, || bed.out(&cluster).get("ill").is_some_and(|all| all.len() == 3));
    assert_eq!(bed.out(&cluster)["ill"], [0, 1, 2]);
    let parking = format!("{group}.parked.{}", bed.topic("input"));
    wait_until("nothing is parked", DEADLINE, || {
        let is_done = |topic: &str| {
            let committed = cluster.committed(&group, topic);
            let ends = cluster.end_offsets(topic);
            ends.iter().all(|(partition, end)| committed.get(partition).is_some_and(|(at, _)| at >= end))
        };
        is_done(&parking) && is_done(&bed.parking())
    });
}

/// Two inputs hold the same keys: each has its own parking topic and its own order, through a kill.
#[test]
fn records_of_several_inputs_are_parked_beside_each_other() {
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 1, "300ms", "", INTACT);
    let other = bed.topic("other");
    cluster.create_topic(&other, 1, &[]);
    let two = pipeline(&bed).replace("from = \"input\"", "from = [\"input\", \"other\"]");
    bed.root.write("pipelines/bed.toml", &format!("[topics.other]\ntopic = \"{other}\"\n\n{two}"));
    let mut engine = bed.start_named(&cluster);
    let beside = format!("{}.parked.{other}", bed.group());
    wait_until("the other is read", DEADLINE, || cluster.committed(&bed.group(), &beside).len() == 1);
    let write = |topic: &str, key: &str, path: &str, number: usize| {
        let value = json!({"key": format!("{key}-{topic}"), "path": path, "number": number});
        cluster.produce(topic, &[Message::json(key, &value)]);
    };
    let input = bed.topic("input");
    for topic in [&input, &other] {
        write(topic, "k", "bad", 0);
        write(topic, "k", "good", 1);
    }
    wait_until("all are parked", DEADLINE, || parked(&engine) == 4.0);
    engine.kill();
    let engine = bed.start_named(&cluster);
    for topic in [&input, &other] {
        write(topic, "k", "good", 2);
        write(topic, "well", "good", 0);
    }
    wait_until("others are out", DEADLINE, || cluster.count(&bed.topic("output")) == 2);
    wait_until("all are parked", DEADLINE, || parked(&engine) == 6.0);
    bed.heal();
    let keys = [format!("k-{input}"), format!("k-{other}")];
    wait_until("all are out", DEADLINE, || faults(&bed.out(&cluster), &keys, 3).1 == 0);
    assert_eq!(faults(&bed.out(&cluster), &keys, 3), (0, 0));
}

/// The parking topic is deleted while the stage runs, and nothing is parked. What has to wait does so in
/// place until there is another one, and nothing is lost or overtaken.
#[test]
fn a_parking_topic_that_is_deleted_is_made_again_and_nothing_is_lost() {
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 1, "300ms", "", INTACT);
    let refresh = [("BIPLANE_KAFKA_TOPIC_METADATA_REFRESH_INTERVAL_MS", "500")];
    let engine = bed.start_with(&cluster, &refresh);
    cluster.delete_topic(&bed.parking());
    bed.produce(&cluster, &[("ill".to_owned(), "bad", 0), ("ill".to_owned(), "good", 1)]);
    bed.produce(&cluster, &[("well".to_owned(), "good", 0)]);
    wait_until("others are out", DEADLINE, || bed.out(&cluster).contains_key("well"));
    wait_until("the topic is there again", DEADLINE, || cluster.has_topic(&bed.parking()));
    wait_until("they are parked there", DEADLINE, || parked(&engine) == 2.0 && bed.is_done(&cluster));
    bed.produce(&cluster, &[("ill".to_owned(), "good", 2)]);
    bed.heal();
    wait_until("all are out", DEADLINE, || bed.out(&cluster).get("ill").is_some_and(|all| all.len() == 3));
    assert_eq!(bed.out(&cluster)["ill"], [0, 1, 2]);
}
