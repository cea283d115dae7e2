//! Unique keys: one holder, from enqueue until its job leaves the chosen states, over every way out.

use std::time::Duration;

use biplane::store::{JobOptions, Lane, Verdict};

use super::{Work, done};
use crate::support::block_on;

#[test]
fn a_key_is_held_from_enqueue_to_the_end_and_by_one_job() {
    block_on(async {
        let work = Work::new().await;
        let first = work.put_one("unique", r#"{"key": "a"}"#).await;
        assert_eq!(work.put_one("unique", r#"{"key": "a", "more": 1}"#).await, first);
        assert_ne!(work.put_one("unique", r#"{"key": "b"}"#).await, first);
        let (batch, claimed) = work.claim(Lane::New, 1).await;
        assert!(claimed[0].keyed);
        assert_eq!(work.put_one("unique", r#"{"key": "a"}"#).await, first, "while it runs");
        let retry = Verdict::Retry { delay: Duration::ZERO, code: "x".to_owned(), detail: "{}".to_owned() };
        work.settle(batch, &claimed, &retry).await;
        assert_eq!(work.put_one("unique", r#"{"key": "a"}"#).await, first, "while it waits for a retry");
        work.database.promote().await.expect("promoted");
        let (batch, claimed) = work.claim(Lane::Again, 1).await;
        assert_eq!(claimed.iter().map(|job| job.id).collect::<Vec<_>>(), [first]);
        work.settle(batch, &claimed, &done()).await;
        assert_ne!(work.put_one("unique", r#"{"key": "a"}"#).await, first, "it is over");
    });
}

#[test]
fn a_key_that_is_given_counts_for_any_kind_and_exhausted_jobs_let_go() {
    block_on(async {
        let work = Work::new().await;
        let options = JobOptions::default();
        let first = work.database.enqueue("plain", "{}", Some("k"), &options).await.expect("enqueued");
        assert_eq!(work.database.enqueue("plain", "{}", Some("k"), &options).await.expect("enqueued"), first);
        let (batch, claimed) = work.claim(Lane::New, 1).await;
        let failed = Verdict::Failed { code: "x".to_owned(), detail: "{}".to_owned() };
        work.settle(batch, &claimed, &failed).await;
        let second = work.database.enqueue("plain", "{}", Some("k"), &options).await.expect("enqueued");
        assert_ne!(second, first);
    });
}

#[test]
fn many_at_once_with_the_same_keys_make_one_job_a_key() {
    block_on(async {
        let work = Work::new().await;
        let mut putting = tokio::task::JoinSet::new();
        for round in 0..8 {
            let database = work.database.clone();
            putting.spawn(async move {
                let mut args: Vec<String> = (0..100).map(|n| format!("{{\"key\": {}}}", n % 50)).collect();
                if round % 2 == 1 {
                    args.reverse();
                }
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let ids = database.enqueue_many("unique", &args, None, &JobOptions::default()).await;
                ids.expect("enqueued").into_iter().flatten().count()
            });
        }
        assert_eq!(putting.join_all().await.iter().sum::<usize>(), 50);
        assert_eq!((work.count("job"), work.count("ready"), work.count("unique_claim")), (50, 50, 50));
    });
}

#[test]
fn a_key_that_is_held_for_a_period_outlives_its_job() {
    block_on(async {
        let work = Work::new().await;
        work.server.execute("update biplane.kind set unique_seconds = 3600 where name = 'unique'");
        let first = work.put_one("unique", r#"{"key": 1}"#).await;
        let (batch, claimed) = work.claim(Lane::New, 1).await;
        work.settle(batch, &claimed, &done()).await;
        assert_eq!(work.put_one("unique", r#"{"key": 1}"#).await, first, "within the hour");
        work.server.execute("update biplane.unique_claim set expires_at = now()");
        assert_ne!(work.put_one("unique", r#"{"key": 1}"#).await, first);
    });
}

#[test]
fn of_a_batch_that_comes_back_only_those_end_whose_keys_others_hold_now() {
    block_on(async {
        let work = Work::new().await;
        let args: Vec<String> = (0..10).map(|key| format!("{{\"key\": {key}}}")).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let options = JobOptions::default();
        let put = work.database.enqueue_many("waiting", &args, None, &options).await.expect("enqueued");
        let (batch, claimed) = work.claim(Lane::New, 10).await;
        let newer =
            work.database.enqueue_many("waiting", &args[..4], None, &options).await.expect("enqueued");
        assert_eq!(newer.iter().flatten().count(), 4);
        assert_eq!(work.settle(batch, &claimed, &Verdict::Back).await, 10);
        let promoted = work.database.promote().await.expect("promoted");
        assert_eq!((promoted.due, promoted.superseded, promoted.put_off), (10, 4, 0));
        for (place, id) in put.into_iter().flatten().enumerate() {
            assert_eq!(work.state(id).await, if place < 4 { "cancelled" } else { "queued" }, "{place}");
        }
        let (batch, claimed) = work.claim(Lane::Again, 10).await;
        assert_eq!(work.settle(batch, &claimed, &done()).await, 6);
        assert_eq!((work.count("ready"), work.count("lease"), work.count("unique_claim")), (4, 0, 4));
    });
}

#[test]
fn a_job_that_comes_back_to_a_key_that_another_holds_ends_visibly_and_its_batch_is_unharmed() {
    block_on(async {
        let work = Work::new().await;
        let first = work.put_one("waiting", r#"{"key": 1}"#).await;
        let other = work.put_one("waiting", r#"{"key": 2}"#).await;
        let (batch, claimed) = work.claim(Lane::New, 2).await;
        assert_eq!(work.count("unique_claim"), 0, "both were let go as they started");
        let second = work.put_one("waiting", r#"{"key": 1}"#).await;
        assert_ne!(second, first);
        work.settle(batch, &claimed, &Verdict::Back).await;
        let promoted = work.database.promote().await.expect("promoted");
        assert_eq!((promoted.due, promoted.superseded), (2, 1));
        assert_eq!(work.state(first).await, "cancelled");
        assert_eq!(
            work.database.show_job(first).await.expect("shown").expect("known").code.as_deref(),
            Some("superseded")
        );
        assert_eq!(work.state(other).await, "queued");
        assert_eq!(work.put_one("waiting", r#"{"key": 2}"#).await, other, "it holds its key again");
        assert_eq!(work.state(second).await, "queued");
    });
}
