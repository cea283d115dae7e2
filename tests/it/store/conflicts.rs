//! What becomes of a waiting job whose unique key is wanted again.

use std::time::Duration;

use biplane::store::{BatchId, JobId, JobOptions, Lane, Verdict};
use chrono::{TimeDelta, Utc};

use super::{LONG, Work, done};
use crate::support::block_on;

impl Work {
    /// With what `unique` does where its key is held.
    async fn with_conflict(conflict: &str) -> Self {
        let work = Self::new().await;
        let kinds = "update biplane.kind set on_conflict";
        work.server.execute(&format!("{kinds} = '{conflict}' where name = 'unique'"));
        work
    }

    async fn put_due(&self, args: &str, hours: i64) -> JobId {
        let run_at = Some(Utc::now() + TimeDelta::hours(hours));
        let options = JobOptions { run_at, ..JobOptions::default() };
        self.database.enqueue("unique", args, None, &options).await.expect("enqueued")
    }

    async fn args(&self, id: JobId) -> String {
        self.database.show_job(id).await.expect("shown").expect("known").args.expect("args")
    }

    async fn due_in_hours(&self, id: JobId) -> f64 {
        let job = self.database.show_job(id).await.expect("shown").expect("known");
        (job.until_seconds.expect("it is due at some time") / 3600.0).round()
    }
}

fn retry(delay: Duration) -> Verdict {
    Verdict::Retry { delay, code: "x".to_owned(), detail: "{}".to_owned() }
}

