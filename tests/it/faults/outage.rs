//! An output that cannot be reached for long, while its input and the group can.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, numbers};
use crate::support::gate::{Gate, Kind};
use crate::support::{Cluster, Message, wait_until};

/// What came of an outage.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    lost: usize,
    disordered: usize,
    repeated: usize,
    /// Whether a send was given up singly.
    refused: bool,
}

const CALM: Found = Found { lost: 0, disordered: 0, repeated: 0, refused: false };

/// The output is unreachable for `BIPLANE_TEST_OUTAGE_SECONDS` (12 by default), several times longer than
/// the client's own time-outs, which break its connections again and again. Nothing times out singly;
/// when the output is back, all is there once and in order. Without `endless-sends` single sends are
/// given up, and what the broker had taken of them repeats.
#[test]
fn an_output_unreachable_for_long_loses_repeats_and_reorders_nothing() {
    let named = std::env::var("BIPLANE_TEST_OUTAGE_SECONDS").ok();
    let seconds = named.and_then(|seconds| seconds.parse().ok()).unwrap_or(12);
    assert_eq!(check(Duration::from_secs(seconds), INTACT), CALM);
    #[cfg(debug_assertions)]
    assert!(check(Duration::from_secs(5), "endless-sends").refused);
}

fn check(outage: Duration, without: &'static str) -> Found {
    const COUNT: i64 = 6_000;
    const KEYS: i64 = 40;
    let cluster = Cluster::shared();
    let gate = Gate::before(&cluster);
    let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n\
        window = { records = 2000, bytes = \"4MiB\" }\n";
    let bed = Bed::new(&cluster, 4, stage, without);
    let records: Vec<_> = (0..COUNT)
        .map(|number| Message::json(format!("key-{}", number % KEYS), &json!({"number": number})))
        .collect();
    cluster.produce(&bed.topic("input"), &records[..COUNT as usize / 2]);
    let short = [("BIPLANE_KAFKA_REQUEST_TIMEOUT_MS", "1500"), ("BIPLANE_KAFKA_SOCKET_TIMEOUT_MS", "2000")];
    let mut engine = bed.start_at(&gate.brokers(), &short);
    wait_until("some are out", DEADLINE, || cluster.count(&bed.topic("output")) > 0);
    gate.hold(Kind::Produce);
    cluster.produce(&bed.topic("input"), &records[COUNT as usize / 2..]);
    let (began, mut most) = (Instant::now(), 0.0_f64);
    wait_until("the outage is over", outage + DEADLINE, || {
        most = most.max(engine.metric("biplane_stage_in_flight_records", &[]));
        began.elapsed() >= outage
    });
    let resident = engine.resident_bytes();
    gate.open();
    let back = Instant::now();
    wait_until("all is committed", DEADLINE, || bed.committed(&cluster) >= COUNT);
    let (took, log) = (back.elapsed(), engine.log());
    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
    let found = look(&numbers(&cluster.read_all(&bed.topic("output"))), COUNT, KEYS, &log);
    eprintln!(
        "{outage:?} without the output: {most} in flight at most, {} MiB resident, {} requests held, \
         done {took:?} after its end, {found:?}",
        resident >> 20,
        gate.held()
    );
    assert!(most <= 2_001.0 && resident < 150 << 20, "{most} in flight, {resident} bytes");
    found
}

fn look(numbers: &[i64], count: i64, keys: i64, log: &str) -> Found {
    let (mut newest, mut seen) = (BTreeMap::new(), BTreeSet::new());
    let mut found = Found { refused: log.contains("a send was refused"), ..CALM };
    for number in numbers {
        if seen.insert(number) {
            let before = newest.insert(number % keys, number);
            found.disordered += usize::from(before.is_some_and(|before| before > number));
        } else {
            found.repeated += 1;
        }
    }
    found.lost = count as usize - seen.len();
    found
}
