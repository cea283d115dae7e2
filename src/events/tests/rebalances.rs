//! What a runner commits, keeps and gives up when its partitions come and go.

use super::bench::{Bench, DRAIN};
use super::*;

#[test]
fn a_hand_over_waits_for_what_is_sent_and_commits_it() {
    let mut bench = Bench::new();
    bench.assign(&[0, 1]);
    let sent = [bench.read(0, 0), bench.read(0, 1), bench.read(1, 0)];
    bench.revoke(false);
    assert!(!bench.handed_over(), "three sends are unanswered");
    bench.read(0, 2);
    assert_eq!(bench.next(0), Some(2), "nothing new starts");
    for id in sent {
        bench.pass(Duration::from_millis(10));
        assert!(!bench.handed_over());
        bench.runner.acknowledged(id, Ok(()));
    }
    bench.pass(Duration::from_millis(10));
    assert!(bench.handed_over());
    assert_eq!((bench.committed(0), bench.committed(1)), (Some(2), Some(1)));
    bench.assign(&[1]);
    assert_eq!((bench.next(0), bench.next(1), bench.repeated().as_str()), (None, Some(1), "0"));
}

#[test]
fn a_hand_over_past_drain_goes_on_where_the_partition_comes_back_and_counts_what_it_gives_up() {
    let mut bench = Bench::new();
    bench.assign(&[0, 1]);
    let (_, kept) = (bench.read(0, 0), bench.read(1, 0));
    bench.read(0, 1);
    bench.revoke(false);
    bench.pass(DRAIN - Duration::from_millis(1));
    assert!(!bench.handed_over());
    bench.pass(Duration::from_millis(1));
    assert!(bench.handed_over(), "the group waits no longer than `drain`");
    bench.assign(&[1]);
    assert_eq!((bench.committed(0), bench.next(1), bench.repeated().as_str()), (Some(0), Some(1), "2"));
    bench.runner.acknowledged(kept, Ok(()));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.committed(1), Some(1), "what came back went on where it stood");
}

#[test]
fn a_loss_waits_for_nothing_and_commits_nothing() {
    let mut bench = Bench::new();
    bench.assign(&[0]);
    let id = bench.read(0, 0);
    bench.runner.acknowledged(id, Ok(()));
    bench.revoke(true);
    assert!(bench.handed_over() && bench.runner.partitions.is_empty());
    assert_eq!(bench.committed(0), None);
}

/// The partitions are another member's by the time the look-up would be repeated.
#[test]
fn an_assignment_that_could_not_begin_is_not_tried_again_once_it_is_taken_back() {
    for lost in [true, false] {
        let mut bench = Bench::new();
        bench.book.lock().away = true;
        bench.assign(&[0, 1]);
        bench.pass(Duration::from_secs(2));
        assert_eq!(bench.book.lock().looked_up, 2, "tried again as long as they are ours");
        bench.revoke(lost);
        bench.book.lock().away = false;
        bench.pass(Duration::from_secs(5));
        assert_eq!(bench.book.lock().looked_up, 2);
        assert!(bench.runner.partitions.is_empty());
    }
}

/// This member was silent while it joined, and both partitions were another's for a while.
#[test]
fn what_another_member_committed_meanwhile_is_not_taken_back() {
    let mut bench = Bench::new();
    bench.assign(&[0, 1]);
    let stale = [bench.read(0, 0), bench.read(1, 0)];
    bench.revoke(false);
    bench.pass(DRAIN);
    bench.commit_elsewhere(1, 40);
    bench.assign(&[0, 1]);
    assert_eq!((bench.next(0), bench.next(1)), (Some(1), Some(40)));
    for id in stale {
        bench.runner.acknowledged(id, Ok(()));
    }
    bench.pass(Duration::from_secs(1));
    assert_eq!((bench.committed(0), bench.committed(1)), (Some(1), Some(40)));
    bench.revoke(false);
    bench.commit_elsewhere(0, 0);
    bench.assign(&[0]);
    assert_eq!(bench.next(0), Some(0), "an offset that was set back counts too");
}

/// Whether a commit without an answer was carried out is not known: either way it was made here.
#[test]
fn a_commit_without_an_answer_does_not_give_up_what_comes_back() {
    for carried_out in [false, true] {
        let mut bench = Bench::new();
        bench.assign(&[0]);
        let (first, _) = (bench.read(0, 0), bench.read(0, 1));
        bench.runner.acknowledged(first, Ok(()));
        bench.book.lock().away = true;
        bench.revoke(false);
        bench.pass(DRAIN);
        bench.book.lock().away = false;
        if carried_out {
            bench.commit_elsewhere(0, 1);
        }
        bench.assign(&[0]);
        assert_eq!((bench.next(0), bench.repeated().as_str()), (Some(2), "0"));
    }
}

/// The epoch that is given up may have been followed by the next before the runner hears of it.
#[test]
fn what_ends_while_an_epoch_is_given_up_is_not_sent_in_the_next() {
    let mut bench = Bench::new();
    bench.assign(&[0]);
    bench.read(0, 0);
    bench.runner.must_abort = true;
    bench.read(0, 1);
    assert_eq!((bench.next(0), bench.book.lock().sent.len()), (Some(2), 1));
    bench.runner.must_abort = false;
    bench.runner.send_blocked();
    assert_eq!(bench.book.lock().sent.len(), 2);
}
