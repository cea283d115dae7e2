//! Engines that are killed with records parked, and topics that go away.

use super::{Bed, DEADLINE, INTACT, faults};
use crate::support::{Cluster, wait_until};

/// An engine is killed while all keys are parked, and more is written before the next one starts. Without
/// `scan-first` that is worked on before it is known what is parked; without `follow`, what comes behind
/// a parked record overtakes it.
#[test]
fn after_a_kill_what_is_parked_is_known_before_the_input_goes_on() {
    fn check(without: &'static str) -> (usize, usize) {
        let cluster = Cluster::shared();
        let bed = Bed::new(&cluster, 1, "1s", "", without);
        let names: Vec<String> = (0..200).map(|key| format!("k{key}-{}", "x".repeat(10_000))).collect();
        let records = |path: &'static str, number: usize| -> Vec<_> {
            names.iter().map(|key| (key.clone(), path, number)).collect()
        };
        let mut engine = bed.start_named(&cluster);
        bed.produce(&cluster, &records("bad", 0));
        bed.produce(&cluster, &records("good", 1));
        wait_until("all is parked, or out", DEADLINE, || bed.is_done(&cluster));
        engine.kill();
        // From the end, so that what is parked last is met first.
        let mut more = records("good", 2);
        more.reverse();
        bed.produce(&cluster, &more);
        let _engine = bed.start_named(&cluster);
        wait_until("the rest is done on the input", DEADLINE, || bed.is_done(&cluster));
        bed.heal();
        wait_until("nothing is parked", DEADLINE, || bed.is_cleared(&cluster));
        faults(&bed.out(&cluster), &names, 3)
    }
    assert_eq!(check(INTACT), (0, 0));
    #[cfg(debug_assertions)]
    for guard in ["scan-first", "follow"] {
        assert!(check(guard).0 > 0, "without {guard}");
    }
}

/// The engine is killed again and again while a record is parked. Attempts are counted in the topic.
#[test]
fn a_parked_record_whose_engine_is_killed_is_tried_at_most_once_more_a_kill() {
    const MOST: usize = 8;
    const KILLS: usize = 3;
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 1, "300ms", "", INTACT);
    let text = std::fs::read_to_string(bed.root.path().join("pipelines/bed.toml")).expect("the pipeline");
    let few = format!("max_attempts = {MOST}");
    bed.root.write("pipelines/bed.toml", &text.replace("max_attempts = 1000", &few));
    let asked = || bed.stub.by_path().get("/bad").copied().unwrap_or_default();
    let mut engine = bed.start_named(&cluster);
    bed.produce(&cluster, &[("k".to_owned(), "bad", 0)]);
    for _ in 0..KILLS {
        let before = asked();
        wait_until("two attempts more, or the dead letter", DEADLINE, || {
            asked() >= before + 2 || cluster.count(&bed.topic("dlq")) > 0
        });
        engine.kill();
        engine = bed.start_named(&cluster);
    }
    cluster.wait_for_records(&bed.topic("dlq"), 1, DEADLINE);
    assert!((MOST..=MOST + KILLS).contains(&asked()), "{} attempts with {KILLS} kills", asked());
}
