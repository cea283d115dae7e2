//! What the client library panics on does not fill the log and does not break its lines.

use std::time::Duration;

use crate::support::{Cluster, ConfigRoot, Engine, Message, produce_with_header, unique};

#[test]
fn a_header_name_that_is_no_text_costs_its_value_and_one_line_of_log() {
    let (name, cluster) = (unique("panics"), Cluster::shared());
    let topic = |which: &str| format!("{name}.{which}");
    for which in ["in", "out"] {
        cluster.create_topic(&topic(which), 1, &[]);
    }
    let config = format!(
        "[topics.in]\ntopic = \"{name}.in\"\n[topics.out]\ntopic = \"{name}.out\"\n\
         [retries.drop]\non_exhausted = \"drop\"\n\
         [stages.s]\nfrom = \"in\"\nto = \"out\"\nretry = \"drop\"\nunmatched = \"drop\"\n\
         tombstones = \"drop\"\n[[stages.s.steps]]\nset.seen = true\n"
    );
    let root = ConfigRoot::new(&[("pipelines/a.toml", &config)]);
    for _ in 0..20 {
        produce_with_header(cluster.brokers(), &topic("in"), b"{}", (b"bad\xff\xfe", b"lost"));
    }
    cluster.produce(&topic("in"), &[Message::new("k", "{}").header("good", "kept")]);
    let variables = [("BIPLANE_NAMESPACE", &*name), ("BIPLANE_LOG_FORMAT", "json")];
    let mut engine = Engine::start(&root, cluster.brokers(), &variables);
    let out = cluster.wait_for_records(&topic("out"), 21, Duration::from_secs(30));
    assert!(engine.terminate(Duration::from_secs(20)).success());

    assert!(out[..20].iter().all(|message| message.headers.contains(&("\u{fffd}".to_owned(), None))));
    assert_eq!(out[20].header_text("good"), Some("kept"));
    let log = engine.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let panicked =
        lines.iter().filter(|line| line["message"].as_str().is_some_and(|m| m.starts_with("panicked")));
    assert!((1..=3).contains(&panicked.count()), "{log}");
}
