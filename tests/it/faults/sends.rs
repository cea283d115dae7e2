//! Sends that hang, and a stop or a kill while they do.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, LIMIT, numbers};
use crate::support::gate::{Gate, Kind};
use crate::support::{Cluster, Engine, Message, PrivateKafka, holds_within, wait_until};

fn records(numbers: std::ops::Range<i64>, pad: &str) -> Vec<Message> {
    numbers
        .map(|number| Message::json(format!("key-{}", number % 20), &json!({"number": number, "pad": pad})))
        .collect()
}

/// How many of the first `count` numbers are in the output, and how many records more there are.
fn out(cluster: &Cluster, bed: &Bed) -> (usize, usize) {
    let numbers = numbers(&cluster.read_all(&bed.topic("output")));
    let distinct: BTreeSet<_> = numbers.iter().collect();
    (distinct.len(), numbers.len() - distinct.len())
}

/// No broker answers while records keep coming: memory stays within the window, a stop ends in time, and
/// what was given up is sent by the next engine.
#[test]
fn sends_that_hang_are_bounded_and_given_up_at_a_stop_without_loss() {
    const COUNT: i64 = 30_000;
    let broker = PrivateKafka::start();
    let cluster = broker.cluster();
    let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ndrain = \"1s\"\n\
        window = { records = 2000, bytes = \"4MiB\" }\n";
    let bed = Bed::new(&cluster, 2, stage, INTACT);
    cluster.produce(&bed.topic("input"), &records(0..COUNT, &"x".repeat(2_000)));
    let mut engine = bed.start(&cluster);
    wait_until("some are out", DEADLINE, || cluster.count(&bed.topic("output")) > 0);
    broker.freeze();
    let ended = engine.terminate(Duration::from_secs(15));
    assert!(ended.success(), "{ended}: {}", engine.log());
    broker.thaw();
    let engine = bed.start(&cluster);
    wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT);
    assert_eq!(out(&cluster, &bed).0 as i64, COUNT);
    assert!(engine.resident_bytes() < 150 << 20, "{} bytes", engine.resident_bytes());
}

/// Only the sends hang, while commits go through. What a stop, or a kill behind it, gives up is not
/// committed and comes out in the next life. Without `acknowledgement` it is lost, for it counted as
/// finished when it was sent.
#[test]
fn sends_given_up_at_a_stop_or_a_kill_are_not_committed() {
    const COUNT: i64 = 500;
    fn check(without: &'static str) -> (i64, usize) {
        let cluster = Cluster::shared();
        let gate = Gate::before(&cluster);
        let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ndrain = \"1s\"\n\
            commit_interval = \"50ms\"\n";
        let bed = Bed::new(&cluster, 2, stage, without);
        cluster.produce(&bed.topic("input"), &records(0..COUNT, ""));
        gate.hold(Kind::Produce);
        for life in 0..2 {
            let before = gate.held();
            let mut engine = bed.start_named(&gate.brokers());
            wait_until("sends hang", DEADLINE, || gate.held() > before || bed.committed(&cluster) > 0);
            match life {
                0 => assert!(engine.terminate(Duration::from_secs(15)).success(), "{}", engine.log()),
                _ => engine.kill(),
            }
        }
        gate.cut();
        let committed = bed.committed(&cluster);
        let mut engine = bed.start_named(cluster.brokers());
        wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT);
        assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
        (committed, out(&cluster, &bed).0)
    }
    assert_eq!(check(INTACT), (0, COUNT as usize));
    #[cfg(debug_assertions)]
    {
        let (committed, out) = check("acknowledgement");
        assert!(committed > 0 && out < COUNT as usize, "{committed} committed, {out} out");
    }
}

/// A stop comes while the answers to sends are under way: they are waited for, and nothing repeats.
/// Without `drain` what was under way is sent again.
#[test]
fn a_stop_waits_for_sends_under_way_and_the_next_life_repeats_nothing() {
    const COUNT: i64 = 500;
    fn check(without: &'static str) -> (usize, usize) {
        let cluster = Cluster::shared();
        let gate = Gate::before(&cluster);
        let bed =
            Bed::new(&cluster, 2, "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n", without);
        cluster.produce(&bed.topic("input"), &records(0..COUNT, ""));
        gate.hold_answers(Kind::Produce);
        let mut engine = bed.start_named(&gate.brokers());
        wait_until("some are written", DEADLINE, || {
            gate.held() > 0 && cluster.count(&bed.topic("output")) > 0
        });
        crate::support::signal(engine.id(), "TERM");
        holds_within(Duration::from_secs(1), || !engine.runs());
        gate.open();
        wait_until("the engine has ended", DEADLINE, || !engine.runs());
        let mut engine = bed.start_named(cluster.brokers());
        wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT);
        assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
        out(&cluster, &bed)
    }
    assert_eq!(check(INTACT), (COUNT as usize, 0));
    #[cfg(debug_assertions)]
    assert!(check("drain").1 > 0);
}

/// The output takes nothing while the input is full: what is in flight stays within the window, and the
/// partitions are paused. Without `window` all that can be read is in flight.
#[test]
fn a_stalled_output_stops_the_input_at_the_window() {
    const WINDOW: f64 = 200.0;
    fn check(without: &'static str) -> bool {
        let cluster = Cluster::shared();
        let gate = Gate::before(&cluster);
        let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n\
            window = { records = 200, bytes = \"4MiB\" }\n";
        let bed = Bed::new(&cluster, 2, stage, without);
        cluster.produce(&bed.topic("input"), &records(0..2_000, ""));
        gate.hold(Kind::Produce);
        let engine = bed.start_named(&gate.brokers());
        let in_flight = |engine: &Engine| engine.metric("biplane_stage_in_flight_records", &[]);
        wait_until("the window is full", DEADLINE, || in_flight(&engine) >= WINDOW);
        let limit = if without == INTACT { DEADLINE } else { LIMIT };
        let paused = holds_within(limit, || engine.metric("biplane_stage_paused", &[]) == 1.0);
        // A batch is taken whole before the window is looked at again.
        let bounded = in_flight(&engine) <= WINDOW + 1.0;
        gate.open();
        wait_until("all are out", DEADLINE, || cluster.count(&bed.topic("output")) == 2_000);
        paused && bounded
    }
    assert!(check(INTACT));
    #[cfg(debug_assertions)]
    assert!(!check("window"));
}
