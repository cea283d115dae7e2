//! The order of keys while some of them fail for long and engines come, go and are killed.
//! `BIPLANE_TEST_PARKED_SECONDS` makes it as long as you like.

use std::time::{Duration, Instant};

use super::{Bed, DEADLINE, INTACT, faults};
use crate::support::{Cluster, Engine, wait_until};

const KEYS: usize = 200;
const ILL: usize = 20;

#[test]
fn every_keys_first_occurrences_stay_in_order_through_kills_and_rebalances() {
    let seconds = std::env::var("BIPLANE_TEST_PARKED_SECONDS").ok().and_then(|text| text.parse().ok());
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 3, "700ms", "", INTACT);
    let names: Vec<String> = (0..KEYS).map(|key| format!("k{key}")).collect();
    let path = |key: usize| if key < ILL { "bad" } else { "good" };
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(25));
    let start = |name| bed.start_with(&cluster, &[("BIPLANE_ENGINE_ID", name)]);
    let mut engines: Vec<Engine> = vec![start("one"), start("two")];
    let began = Instant::now();
    let (mut count, mut turn, mut kills, mut stops) = (0, 0, 0, 0);
    while Instant::now() < until {
        let records: Vec<_> = (0..KEYS).map(|key| (names[key].clone(), path(key), count)).collect();
        bed.produce(&cluster, &records);
        count += 1;
        if count % 5 != 0 {
            continue;
        }
        turn += 1;
        let before = bed.stub.asked();
        wait_until("something goes on", DEADLINE, || bed.stub.asked() > before + 20);
        match turn % 3 {
            // Killed and started again under its name.
            0 => {
                engines[0].kill();
                engines[0] = start("one");
                kills += 1;
            }
            // Killed, and its partitions go to the other.
            1 => {
                engines[1].kill();
                engines[1] = start("another");
                kills += 1;
            }
            // Stopped, and one that is new joins.
            _ => {
                engines[1].terminate(Duration::from_secs(20));
                engines[1] = start("two");
                stops += 1;
            }
        }
    }
    let refused = bed.stub.by_path().get("/bad").copied().unwrap_or_default();
    bed.heal();
    wait_until("all is done", DEADLINE + Duration::from_secs(60), || {
        bed.is_done(&cluster) && bed.is_cleared(&cluster)
    });
    let out = bed.out(&cluster);
    let all: usize = out.values().map(Vec::len).sum();
    let (disordered, missing) = faults(&out, &names, count);
    println!(
        "{} records of {KEYS} keys, {ILL} of them refused {refused} times, {kills} engines killed and {stops} stopped, \
         in {:.0} s: {missing} missing, {disordered} keys out of order, {} repeated",
        KEYS * count,
        began.elapsed().as_secs_f64(),
        all + missing - KEYS * count,
    );
    assert_eq!((disordered, missing), (0, 0), "{count} records a key");
}
