//! Bad bytes end as dead letters that are the original, byte for byte, and the partition goes on.

use std::time::Duration;

use serde_json::json;

use crate::support::{Cluster, ConfigRoot, Engine, Message, unique};

const PIPELINE: &str = r#"
[topics.input]
topic             = "PREFIX.input"
partitions        = 1
max_message_bytes = "1MiB"

[topics.output]
topic      = "PREFIX.output"
partitions = 1

[dlqs.poison]
topic   = "PREFIX.dlq"
headers = ["biplane", "connect", "streams", "spring"]

[stages.relay]
from = "input"
to   = "output"
dlq  = "poison"

[[stages.relay.steps]]
map.id = "{{ value.id }}"
"#;

fn poisons() -> Vec<(&'static str, Message)> {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = format!("{{\"id\": \"{}", "x".repeat(1_000_000));
    let mut bare = Message::new("", "{");
    bare.key = None;
    let mut null_header =
        Message::new("null-header", "nope").header("kept", "first").header("kept", [0xff, 0]);
    null_header.headers.push(("empty".to_owned(), None));
    vec![
        ("json", Message::new([0xff, 0xfe, 0x00], [0xff, 0xfe, 0x00, 0x01]).header("binary", [0x80, 0x00])),
        ("json", Message::new("cut", "{\"id\": 1")),
        ("json", Message::new("deep", deep)),
        ("json", Message::new("nul", "{\"id\": 1}\0")),
        ("json", Message::new("huge", huge)),
        ("json", Message::new("empty", "")),
        ("json", bare),
        ("json", null_header),
        ("tombstone", Message::tombstone("gone").header("why", "deleted")),
        ("undefined", Message::new("no-id", "{}")),
    ]
}

/// Without `dead-letter` the bad records are gone: finished, and written nowhere.
#[test]
fn poison_reaches_the_dlq_byte_for_byte_and_the_partition_goes_on() {
    let poisons = poisons();
    let dead = dead_letters("");
    assert_eq!(dead.len(), poisons.len());
    for ((code, sent), letter) in poisons.iter().zip(&dead) {
        assert_eq!((&letter.key, &letter.value), (&sent.key, &sent.value), "{code}");
        assert_eq!(letter.header_text("biplane-error-code"), Some(*code), "{letter:?}");
        assert_eq!(&letter.headers[..sent.headers.len()], &sent.headers[..]);
        for name in REASONS {
            assert!(letter.header_text(name).is_some(), "{name} is missing in {:?}", letter.headers);
        }
    }
    #[cfg(debug_assertions)]
    assert_eq!(dead_letters("dead-letter"), []);
}

/// Puts the poisons and two good records through a stage whose engine does without a guard. Returns
/// the dead letters in the order of their offsets.
fn dead_letters(without: &str) -> Vec<Message> {
    let (cluster, prefix) = (Cluster::shared(), unique("poison"));
    let root = ConfigRoot::new(&[("pipelines/relay.toml", &PIPELINE.replace("PREFIX", &prefix))]);
    let variables = [("BIPLANE_NAMESPACE", prefix.as_str()), ("BIPLANE_TEST_WITHOUT", without)];
    for (topic, bytes) in [("input", "1048576"), ("output", "1048576"), ("dlq", "1114112")] {
        cluster.create_topic(&format!("{prefix}.{topic}"), 1, &[("max.message.bytes", bytes)]);
    }

    let mut records: Vec<_> = poisons().into_iter().map(|(_, record)| record).collect();
    // A repeated key is no poison: the last of them counts.
    records.push(Message::new("twice", "{\"id\": 1, \"id\": 2}"));
    records.push(Message::json("good", &json!({"id": "last"})).header("trace", "t1"));
    cluster.produce(&format!("{prefix}.input"), &records);
    let mut engine = Engine::start(&root, cluster.brokers(), &variables);

    let wait = Duration::from_secs(40);
    let passed = cluster.wait_for_records(&format!("{prefix}.output"), 2, wait);
    let values: Vec<_> = passed.iter().map(Message::value_json).collect();
    assert_eq!(values, [json!({"id": 2}), json!({"id": "last"})]);
    assert_eq!(passed[1].header_text("trace"), Some("t1"));

    assert!(engine.runs(), "{}", engine.log());
    // A stop finishes what is in flight, the dead letters among it.
    assert!(engine.terminate(Duration::from_secs(20)).success(), "{}", engine.log());
    let mut dead = cluster.read_all(&format!("{prefix}.dlq"));
    dead.sort_by_key(|letter| {
        letter.header_text("biplane-offset").and_then(|offset| offset.parse::<i64>().ok())
    });
    dead
}

/// What a dead letter says, whatever it died of.
const REASONS: [&str; 16] = [
    "biplane-error-class",
    "biplane-error-message",
    "biplane-stage",
    "biplane-step",
    "biplane-attempts",
    "biplane-first-failed-at",
    "biplane-failed-at",
    "biplane-topic",
    "biplane-partition",
    "biplane-offset",
    "biplane-timestamp",
    "biplane-fingerprint",
    "biplane-generation",
    "biplane-replays",
    "__connect.errors.topic",
    "kafka_dlt-exception-message",
];
