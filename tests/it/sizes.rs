//! Topics that take less than a usual batch, and whose files do not say so.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{Cluster, ConfigRoot, Engine, Message, brokers, unique};

/// 400 records of 1 KB for a topic that takes 20 KB; `large` is the only one that does not fit.
#[test]
fn an_external_topic_that_takes_little_loses_only_what_is_too_large() {
    let (name, cluster) = (unique("sizes"), Cluster::shared());
    let topic = |which: &str| format!("{name}.{which}");
    cluster.create_topic(&topic("in"), 2, &[]);
    cluster.create_topic(&topic("out"), 1, &[("max.message.bytes", "20000")]);
    cluster.create_topic(&topic("dead"), 1, &[]);
    let config = format!(
        "[topics.in]\ntopic = \"{name}.in\"\nexternal = true\n\
         [topics.out]\ntopic = \"{name}.out\"\nexternal = true\n\
         [dlqs.d]\ntopic = \"{name}.dead\"\n\
         [stages.s]\nfrom = \"in\"\nto = \"out\"\ndlq = \"d\"\n\
         [[stages.s.steps]]\nset.seen = true\n"
    );
    let root = ConfigRoot::new(&[("pipelines/a.toml", &config)]);
    let record = |key: &str, bytes: usize| {
        Message::json(key, &serde_json::json!({ "key": key, "text": "x".repeat(bytes) }))
    };
    let mut sent: Vec<_> = (0..400).map(|n| record(&format!("k{n}"), 1_000)).collect();
    sent.insert(200, record("large", 30_000));
    cluster.produce(&topic("in"), &sent);

    let mut engine = Engine::start(&root, &brokers(), &[("BIPLANE_NAMESPACE", &name)]);
    let dead = cluster.wait_for_records(&topic("dead"), 1, Duration::from_secs(30));
    let out = cluster.wait_for_records(&topic("out"), 400, Duration::from_secs(30));
    assert!(engine.terminate(Duration::from_secs(20)).success());
    let keys: BTreeSet<_> = out.iter().map(|message| message.key_text().to_owned()).collect();
    assert_eq!((keys.len(), keys.contains("large")), (400, false));
    assert_eq!(cluster.count(&topic("dead")), 1, "{dead:?}");
    assert_eq!(dead[0].key_text(), "large");
    assert_eq!(dead[0].header_text("biplane-error-code"), Some("record-too-large"));
}
