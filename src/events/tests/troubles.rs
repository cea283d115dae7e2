//! What a runner says of itself while something is wrong, and how it tries again.

use super::bench::Bench;
use super::*;

/// Every producer is beyond repair at its first answer, as where the cluster denies idempotent writes.
#[test]
fn a_producer_that_is_refused_again_and_again_is_told_of_and_tried_ever_more_slowly() {
    let mut bench = Bench::new();
    bench.assign(&[0]);
    let second = Duration::from_secs(1);
    for _ in 0..600 {
        if !bench.runner.must_abort {
            let id = bench.read(0, 0);
            bench.runner.acknowledged(id, Err(SendError::Fatal("not allowed".to_owned())));
        }
        bench.pass(second / 10);
    }
    let aborts = bench.book.lock().aborts;
    assert!((9..15).contains(&aborts), "{aborts} producers in a minute");
    let reason = bench.shared.status().reason.unwrap_or_default();
    assert!(reason.contains("not allowed"), "{reason}");
}
