//! What parking does for a stage that nothing happens to.

use super::{Bed, DEADLINE, INTACT, faults};
use crate::support::stub::reply;
use crate::support::{Cluster, Engine, wait_until};

/// One key fails; its later records follow it, all other keys go on, and all is done on the input.
#[test]
fn a_record_that_waits_for_long_leaves_its_input_and_what_is_behind_it_follows() {
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 1, "700ms", "", INTACT);
    let engine = bed.start(&cluster);
    let mut records = vec![("ill".to_owned(), "bad", 0)];
    for number in 1..20 {
        records.push(("ill".to_owned(), "good", number));
        records.push(("well".to_owned(), "good", number - 1));
    }
    bed.produce(&cluster, &records);
    wait_until("the others are out", DEADLINE, || {
        bed.out(&cluster).get("well").is_some_and(|all| all.len() == 19)
    });
    wait_until("all is done on the input", DEADLINE, || bed.is_done(&cluster));
    wait_until("it is tried again", DEADLINE, || {
        bed.stub.by_path().get("/bad").is_some_and(|asked| *asked >= 3)
    });
    assert!(!bed.out(&cluster).contains_key("ill"), "nothing overtakes it");
    wait_until("it is shown", DEADLINE, || engine.metric("biplane_stage_parked_records", &["bed"]) == 20.0);
    assert_eq!(engine.metric("biplane_stage_records_parked_total", &["follow"]), 19.0);
    bed.heal();
    wait_until("nothing is parked", DEADLINE, || bed.is_cleared(&cluster));
    let out = bed.out(&cluster);
    assert_eq!(out["ill"], (0..20).collect::<Vec<_>>(), "each once");
    assert_eq!(out["well"], (0..19).collect::<Vec<_>>());
    // What comes later is not parked.
    bed.produce(&cluster, &[("ill".to_owned(), "good", 20)]);
    wait_until("it passes", DEADLINE, || bed.out(&cluster)["ill"].len() == 21);
    assert_eq!(engine.metric("biplane_stage_parked_records", &["bed"]), 0.0);
}

/// Without an order nothing follows.
#[test]
fn without_an_order_only_what_fails_is_parked() {
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 2, "500ms", "order = \"none\"", INTACT);
    let _engine = bed.start(&cluster);
    let records: Vec<_> = (0..100)
        .map(|number| ("k".to_owned(), if number % 10 == 0 { "bad" } else { "good" }, number))
        .collect();
    bed.produce(&cluster, &records);
    wait_until("the others are out", DEADLINE, || {
        bed.out(&cluster).get("k").is_some_and(|all| all.len() == 90)
    });
    wait_until("all is done on the input", DEADLINE, || bed.is_done(&cluster));
    bed.heal();
    wait_until("all is out", DEADLINE, || bed.out(&cluster)["k"].len() == 100);
    wait_until("nothing is parked", DEADLINE, || bed.is_cleared(&cluster));
    assert_eq!(faults(&bed.out(&cluster), &["k".to_owned()], 100).1, 0);
}

/// Past `max_parked` the input pauses, and goes on as there is room again.
#[test]
fn as_much_is_parked_as_may_be_and_then_the_input_waits() {
    let cluster = Cluster::shared();
    const MOST: usize = 200;
    let keys = format!(
        "max_parked = {{ records = {MOST}, bytes = \"1MiB\" }}\nwindow.records = 50\nconcurrency = 8"
    );
    let bed = Bed::new(&cluster, 1, "400ms", &keys, INTACT);
    let engine = bed.start(&cluster);
    let names: Vec<String> = (0..40).map(|key| format!("k{key}")).collect();
    let records: Vec<_> =
        (0..25).flat_map(|number| names.iter().map(move |key| (key.clone(), "bad", number))).collect();
    bed.produce(&cluster, &records);
    wait_until("it is full", DEADLINE, || engine.metric("biplane_stage_parked_full", &["bed"]) == 1.0);
    let asked = bed.stub.asked();
    wait_until("it is tried again all the same", DEADLINE, || bed.stub.asked() > asked + 100);
    let parked = engine.metric("biplane_stage_parked_records", &["bed"]);
    // What was in the window when it became full may be parked as well.
    assert!((MOST as f64..=MOST as f64 + 60.0).contains(&parked), "{parked} are parked");
    assert!(!bed.is_done(&cluster));
    bed.heal();
    wait_until("all is done", DEADLINE, || bed.is_done(&cluster) && bed.is_cleared(&cluster));
    assert_eq!(faults(&bed.out(&cluster), &names, 25), (0, 0));
}

/// A record that uses up its attempts while it is parked is dead-lettered as it came.
#[test]
fn attempts_are_counted_in_the_parking_topic_and_end_in_the_dlq() {
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 1, "150ms", "", INTACT);
    let text = std::fs::read_to_string(bed.root.path().join("pipelines/bed.toml")).expect("the pipeline");
    bed.root.write("pipelines/bed.toml", &text.replace("max_attempts = 1000", "max_attempts = 4"));
    let _engine = bed.start(&cluster);
    bed.produce(&cluster, &[("k".to_owned(), "bad", 0), ("k".to_owned(), "good", 1)]);
    let dead = cluster.wait_for_records(&bed.topic("dlq"), 1, DEADLINE);
    wait_until("nothing is parked", DEADLINE, || bed.is_cleared(&cluster));
    assert_eq!(bed.stub.by_path()["/bad"], 4);
    assert_eq!(dead[0].header_text("biplane-attempts"), Some("4"));
    let origin = bed.topic("input");
    assert_eq!(dead[0].header_text("biplane-topic"), Some(origin.as_str()));
    assert_eq!(dead[0].header_text("biplane-offset"), Some("0"));
    assert_eq!((dead[0].header_text("biplane-parked"), dead[0].header_text("biplane-origin")), (None, None));
    assert_eq!(bed.out(&cluster)["k"], [1]);
}

