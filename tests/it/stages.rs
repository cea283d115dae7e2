//! `biplane stages show` on a real Kafka: with an engine and without one.

use std::time::{Duration, UNIX_EPOCH};

use biplane::broker::{Admin, ClientSettings};

use crate::support::commands::ask_with;
use crate::support::{Cluster, ConfigRoot, Engine, Message, brokers, unique, wait_until};

fn show(root: &ConfigRoot, namespace: &str, listen: &str) -> serde_json::Value {
    ask_with(root, namespace, &["stages", "show", "s"], &[("BIPLANE_LISTEN", listen)]).well()
}

#[test]
fn lag_is_known_without_an_engine_and_its_state_only_with_one() {
    let (name, cluster) = (unique("stages"), Cluster::shared());
    let config = format!(
        "[topics.in]\ntopic = \"{name}\"\npartitions = 2\n[dlqs.d]\ntopic = \"{name}.dlq\"\n\
         [stages.s]\nfrom = \"in\"\ndlq = \"d\"\n[[stages.s.steps]]\nfilter = \"value.ok\"\n"
    );
    let root = ConfigRoot::new(&[("pipelines/a.toml", &config)]);
    let variables = [("BIPLANE_KAFKA_BROKERS", &*brokers()), ("BIPLANE_NAMESPACE", &name)];
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
    let group = &show(&root, &name, &address)["group"];
    assert_eq!(
        (&group["group"], &group["state"]),
        (&format!("{name}.s").into(), &"Stable".into()),
        "{group}"
    );
    let members = group["members"].as_array().expect("members");
    assert_eq!(members.len(), 1, "{group}");
    assert_eq!(members[0]["client_id"], "biplane", "{group}");
    assert_eq!(members[0]["partitions"][&name], serde_json::json!([0, 1]), "{group}");
    let admin = Admin::open(&ClientSettings::new(brokers(), "test")).expect("a client");
    let groups = admin.groups(Duration::from_secs(20)).expect("all groups");
    let listed = groups.iter().find(|group| group.name == format!("{name}.s")).expect("the stage's");
    assert_eq!((&*listed.state, listed.members.len()), ("Stable", 1));
    assert!(engine.terminate(Duration::from_secs(20)).success());

    cluster.produce(&name, &records[..3]);
    let shown = show(&root, &name, &address);
    assert_eq!(shown["state"], serde_json::Value::Null, "nobody says: {shown}");
    assert_eq!(shown["lag_records"], 3, "{shown}");
    assert_eq!(
        (&shown["group"]["state"], &shown["group"]["members"]),
        (&"Empty".into(), &serde_json::json!([]))
    );
    assert!(shown["lag_seconds"].as_f64().is_some_and(|seconds| seconds < 600.0), "{shown}");
    assert_eq!(shown["partitions"].as_array().map(Vec::len), Some(2), "{shown}");
}

#[test]
fn lag_in_seconds_is_the_age_of_the_oldest_unfinished_record_and_not_of_the_newest() {
    let (name, cluster) = (unique("lag"), Cluster::shared());
    let config = format!(
        "[topics.in]\ntopic = \"{name}\"\npartitions = 2\n[dlqs.d]\ntopic = \"{name}.dlq\"\n\
         [retries.patient]\nmax_attempts = 2\nin_place_up_to = \"unlimited\"\nbackoff = {{ initial = \"5m\", factor = 1.0, max = \"5m\", jitter = \"none\" }}\n\
         [stages.s]\nfrom = \"in\"\ndlq = \"d\"\nretry = \"patient\"\n\
         [[stages.s.steps]]\nwhen = \"value.stuck\"\nfail = {{ class = \"transient\", code = \"stuck\", message = \"not yet\" }}\n\
         [[stages.s.steps]]\nfilter = \"false\"\n"
    );
    let root = ConfigRoot::new(&[("pipelines/a.toml", &config)]);
    cluster.create_topic(&name, 2, &[]);
    cluster.create_topic(&format!("{name}.dlq"), 1, &[]);
    let now = i64::try_from(UNIX_EPOCH.elapsed().expect("a clock").as_millis()).expect("a time");
    let record = |stuck: bool, age: i64, partition: i32| {
        let value = serde_json::json!({ "stuck": stuck });
        Message { timestamp: Some(now - age * 1_000), ..Message::json("k", &value).at(partition) }
    };
    // In partition 0 the second of 52 is stuck; in partition 1 a very old one is finished.
    let mut records = vec![record(false, 5_000, 0), record(true, 1_000, 0), record(false, 5_000, 1)];
    records.extend((0..50).map(|key| Message { key: Some(vec![key]), ..record(false, 0, 0) }));
    cluster.produce(&name, &records);

    let engine = Engine::start(&root, &brokers(), &[("BIPLANE_NAMESPACE", &name)]);
    let lags = || {
        let status = engine.get("/v1/status").map(|answer| answer.body).unwrap_or_default();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
        let partitions = status["stages"][0]["partitions"].as_array().cloned().unwrap_or_default();
        let mut lags: Vec<_> =
            partitions.iter().map(|p| (p["lag_records"].as_i64(), p["lag_seconds"].as_f64())).collect();
        lags.sort_by_key(|(records, _)| std::cmp::Reverse(*records));
        lags
    };
    let old = |seconds: f64| (1_000.0..1_200.0).contains(&seconds);
    wait_until(
        "the stuck one alone is behind",
        Duration::from_secs(30),
        || matches!(lags()[..], [(Some(51), Some(seconds)), (Some(0), Some(0.0))] if old(seconds)),
    );
    let metric = |partition: &str| {
        engine.metric("biplane_stage_lag_seconds", &[&format!("partition=\"{partition}\"")])
    };
    assert!(old(metric("0")) && metric("1") == 0.0, "{} {}", metric("0"), metric("1"));
    let shown = show(&root, &name, engine.address());
    assert!(shown["lag_seconds"].as_f64().is_some_and(old), "{shown}");
    let before = metric("0");
    wait_until("it grows older", Duration::from_secs(30), || metric("0") > before + 1.0);
}
