//! Going on elsewhere because somebody said so.

use std::sync::mpsc;

use super::bench::{Bench, name};
use super::*;
use crate::events::reset::{Reset, WasReset};

fn ask(bench: &mut Bench, to: &[(i32, i64)]) -> mpsc::Receiver<WasReset> {
    let (answers, answered) = mpsc::channel();
    let to = to.iter().map(|(partition, offset)| (name(*partition), *offset)).collect();
    bench.runner.reset(Reset { id: Arc::from("a"), to, answers });
    answered
}

fn pass(bench: &mut Bench) {
    // Asked for, and answered.
    bench.pass(Duration::from_secs(2));
    bench.pass(Duration::from_millis(1));
}

#[test]
fn a_partition_goes_on_where_it_was_told_and_says_so_once_that_is_committed() {
    let mut bench = Bench::new();
    bench.assign(&[0, 1]);
    let finished = bench.read(0, 0);
    bench.read(0, 1);
    bench.runner.acknowledged(finished, Ok(()));
    bench.book.lock().away = true;
    let answered = ask(&mut bench, &[(0, 40), (7, 3)]);
    pass(&mut bench);
    assert!(answered.try_recv().is_err(), "no commit says it");
    assert_eq!((bench.next(0), bench.next(1)), (Some(40), Some(0)));
    bench.book.lock().away = false;
    pass(&mut bench);
    pass(&mut bench);
    let said = WasReset { id: Arc::from("a"), partition: name(0), from: Some(1), to: 40 };
    assert_eq!(answered.try_iter().collect::<Vec<_>>(), [said], "once, and of none that is not read here");
    assert_eq!(bench.committed(0), Some(40));
    assert_eq!(bench.repeated(), "1", "one was sent and not acknowledged");
}

#[test]
fn what_was_fetched_before_does_not_pass_for_what_is_there() {
    let mut bench = Bench::new();
    bench.assign(&[0]);
    bench.read(0, 10);
    let _answered = ask(&mut bench, &[(0, 4)]);
    let sent = bench.book.lock().sent.len();
    bench.read(0, 11);
    assert_eq!((bench.book.lock().sent.len(), bench.next(0)), (sent, Some(4)));
    bench.read(0, 4);
    assert_eq!(bench.next(0), Some(5));
}

#[test]
fn a_partition_that_is_lost_before_its_commit_is_not_answered_for() {
    let mut bench = Bench::new();
    bench.assign(&[0]);
    bench.read(0, 0);
    bench.book.lock().away = true;
    let answered = ask(&mut bench, &[(0, 9)]);
    bench.revoke(true);
    bench.book.lock().away = false;
    bench.assign(&[0]);
    pass(&mut bench);
    pass(&mut bench);
    assert!(answered.try_recv().is_err());
    assert_eq!(bench.committed(0), Some(0), "where it began anew");
}
