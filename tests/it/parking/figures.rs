//! What parking costs and how punctual it is. They take minutes and a machine of their own, so they are
//! asked for by name, in a release build:
//! `tests/run --release --test it parking::figures -- --ignored --nocapture --test-threads 1`.

use std::time::Duration;

use serde_json::json;

use super::DEADLINE;
use crate::support::{Cluster, ConfigRoot, Engine, Message, unique, wait_until};

/// A stage whose records all fail, and wait for `wait` in between.
fn failing(cluster: &Cluster, wait: &str) -> (String, ConfigRoot) {
    let prefix = unique("parked-figures");
    let pipeline = format!(
        "[topics.input]\ntopic = \"{prefix}.input\"\n\n[topics.output]\ntopic = \"{prefix}.output\"\n\n\
         [dlqs.dead]\ntopic = \"{prefix}.dlq\"\n\n\
         [retries.long]\nmax_attempts = 1000\ndelays = [\"{wait}\"]\nin_place_up_to = \"100ms\"\n\n\
         [stages.bed]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\nretry = \"long\"\n\
         deadline = \"10d\"\nmax_parked.records = 1_000_000\n\n\
         [[stages.bed.steps]]\nwhen = \"not value.fine\"\nfail = {{ class = \"transient\", code = \"not-yet\", message = \"not yet\" }}\n",
    );
    let root = ConfigRoot::new(&[("pipelines/bed.toml", &pipeline)]);
    for (name, partitions) in [("input", 6), ("output", 6), ("dlq", 1)] {
        cluster.create_topic(&format!("{prefix}.{name}"), partitions, &[]);
    }
    (prefix, root)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn start(cluster: &Cluster, prefix: &str, root: &ConfigRoot) -> Engine {
    let engine = Engine::start(root, cluster.brokers(), &[("BIPLANE_NAMESPACE", prefix)]);
    let parking = format!("{prefix}.bed.parked.{prefix}.input");
    wait_until("the parking topic is there", DEADLINE, || cluster.has_topic(&parking));
    let group = format!("{prefix}.bed");
    wait_until("it is read", DEADLINE, || cluster.committed(&group, &parking).len() == 6);
    engine
}

/// Records that fail, or pass where they are `fine`.
fn produce(cluster: &Cluster, prefix: &str, count: usize, bytes: usize, fine: bool) {
    let text = "x".repeat(bytes);
    for chunk in (0..count).collect::<Vec<_>>().chunks(10_000) {
        let records: Vec<_> = chunk
            .iter()
            .map(|number| Message::json(format!("key-{number}"), &json!({"fine": fine, "text": text})))
            .collect();
        cluster.produce(&format!("{prefix}.input"), &records);
    }
}

#[test]
#[ignore = "takes minutes and a machine of its own"]
fn ten_thousand_parked_keys_are_tried_on_time() {
    const KEYS: usize = 10_000;
    let cluster = Cluster::shared();
    let (prefix, root) = failing(&cluster, "5s");
    let engine = start(&cluster, &prefix, &root);
    produce(&cluster, &prefix, KEYS, 100, false);
    let late = |label: &str| engine.metric("biplane_stage_parked_late_seconds", &[label]);
    let count = || engine.metric("biplane_stage_parked_late_seconds_count", &[]);
    wait_until("all are parked", DEADLINE, || {
        engine.metric("biplane_stage_parked_records", &["bed"]) == KEYS as f64
    });
    wait_until("each was tried six times", Duration::from_secs(120), || count() >= 6.0 * KEYS as f64);
    let (all, in_time) = (count(), late("le=\"0.25\""));
    println!("{all} attempts of {KEYS} parked keys, {:.3} % within 250 ms of due", in_time / all * 100.0);
    assert!(in_time >= all * 0.99);
}

#[test]
#[ignore = "takes minutes and a machine of its own"]
fn a_hundred_thousand_parked_records_fit_in_64_mib() {
    const COUNT: usize = 100_000;
    let cluster = Cluster::shared();
    let (prefix, root) = failing(&cluster, "1h");
    let engine = start(&cluster, &prefix, &root);
    let idle = engine.resident_bytes();
    // Buffers of the client and the window are there whether anything is parked or not.
    produce(&cluster, &prefix, COUNT, 150, true);
    let output = format!("{prefix}.output");
    wait_until("all that is fine is out", DEADLINE, || cluster.count(&output) == COUNT as i64);
    let before = engine.resident_bytes();
    produce(&cluster, &prefix, COUNT, 150, false);
    wait_until("all are parked", DEADLINE, || {
        engine.metric("biplane_stage_parked_records", &["bed"]) == COUNT as f64
    });
    // What is on its way counts as parked, too, and holds no bytes yet.
    wait_until("all are read back", DEADLINE, || {
        engine.metric("biplane_stage_parked_bytes", &["bed"]) >= (COUNT * 180) as f64
    });
    let group = format!("{prefix}.bed");
    wait_until("all is done on the input", DEADLINE, || {
        let done: i64 =
            cluster.committed(&group, &format!("{prefix}.input")).values().map(|(at, _)| at).sum();
        done == 2 * COUNT as i64
    });
    let after = engine.resident_bytes();
    let bytes = engine.metric("biplane_stage_parked_bytes", &["bed"]);
    println!(
        "{COUNT} parked records, {bytes} bytes: {:.1} MiB more than the {:.1} MiB of an engine that passed as many, \
         {:.1} MiB more than the {:.1} MiB of an idle one",
        mib(after - before),
        mib(before),
        mib(after - idle),
        mib(idle),
    );
    assert!(after - before < 64 << 20);
}
