//! Edits of the config root while `biplane dev` runs, on the cluster inside its process.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Dev, Message, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

/// Two stages in a row: `mark` sets `mark`, `pass` hands on.
fn pipeline(mark: &str) -> String {
    format!(
        r#"
[topics."in"]
partitions = 1
[topics."middle"]
partitions = 1
[topics."out"]
partitions = 1
[dlqs.d]
topic = "d.dlq"
[defaults.stages]
dlq = "d"
[stages.mark]
from = "in"
to = "middle"
[[stages.mark.steps]]
set.mark = "{mark}"
[stages.pass]
from = "middle"
to = "out"
"#
    )
}

fn start() -> Dev {
    Dev::on(&[("pipelines/p.toml", &pipeline("one"))])
}

/// Writes records with these numbers and waits until `topic` has as many records in all.
fn flow(dev: &Dev, numbers: std::ops::Range<i64>, topic: &str) -> Vec<Value> {
    let cluster = dev.cluster();
    let records: Vec<_> = numbers.clone().map(|n| Message::json("k", &json!({ "n": n }))).collect();
    cluster.produce("in", &records);
    values(dev, topic, usize::try_from(numbers.end).expect("a count"))
}

fn values(dev: &Dev, topic: &str, count: usize) -> Vec<Value> {
    let records = dev.cluster().wait_for_records(topic, count, LIMIT);
    records.iter().map(Message::value_json).collect()
}

fn marked(numbers: std::ops::Range<i64>, mark: &str) -> Vec<Value> {
    numbers.map(|n| json!({ "n": n, "mark": mark })).collect()
}

#[test]
fn an_edit_of_a_step_counts_for_later_records_and_touches_no_other_stage() {
    let dev = start();
    let mut expected = marked(0..20, "one");
    assert_eq!(flow(&dev, 0..20, "out"), expected);

    dev.edit("pipelines/p.toml", &pipeline("two"));
    assert_eq!(dev.reloaded(0), "reloaded: mark changed, pass unchanged");
    expected.extend(marked(20..40, "two"));
    assert_eq!(flow(&dev, 20..40, "out"), expected, "nothing lost, nothing twice");
    let metrics = dev.metrics();
    assert!(metrics.contains("biplane_stage_rebalances_total{stage=\"mark\"} 1\n"), "{metrics}");

    dev.edit("pipelines/p.toml", &format!("# said better\n{}", pipeline("two")));
    assert_eq!(dev.reloaded(1), "reloaded: nothing that runs changed");
}

#[test]
fn a_broken_edit_is_shown_and_what_ran_goes_on_until_it_is_mended() {
    let dev = start();
    let mut expected = marked(0..5, "one");
    assert_eq!(flow(&dev, 0..5, "out"), expected);

    dev.edit("pipelines/p.toml", &pipeline("two").replace("to = \"middle\"", "to = \"midle\""));
    dev.wait_for("not reloaded");
    let said = dev.said().join("\n");
    assert!(said.contains("error[topic::undefined]") && said.contains("pipelines/p.toml:"), "{said}");
    expected.extend(marked(5..10, "one"));
    assert_eq!(flow(&dev, 5..10, "out"), expected, "the old one goes on");

    dev.edit("pipelines/p.toml", &pipeline("three"));
    assert_eq!(dev.reloaded(0), "reloaded: mark changed, pass unchanged");
    expected.extend(marked(10..15, "three"));
    assert_eq!(flow(&dev, 10..15, "out"), expected);
}

#[test]
fn stages_and_topics_come_and_go_and_offsets_stay() {
    let dev = start();
    let mut expected = marked(0..10, "one");
    assert_eq!(flow(&dev, 0..10, "out"), expected);

    let audit = "\n[topics.\"audit\"]\npartitions = 1\n[stages.audit]\nfrom = \"middle\"\nto = \"audit\"\n";
    dev.edit("pipelines/audit.toml", audit);
    assert_eq!(dev.reloaded(0), "reloaded: audit added, mark unchanged, pass unchanged");
    assert_eq!(values(&dev, "audit", 10), expected, "a new group starts at the oldest record");

    std::fs::remove_file(dev.config().join("pipelines/audit.toml")).expect("a removed file");
    let line = dev.reloaded(1);
    assert_eq!(line, "reloaded: mark unchanged, pass unchanged, audit removed (its offsets stay)");
    expected.extend(marked(10..20, "one"));
    assert_eq!(flow(&dev, 10..20, "out"), expected);
    let status = dev.status();
    let stages: Vec<_> = status["stages"].as_array().expect("stages").iter().map(|s| &s["stage"]).collect();
    assert_eq!(
        (stages, &status["generation"]),
        (vec![&json!("mark"), &json!("pass")], &json!(3)),
        "{status}"
    );

    dev.edit("pipelines/audit.toml", audit);
    assert_eq!(dev.reloaded(2), "reloaded: audit added, mark unchanged, pass unchanged");
    assert_eq!(values(&dev, "audit", 20), expected, "it goes on where it was removed");
}

#[test]
fn a_stage_that_writes_elsewhere_is_started_again_from_its_offsets() {
    let dev = start();
    assert_eq!(flow(&dev, 0..10, "out"), marked(0..10, "one"));
    let elsewhere = pipeline("one")
        .replace("to = \"out\"", "to = \"other\"")
        .replace("[topics.\"out\"]", "[topics.\"other\"]");
    dev.edit("pipelines/p.toml", &elsewhere);
    assert_eq!(dev.reloaded(0), "reloaded: mark unchanged, pass restarted");
    let records: Vec<_> = (10..20).map(|n| Message::json("k", &json!({ "n": n }))).collect();
    dev.cluster().produce("in", &records);
    assert_eq!(values(&dev, "other", 10), marked(10..20, "one"));
    assert_eq!(dev.cluster().count("out"), 10, "and nothing goes the old way");
}

#[test]
fn a_stage_that_halted_is_started_again_by_the_edit_that_mends_it() {
    let halting = pipeline("{{ value.missing }}")
        .replace("from = \"in\"", "from = \"in\"\nretry = \"strict\"")
        .replace("[dlqs.d]", "[retries.strict]\nmax_attempts = 1\non_exhausted = \"halt\"\n[dlqs.d]");
    let dev = Dev::on(&[("pipelines/p.toml", &halting)]);
    dev.cluster().produce("in", &[Message::json("k", &json!({ "n": 0 }))]);
    wait_until("it halts", LIMIT, || dev.status()["stages"][0]["state"] == "halted");
    dev.edit("pipelines/p.toml", &halting.replace("{{ value.missing }}", "mended"));
    assert_eq!(dev.reloaded(0), "reloaded: mark restarted, pass unchanged");
    assert_eq!(values(&dev, "out", 1), marked(0..1, "mended"));
}
