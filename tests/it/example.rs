//! The shipped example on a real Kafka: each sample record ends where its reader would expect it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Cluster, ConfigRoot, Engine, Message, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

/// The samples in the file's order, without those whose fate is left to chance.
fn samples() -> Vec<Message> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/raw.connector.events.jsonl");
    let text = std::fs::read_to_string(file).expect("the samples");
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"))
        .filter(|sample| sample["value"]["simulate"] != "hiccup")
        .map(|sample| {
            let key = sample["key"].as_str().expect("a key");
            let message = match (&sample["raw"], &sample["value"]) {
                (Value::String(raw), _) => Message::new(key, raw),
                (_, Value::Null) => Message::tombstone(key),
                (_, value) => Message::json(key, value),
            };
            sample["headers"].as_object().into_iter().flatten().fold(message, |message, (name, value)| {
                message.header(name, value.as_str().expect("a header's text"))
            })
        })
        .collect()
}

fn count_by<'a, K: Ord>(messages: &'a [Message], key: impl Fn(&'a Message) -> K) -> BTreeMap<K, usize> {
    messages.iter().fold(BTreeMap::new(), |mut counts, message| {
        *counts.entry(key(message)).or_default() += 1;
        counts
    })
}

#[test]
fn every_sample_lands_as_graph_changes_or_with_a_reason() {
    let (cluster, prefix) = (Cluster::shared(), unique("example"));
    let root = ConfigRoot::example(&prefix);
    let variables = [("BIPLANE_NAMESPACE", prefix.as_str())];
    cluster.create_example_topics(&prefix);

    let topic = |name: &str| format!("{prefix}.{name}");
    let samples = samples();
    cluster.produce(&topic("raw.connector.events"), &samples);
    let mut engine = Engine::start(&root, cluster.brokers(), &variables);
    for (stage, input) in [
        ("normalize", "raw.connector.events"),
        ("enrich", "normalized.records"),
        ("extract", "intelligence.pipeline.input"),
    ] {
        wait_until(&format!("{stage} has finished {input}"), DEADLINE, || {
            let committed = cluster.committed(&format!("{prefix}.{stage}"), &topic(input));
            committed.values().map(|(offset, _)| offset).sum::<i64>() >= cluster.count(&topic(input))
        });
    }
    assert!(engine.terminate(Duration::from_secs(20)).success(), "{}", engine.log());

    let dead = cluster.read_all(&topic("ingest.dlq"));
    let codes = count_by(&dead, |letter| letter.header_text("biplane-error-code").unwrap_or("none"));
    let expected = [
        ("expression", 1),
        ("json", 3),
        ("schema", 2),
        ("source-down", 1),
        ("tombstone", 1),
        ("undefined", 1),
        ("unmatched", 1),
    ];
    assert_eq!(codes, BTreeMap::from(expected), "{dead:#?}");
    let outage = dead.iter().find(|letter| letter.header_text("biplane-error-code") == Some("source-down"));
    let outage = outage.expect("the outage");
    assert_eq!(outage.header_text("biplane-attempts"), Some("5"));
    assert_eq!(outage.header_text("biplane-error-class"), Some("transient"));
    assert_eq!(outage.header_text("biplane-step"), Some("simulated-outage"));
    for letter in &dead {
        assert!(samples.iter().any(|sample| sample.key == letter.key && sample.value == letter.value));
    }

    // Every sample was normalised, dead-lettered or is one of the two heartbeats.
    let normalised = cluster.read_all(&topic("normalized.records"));
    assert_eq!(normalised.len() + dead.len() + 2, samples.len());
    // One tenant is unknown, two records are of a suspended account.
    let unknown = cluster.read_all(&topic("intelligence.dlq"));
    assert_eq!(unknown.len(), 1, "{unknown:#?}");
    assert_eq!(unknown[0].header_text("biplane-step"), Some("account"));
    assert_eq!(cluster.count(&topic("intelligence.pipeline.input")), normalised.len() as i64 - 3);

    let changes: Vec<Value> =
        cluster.read_all(&topic("graph.changes")).iter().map(Message::value_json).collect();
    let labelled = |label: &str| changes.iter().filter(|change| change["label"] == label).count();
    assert_eq!(labelled("record"), normalised.len() - 3);
    assert_eq!(labelled("written-by"), normalised.len() - 3);
    assert!(changes.iter().any(|c| c["label"] == "sum" && c["properties"]["name"] == "EUR 1.250.000"));
    assert!(changes.iter().any(|c| c["label"] == "date" && c["properties"]["name"] == "2026-02-15"));
    let promise = "I will send the draft contract on Monday";
    assert!(changes.iter().any(|c| c["label"] == "commitment" && c["properties"]["name"] == promise));
}

#[test]
fn headers_and_the_order_of_a_thread_travel_through_a_stage() {
    let sent: Vec<_> =
        samples().into_iter().filter(|sample| sample.key_text() == "acme/lisbon-site").collect();
    assert!(sent.len() > 1 && sent.iter().all(|sample| !sample.headers.is_empty()));
    let (cluster, prefix) = (Cluster::shared(), unique("thread"));
    let root = ConfigRoot::example(&prefix);
    let variables = [("BIPLANE_NAMESPACE", prefix.as_str())];
    cluster.create_example_topics(&prefix);
    cluster.produce(&format!("{prefix}.raw.connector.events"), &sent);
    let _engine = Engine::start(&root, cluster.brokers(), &variables);
    let read = cluster.wait_for_records(&format!("{prefix}.normalized.records"), sent.len(), DEADLINE);
    assert_eq!(read.len(), sent.len());
    for (read, sent) in read.iter().zip(&sent) {
        assert_eq!(read.key_text(), "acme/lisbon-site");
        assert_eq!(read.value_json()["source"]["id"], sent.value_json()["payload"]["message_id"]);
        assert_eq!(read.header_text("trace-id"), sent.header_text("trace-id"));
        assert_eq!(read.timestamp, sent.timestamp.or(read.timestamp));
    }
}