#[test]
fn a_job_that_waits_takes_the_new_args_and_one_that_runs_is_left_alone() {
    block_on(async {
        let work = Work::with_conflict("replace-args").await;
        let first = work.put_due(r#"{"key": 1, "n": 1}"#, 1).await;
        assert_eq!(work.put_one("unique", r#"{"key": 1, "n": 2}"#).await, first);
        assert_eq!(
            (work.args(first).await.as_str(), work.due_in_hours(first).await),
            (r#"{"n": 2, "key": 1}"#, 1.0)
        );
        work.server.execute("update biplane.deferred set run_at = now()");
        work.database.promote().await.expect("promoted");
        assert_eq!(work.put_one("unique", r#"{"key": 1, "n": 3}"#).await, first);

        let (batch, claimed) = work.claim(Lane::Again, 1).await;
        assert_eq!(claimed[0].args, r#"{"n": 3, "key": 1}"#);
        assert_eq!(work.put_one("unique", r#"{"key": 1, "n": 4}"#).await, first);
        assert_eq!(work.args(first).await, r#"{"n": 3, "key": 1}"#, "it runs");
        work.settle(batch, &claimed, &retry(LONG)).await;
        assert_eq!(work.put_one("unique", r#"{"key": 1, "n": 5}"#).await, first);
        assert_eq!(
            (work.args(first).await.as_str(), work.state(first).await.as_str()),
            (r#"{"n": 5, "key": 1}"#, "retrying")
        );

        let other = work.put_one("unique", r#"{"key": 2, "n": 1}"#).await;
        work.put_one("unique", r#"{"key": 2, "n": 2}"#).await;
        let (batch, claimed) = work.claim(Lane::New, 1).await;
        assert_eq!((claimed[0].id, claimed[0].args.as_str()), (other, r#"{"n": 2, "key": 2}"#));
        work.settle(batch, &claimed, &done()).await;
        assert_ne!(work.put_one("unique", r#"{"key": 2, "n": 3}"#).await, other, "it is over");
    });
}

#[test]
fn a_job_that_takes_other_args_waits_under_their_key() {
    block_on(async {
        let work = Work::with_conflict("replace-args").await;
        work.server.execute("update biplane.queue set turns_by = '{n}'");
        work.put_one("unique", r#"{"key": 1, "n": 1}"#).await;
        work.put_one("unique", r#"{"key": 1, "n": 2}"#).await;
        let keyed = "select r.key_hash = biplane.turn_key('{n}', '{\"n\": 2}') from biplane.ready r";
        assert_eq!(work.server.value(keyed), "true");
    });
}

#[test]
fn a_job_that_waits_is_due_when_the_new_one_would_have_been() {
    block_on(async {
        let work = Work::with_conflict("push-back").await;
        let first = work.put_one("unique", r#"{"key": 1}"#).await;
        for hours in [2, 5, 1] {
            assert_eq!(work.put_due(r#"{"key": 1, "n": 2}"#, hours).await, first);
            assert_eq!(
                (work.state(first).await.as_str(), work.due_in_hours(first).await),
                ("scheduled", hours as f64)
            );
        }
        assert_eq!(work.args(first).await, r#"{"key": 1}"#, "its args are its own");
        assert_eq!(work.put_one("unique", r#"{"key": 1}"#).await, first, "due now");
        assert_eq!(work.database.promote().await.expect("promoted").due, 1);
        assert_eq!(work.put_one("unique", r#"{"key": 1}"#).await, first);
        assert_eq!(work.state(first).await, "queued");

        let (batch, claimed) = work.claim(Lane::Again, 1).await;
        assert_eq!(work.put_due(r#"{"key": 1}"#, 3).await, first);
        assert_eq!(work.state(first).await, "running");
        work.settle(batch, &claimed, &retry(Duration::from_secs(4 * 3600))).await;
        work.put_one("unique", r#"{"key": 1}"#).await;
        assert_eq!(work.due_in_hours(first).await, 4.0, "a retry is not hurried");
        work.put_due(r#"{"key": 1}"#, 6).await;
        assert_eq!(work.due_in_hours(first).await, 6.0);
        work.server.execute("update biplane.deferred set run_at = now()");
        work.database.promote().await.expect("promoted");
        work.put_due(r#"{"key": 1}"#, 7).await;
        let shown = work.database.show_job(first).await.expect("shown").expect("known");
        assert_eq!((shown.state.as_str(), shown.attempt), ("scheduled", 2), "its attempts are kept");
    });
}

#[test]
fn in_a_bulk_the_last_args_of_a_key_count_and_each_job_is_there_once() {
    block_on(async {
        let work = Work::with_conflict("replace-args").await;
        let held = work.put_one("unique", r#"{"key": 1, "n": 1}"#).await;
        let bulk = [
            r#"{"key": 2, "n": 2}"#,
            r#"{"key": 1, "n": 3}"#,
            r#"{"key": 2, "n": 4}"#,
            r#"{"key": 1, "n": 5}"#,
        ];
        let put = work
            .database
            .enqueue_many("unique", &bulk, None, &JobOptions::default())
            .await
            .expect("enqueued");
        assert_eq!(put.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, false]);
        assert_eq!(work.args(held).await, r#"{"n": 5, "key": 1}"#);
        assert_eq!(work.args(put[0].expect("new")).await, r#"{"n": 4, "key": 2}"#);
        assert_eq!((work.count("job"), work.count("ready"), work.count("unique_claim")), (2, 2, 2));
    });
}

#[test]
fn what_a_job_runs_with_is_what_was_there_when_it_was_claimed_whoever_writes_at_that_time() {
    block_on(async {
        let work = Work::with_conflict("replace-args").await;
        let mut putting = tokio::task::JoinSet::new();
        for put in 0..4 {
            let database = work.database.clone();
            putting.spawn(async move {
                for round in 0..150 {
                    let args = format!("{{\"key\": {}, \"n\": {}}}", round % 3, round * 4 + put);
                    let bulk = [args.as_str()];
                    let options = JobOptions::default();
                    if put % 2 == 0 {
                        database.enqueue("unique", &args, None, &options).await.expect("enqueued");
                    } else {
                        database.enqueue_many("unique", &bulk, None, &options).await.expect("enqueued");
                    }
                }
            });
        }
        let mut ran = Vec::new();
        let mut emptied = false;
        while !emptied {
            let last = putting.is_empty();
            while putting.try_join_next().is_some_and(|ended| ended.map(|()| true).expect("no panic")) {}
            let batch = BatchId::new();
            let claimed = work.database.claim(&work.worker, batch, &work.request(10)).await.expect("claimed");
            work.settle(batch, &claimed, &done()).await;
            emptied = last && claimed.is_empty();
            ran.extend(claimed.into_iter().map(|job| (job.id, job.args)));
        }
        assert!(ran.len() > 10, "{}", ran.len());
        for (id, args) in ran {
            assert_eq!(work.args(id).await, args, "nothing was written behind its back");
        }
        assert_eq!((work.count("unique_claim"), work.count("ready")), (0, 0));
    });
}
