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
    let mut count = 0;
    let mut turn = 0;
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
            }
            // Killed, and its partitions go to the other.
            1 => {
                engines[1].kill();
                engines[1] = start("another");
            }
            // Stopped, and one that is new joins.
            _ => {
                engines[1].terminate(Duration::from_secs(20));
                engines[1] = start("two");
            }
        }
    }
    bed.heal();
    wait_until("all is done", DEADLINE + Duration::from_secs(60), || {
        bed.is_done(&cluster) && bed.is_cleared(&cluster)
    });
    assert_eq!(faults(&bed.out(&cluster), &names, count), (0, 0), "{count} records a key");
}
