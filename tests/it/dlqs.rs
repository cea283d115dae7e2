//! `biplane dlqs list|show` on a real Kafka, with markers where records might be expected.

use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::{Cluster, ConfigRoot, Engine, brokers, unique};

/// Writes `values` in a transaction, whose end is an offset without a record.
fn produce_in_transaction(cluster: &Cluster, topic: &str, values: &[String]) {
    let mut config = cluster.config();
    let producer: BaseProducer = config.set("transactional.id", unique("dlqs")).create().expect("a producer");
    let limit = Duration::from_secs(20);
    producer.init_transactions(limit).expect("an id");
    producer.begin_transaction().expect("a transaction");
    for value in values {
        let record = BaseRecord::<(), String>::to(topic).partition(0).payload(value);
        producer.send(record).expect("there is room");
    }
    producer.commit_transaction(limit).expect("committed");
}

#[test]
fn markers_at_the_end_are_neither_waited_for_nor_taken_for_missing_records() {
    let (name, cluster) = (unique("dlqs"), Cluster::shared());
    cluster.create_topic(&name, 2, &[]);
    // More markers than are looked over at first.
    for round in 0..20 {
        let values = if round == 0 { vec!["first".to_owned(), "last".to_owned()] } else { Vec::new() };
        produce_in_transaction(&cluster, &name, &values);
    }
    let config = format!(
        "[topics.in]\n[dlqs.d]\ntopic = \"{name}\"\n\
         [stages.s]\nfrom = \"in\"\ndlq = \"d\"\n[[stages.s.steps]]\nfilter = \"value.ok\"\n"
    );
    let root = ConfigRoot::new(&[("pipelines/a.toml", &config)]);
    let run = |arguments: &[&str]| -> serde_json::Value {
        let arguments = [arguments, &["--format", "json"]].concat();
        let output = Engine::command(root.path(), &arguments, &[("BIPLANE_KAFKA_BROKERS", &brokers())]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{errors}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
    };
    let started = Instant::now();
    assert_eq!(run(&["dlqs", "list"])[0]["count"], 2);
    let shown = run(&["dlqs", "show", "d"]);
    assert_eq!((&shown["offset"], &shown["value"]["text"]), (&1.into(), &"last".into()), "{shown}");
    let shown = run(&["dlqs", "show", "d", "--partition", "0", "--offset", "0"]);
    assert_eq!(shown["value"]["text"], "first");
    assert!(started.elapsed() < Duration::from_secs(8), "three commands took {:?}", started.elapsed());
}
