//! What parking does for a stage that nothing happens to.

use super::{Bed, DEADLINE, INTACT, faults};
use crate::support::{Cluster, wait_until};

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
    wait_until("the others are out", DEADLINE, || bed.out(&cluster).get("well").is_some_and(|all| all.len() == 19));
    wait_until("all is done on the input", DEADLINE, || bed.is_done(&cluster));
    wait_until("it is tried again", DEADLINE, || bed.stub.by_path().get("/bad").is_some_and(|asked| *asked >= 3));
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
    let records: Vec<_> =
        (0..100).map(|number| ("k".to_owned(), if number % 10 == 0 { "bad" } else { "good" }, number)).collect();
    bed.produce(&cluster, &records);
    wait_until("the others are out", DEADLINE, || bed.out(&cluster).get("k").is_some_and(|all| all.len() == 90));
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
    let keys = format!("max_parked = {{ records = {MOST}, bytes = \"1MiB\" }}\nwindow.records = 50\nconcurrency = 8");
    let bed = Bed::new(&cluster, 1, "400ms", &keys, INTACT);
    let engine = bed.start(&cluster);
    let names: Vec<String> = (0..40).map(|key| format!("k{key}")).collect();
    let records: Vec<_> = (0..25)
        .flat_map(|number| names.iter().map(move |key| (key.clone(), "bad", number)))
        .collect();
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
