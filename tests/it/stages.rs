//! `biplane stages show` on a real Kafka: with an engine and without one.

use std::time::Duration;

use crate::support::{Cluster, ConfigRoot, Engine, Message, brokers, unique, wait_until};

fn show(root: &ConfigRoot, namespace: &str, listen: &str) -> serde_json::Value {
    let variables = [
        ("BIPLANE_KAFKA_BROKERS", &*brokers()),
        ("BIPLANE_NAMESPACE", namespace),
        ("BIPLANE_LISTEN", listen),
    ];
    let output = Engine::command(root.path(), &["stages", "show", "s", "--format", "json"], &variables);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"))
}

#[test]
fn lag_is_known_without_an_engine_and_its_state_only_with_one() {
    let (name, cluster) = (unique("stages"), Cluster::shared());
    let config = format!(
        "[topics.in]\ntopic = \"{name}\"\npartitions = 2\n[dlqs.d]\ntopic = \"{name}.dlq\"\n\
         [stages.s]\nfrom = \"in\"\ndlq = \"d\"\n[[stages.s.steps]]\nfilter = \"value.ok\"\n"
    );
    let root = ConfigRoot::new(&[("pipelines/a.toml", &config)]);
    let variables = [("BIPLANE_KAFKA_BROKERS", &*brokers())];
    let applied = Engine::command(root.path(), &["topics", "apply", "--yes"], &variables);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));

    let records: Vec<_> = (0..6).map(|key| Message::new(key.to_string(), "{\"ok\":true}")).collect();
    cluster.produce(&name, &records);
    let mut engine = Engine::start(&root, &brokers(), &[("BIPLANE_NAMESPACE", &name)]);
    let address = engine.address().to_owned();
    wait_until("all is committed", Duration::from_secs(30), || {
        let shown = show(&root, &name, &address);
        shown["lag_records"] == 0 && shown["state"] == "running" && shown["counts"]["in"] == 6
    });
    assert!(engine.terminate(Duration::from_secs(20)).success());

    cluster.produce(&name, &records[..3]);
    let shown = show(&root, &name, &address);
    assert_eq!(shown["state"], serde_json::Value::Null, "nobody says: {shown}");
    assert_eq!(shown["lag_records"], 3, "{shown}");
    assert!(shown["lag_seconds"].as_f64().is_some_and(|seconds| seconds < 600.0), "{shown}");
    assert_eq!(shown["partitions"].as_array().map(Vec::len), Some(2), "{shown}");
}