fn offsets(bed: &Bed, cluster: &Cluster, arguments: &[&str]) -> serde_json::Value {
    let variables = [("BIPLANE_KAFKA_BROKERS", cluster.brokers()), ("BIPLANE_NAMESPACE", &bed.prefix)];
    let all = [&["offsets"], arguments, &["--format", "json"]].concat();
    let output = Engine::command(bed.root.path(), &all, &variables);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// An engine that has parked a record that fails, and one behind it.
fn park_two(bed: &Bed, cluster: &Cluster) -> Engine {
    let engine = bed.start(cluster);
    bed.produce(cluster, &[("ill".to_owned(), "bad", 0), ("ill".to_owned(), "good", 1)]);
    wait_until("both are parked", DEADLINE, || {
        engine.metric("biplane_stage_parked_records", &["bed"]) == 2.0 && bed.is_done(cluster)
    });
    engine
}

/// An engine that runs forgets what it is told to drop.
#[test]
fn parked_records_are_dropped_by_the_engine_that_holds_them() {
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 2, "60s", "", INTACT);
    let engine = park_two(&bed, &cluster);
    let dropped = offsets(&bed, &cluster, &["set", "bed", "--to-latest", "--parked", "drop", "--yes"]);
    assert_eq!((dropped["parked"].as_i64(), dropped["by_engines"].as_bool()), (Some(2), Some(true)));
    wait_until("nothing is parked", DEADLINE, || {
        engine.metric("biplane_stage_parked_records", &["bed"]) == 0.0
    });
    bed.heal();
    bed.produce(&cluster, &[("ill".to_owned(), "good", 2)]);
    wait_until("the next is out", DEADLINE, || bed.out(&cluster).contains_key("ill"));
    assert_eq!(bed.out(&cluster)["ill"], [2], "what was dropped never comes");
    assert!(bed.is_cleared(&cluster));
}

/// Setting offsets leaves what is parked alone, unless it is said to drop it.
#[test]
fn parked_records_are_kept_or_dropped_where_offsets_are_set() {
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 2, "300ms", "", INTACT);
    let offsets = |arguments: &[&str]| offsets(&bed, &cluster, arguments);
    let mut engine = park_two(&bed, &cluster);
    engine.terminate(DEADLINE);
    let shown = offsets(&["show", "bed"]);
    let left = |parked: &serde_json::Value| {
        parked["lag"].as_i64().unwrap_or_default() - parked["finished_beyond"].as_i64().unwrap_or_default()
    };
    assert_eq!(shown["parked"].as_array().expect("parking topics").iter().map(left).sum::<i64>(), 2);
    let kept = offsets(&["set", "bed", "--to-latest", "--yes"]);
    assert_eq!((kept["parked"].as_i64(), kept["parked_dropped"].as_bool()), (Some(2), Some(false)));
    let dropped = offsets(&["set", "bed", "--to-latest", "--parked", "drop", "--yes"]);
    assert_eq!((dropped["parked"].as_i64(), dropped["done"].as_bool()), (Some(2), Some(true)));
    bed.heal();
    let _engine = bed.start(&cluster);
    bed.produce(&cluster, &[("ill".to_owned(), "good", 2)]);
    wait_until("the next is out", DEADLINE, || bed.out(&cluster).contains_key("ill"));
    assert_eq!(bed.out(&cluster)["ill"], [2], "what was dropped never comes");
    assert!(bed.is_cleared(&cluster));
}

/// One record is parked for an hour while thousands behind it come and go. It is appended again, so that a
/// restart has little to read, and nothing of what is finished is done again.
#[test]
fn a_record_that_is_parked_for_very_long_keeps_no_position_behind() {
    const COUNT: usize = 9_000;
    let cluster = Cluster::shared();
    let bed = Bed::answering(&cluster, 1, "100ms", "concurrency = 64", |path, times, stream| match path {
        "/long" => reply(stream, "503 Service Unavailable\r\nRetry-After: 3600", ""),
        _ if times == 1 => reply(stream, "503 Service Unavailable", ""),
        _ => reply(stream, "200 OK", "{}"),
    });
    let mut engine = bed.start_named(&cluster);
    let parked = |engine: &Engine| engine.metric("biplane_stage_parked_records", &["bed"]);
    bed.produce(&cluster, &[("long".to_owned(), "long", 0)]);
    wait_until("it is parked", DEADLINE, || parked(&engine) == 1.0);
    let paths: Vec<String> = (0..COUNT).map(|number| format!("once-{number}")).collect();
    let records: Vec<_> =
        paths.iter().enumerate().map(|(number, path)| (format!("k{number}"), path.as_str(), 0)).collect();
    bed.produce(&cluster, &records);
    wait_until("the others are out", DEADLINE, || cluster.count(&bed.topic("output")) == COUNT as i64);
    wait_until("its position is not far behind", DEADLINE, || {
        let committed = cluster.committed(&bed.group(), &bed.parking());
        committed.get(&0).is_some_and(|(offset, _)| *offset >= COUNT as i64 / 2)
    });
    engine.kill();
    let engine = bed.start_named(&cluster);
    wait_until("it is known again", DEADLINE, || parked(&engine) == 1.0);
    bed.produce(&cluster, &[("last".to_owned(), "once-last", 0)]);
    wait_until("the last is out", DEADLINE, || bed.out(&cluster).contains_key("last"));
    assert_eq!(cluster.count(&bed.topic("output")), COUNT as i64 + 1, "nothing repeats");
    assert_eq!(bed.stub.by_path()["/long"], 1);
}
