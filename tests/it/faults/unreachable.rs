//! No broker can be reached, and then the engine is to stop.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, numbers};
use crate::support::gate::{Gate, Kind};
use crate::support::{Message, PrivateKafka, wait_until};

/// All brokers are gone while sends hang and more records wait: what is held stays within the window, and
/// SIGTERM ends the engine once `drain` and the limits for leaving are over, with every stage having left
/// by itself. What was given up comes out in the next life. Without `drain-limit` the stage waits for
/// answers that never come, and the engine ends without it.
#[test]
fn with_all_brokers_gone_memory_is_bounded_and_sigterm_ends_the_engine_in_time() {
    const COUNT: i64 = 12_000;
    const WINDOW: usize = 2_000;
    /// Whether every stage had left.
    fn check(broker: &mut PrivateKafka, without: &'static str) -> bool {
        let cluster = broker.cluster();
        let stage = format!(
            "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ndrain = \"1s\"\n\
             window = {{ records = {WINDOW}, bytes = \"4MiB\" }}\n"
        );
        let bed = Bed::new(&cluster, 2, &stage, without);
        let gate = Gate::before(&cluster);
        gate.hold(Kind::Produce);
        let pad = "x".repeat(2_000);
        let record = |number: i64| {
            Message::json(format!("key-{}", number % 20), &json!({"number": number, "pad": pad}))
        };
        cluster.produce(&bed.topic("input"), &(0..COUNT).map(record).collect::<Vec<_>>());
        let mut engine = bed.start_at(&gate.brokers(), &[]);
        let held = |bed: &crate::support::Engine| bed.metric("biplane_stage_in_flight_bytes", &[]);
        wait_until("sends hang", DEADLINE, || held(&engine) > 3_000_000.0);
        // Without its guard the stage has to wait for answers alone: a group that is lost would end that, too.
        if without.is_empty() {
            broker.kill();
            gate.cut();
            wait_until("the engine is not ready", DEADLINE, || {
                engine.get("/ready").is_some_and(|answer| answer.status == 503)
            });
        }
        let (held, resident) = (held(&engine), engine.resident_bytes());
        assert!(held <= 4_200_000.0 && resident < 150 << 20, "{held} in flight, {resident} resident");
        let asked = Instant::now();
        assert!(engine.terminate(Duration::from_secs(15)).success(), "{}", engine.log());
        eprintln!(
            "ended {:?} after SIGTERM, {} MiB resident: {}",
            asked.elapsed(),
            resident >> 20,
            engine.log().lines().rev().nth(1).unwrap_or_default()
        );
        let left = !engine.log().contains("had not left its group");
        gate.open();
        if without.is_empty() {
            broker.restart();
            let _engine = bed.start(&cluster);
            wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT);
            let out: BTreeSet<_> = numbers(&cluster.read_all(&bed.topic("output"))).into_iter().collect();
            assert_eq!(out.len() as i64, COUNT);
        }
        left
    }
    let mut broker = PrivateKafka::start();
    assert!(check(&mut broker, INTACT));
    #[cfg(debug_assertions)]
    assert!(!check(&mut broker, "drain-limit"));
}
