//! What a runner says of itself while something is wrong, and how it tries again.

use super::bench::Bench;
use super::*;
use crate::broker::ConsumeError;

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

#[test]
fn a_stage_whose_partitions_cannot_begin_is_starting_and_says_why_as_long_as_it_lasts() {
    let mut bench = Bench::new();
    bench.assign(&[0]);
    let second = Duration::from_secs(1);
    let state = |bench: &Bench| (bench.shared.status().state, bench.shared.status().reason);
    bench.pass(second);
    assert_eq!(state(&bench), ("running".to_owned(), None));
    bench.revoke(false);
    bench.book.lock().away = true;
    bench.assign(&[0]);
    for _ in 0..30 {
        bench.pass(second);
        let (state, reason) = state(&bench);
        assert!(state == "starting" && reason.is_some_and(|reason| reason.contains("nobody there")));
    }
    bench.book.lock().away = false;
    bench.pass(second);
    bench.pass(second);
    assert_eq!(state(&bench), ("running".to_owned(), None));
}

#[test]
fn what_troubled_a_stage_is_forgotten_after_a_while_and_why_it_halted_never() {
    let mut bench = Bench::new();
    bench.assign(&[0]);
    bench.runner.consume_error(&ConsumeError::Other("a hiccup".to_owned()));
    let minute = Duration::from_secs(60);
    bench.pass(minute / 2);
    assert!(bench.shared.status().reason.is_some());
    bench.pass(minute);
    assert_eq!(bench.shared.status().reason, None);
    bench.runner.consume_error(&ConsumeError::Other("another".to_owned()));
    bench.runner.halt("for good".to_owned());
    bench.revoke(false);
    bench.assign(&[0]);
    bench.pass(2 * minute);
    let status = bench.shared.status();
    assert_eq!((status.state.as_str(), status.reason.as_deref()), ("halted", Some("for good")));
}
