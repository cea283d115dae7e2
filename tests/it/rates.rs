//! Rate limits: what is too fast waits, holds nobody else and loses nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Cluster, ConfigRoot, Engine, Message, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

/// An engine with one stage that hands on what it reads, as fast as `limit` lets it.
fn relay(cluster: &Cluster, limit: &str, records: &[Message]) -> (Engine, String, ConfigRoot) {
    let prefix = unique("rates");
    let pipeline = format!(
        "[topics.input]\ntopic = \"{prefix}.input\"\n\n[topics.output]\ntopic = \"{prefix}.output\"\n\n\
         [dlqs.dead]\ntopic = \"{prefix}.dlq\"\n\n\
         [stages.relay]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n{limit}\n"
    );
    let root = ConfigRoot::new(&[("pipelines/relay.toml", &pipeline)]);
    for name in ["input", "output", "dlq"] {
        cluster.create_topic(&format!("{prefix}.{name}"), 1, &[]);
    }
    cluster.produce(&format!("{prefix}.input"), records);
    let engine = Engine::start(&root, cluster.brokers(), &[("BIPLANE_NAMESPACE", &prefix)]);
    (engine, prefix, root)
}

fn record(key: &str, number: usize) -> Message {
    Message::json(key, &json!({ "number": number }))
}

#[test]
fn a_stage_takes_no_more_than_its_rate() {
    let cluster = Cluster::shared();
    // Enough for two hundred more, however late the first are seen.
    let records: Vec<_> = (0..500).map(|number| record(&number.to_string(), number)).collect();
    let (engine, prefix, _root) = relay(&cluster, "rate_limit = { rate = \"100/s\", burst = 10 }", &records);
    let output = format!("{prefix}.output");
    wait_until("the first", DEADLINE, || cluster.count(&output) > 0);
    let (began, before) = (Instant::now(), cluster.count(&output));
    wait_until(&format!("two hundred more than {before}"), DEADLINE, || {
        cluster.count(&output) >= before + 200
    });
    let (took, passed) = (began.elapsed().as_secs_f64(), cluster.count(&output) - before);
    // What was sent and not yet seen at the beginning, and the burst, are on top.
    assert!(passed as f64 <= took * 100.0 + 40.0, "{passed} in {took} s");
    assert!(took < 10.0, "{took} s for 200 at 100/s");
    cluster.wait_for_records(&output, 500, DEADLINE);
    assert!(engine.metric("biplane_stage_rate_limited_total", &["limit=\"stage\""]) > 0.0);
}

/// One key has many records, the others have one each; some have none of what the limit goes by.
#[test]
fn a_key_that_is_too_fast_holds_no_other_and_stays_in_order() {
    let cluster = Cluster::shared();
    let mut records: Vec<_> = (0..30).map(|number| record("slow", number)).collect();
    records.extend((0..200).map(|number| record(&format!("k{number}"), number)));
    records.push(Message::tombstone("slow"));
    records.push(Message::new("bad", "{"));
    let limit = "tombstones = \"forward\"\n\
                 rate_limit.per_key = { key = \"key if value.number >= 0 else none\", rate = \"10/s\", burst = 1, scope = \"engine\" }";
    let (engine, prefix, _root) = relay(&cluster, limit, &records);
    let output = format!("{prefix}.output");
    let mut slow_then = 0;
    wait_until("the others", DEADLINE, || {
        let passed = cluster.read_all(&output);
        slow_then = passed.iter().filter(|message| message.key_text() == "slow").count();
        passed.len() - slow_then == 200
    });
    assert!(slow_then < 30, "the slow key is not limited: {slow_then}");
    let passed = cluster.wait_for_records(&output, 231, DEADLINE);
    let slow: Vec<_> = passed.iter().filter(|message| message.key_text() == "slow").collect();
    let numbers: Vec<_> =
        slow.iter().filter(|it| it.value.is_some()).map(|it| it.value_json()["number"].clone()).collect();
    assert_eq!(numbers, (0..30).map(|number| json!(number)).collect::<Vec<_>>());
    assert!(slow[30].value.is_none(), "a tombstone has no limit, but keeps its place");
    let dead = cluster.wait_for_records(&format!("{prefix}.dlq"), 1, DEADLINE);
    assert_eq!(dead[0].header_text("biplane-error-code"), Some("json"), "{dead:?}");
    assert!(dead[0].header_text("biplane-error-message").is_some_and(|it| it.contains("rate_limit.per_key")));
    assert!(engine.metric("biplane_stage_rate_limited_seconds_total", &["limit=\"key\""]) > 10.0);
}
