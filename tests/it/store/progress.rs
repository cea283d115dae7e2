//! What is remembered of a job between its attempts, and what comes where they are spent.

use std::time::Duration;

use biplane::store::{
    Beside, Claimed, JobId, JobOptions, KindDefinition, Lane, Outcome, UniqueRule, Verdict,
};

use super::{Work, done, kind, outcomes};
use crate::support::block_on;

/// Settles one job with what is to be remembered of it. False: nothing was written.
async fn settle(
    work: &Work,
    (batch, claimed): &(biplane::store::BatchId, Vec<Claimed>),
    verdict: Verdict,
    kept: &str,
) -> bool {
    let beside = Beside { kept: Some(kept.to_owned()), ..Beside::default() };
    let outcomes: Vec<Outcome> = outcomes(claimed, &verdict)
        .into_iter()
        .map(|outcome| Outcome { beside: beside.clone(), ..outcome })
        .collect();
    let settled = work.database.settle(&work.worker, &[*batch], &outcomes).await.expect("settled");
    settled.written.len() == claimed.len()
}

fn retry() -> Verdict {
    Verdict::Retry { delay: Duration::ZERO, code: "busy".to_owned(), detail: "{}".to_owned() }
}

fn failed() -> Verdict {
    Verdict::Failed { code: "http-500".to_owned(), detail: r#"{"message": "no", "step": "ask"}"#.to_owned() }
}

#[test]
fn what_steps_gave_is_there_for_the_next_attempt_and_goes_with_the_job() {
    block_on(async {
        let work = Work::new().await;
        let ids = work.put(2).await;
        let first = work.claim(Lane::New, 1).await;
        assert!(!first.1[0].remembered && !first.1[0].started);
        let text = r#"[{"step":"a","print":1,"result":"\u0000"}]"#;
        assert!(settle(&work, &first, retry(), text).await);
        work.database.promote().await.expect("promoted");
        let again = work.claim(Lane::Again, 1).await;
        assert!(again.1[0].remembered && again.1[0].started);
        assert_eq!(work.database.kept(ids[0]).await.expect("read").as_deref(), Some(text));
        // Handed back untouched, it is as it was.
        assert_eq!(work.settle(again.0, &again.1, &Verdict::Back).await, 1);
        let (batch, claimed) = work.claim(Lane::Again, 1).await;
        assert_eq!(work.database.kept(ids[0]).await.expect("read").as_deref(), Some(text));
        assert_eq!(work.settle(batch, &claimed, &done()).await, 1);
        assert_eq!((work.count("progress"), work.count("done")), (0, 1));
        assert_eq!(work.database.kept(ids[1]).await.expect("read"), None);
    });
}

#[test]
fn a_worker_that_lost_its_lease_makes_nobody_remember_anything() {
    block_on(async {
        let work = Work::new().await;
        work.put(1).await;
        let lost = work.claim(Lane::New, 1).await;
        work.expire(&work.worker);
        work.database.rescue().await.expect("rescued");
        assert!(!settle(&work, &lost, retry(), "[]").await);
        assert_eq!(work.count("progress"), 0);
        let (_, claimed) = work.claim(Lane::Again, 1).await;
        assert!(claimed[0].started, "it may have been");
    });
}

#[test]
fn a_job_that_was_scheduled_knows_for_when_and_a_kill_does_not_change_that() {
    block_on(async {
        let work = Work::new().await;
        let later = "2999-01-01T00:00:00Z".parse().expect("a time");
        let options = JobOptions { run_at: Some(later), ..JobOptions::default() };
        let id = work.database.enqueue("plain", "{}", None, &options).await.expect("enqueued");
        work.server.execute("update biplane.deferred set run_at = '2026-01-02T03:04:05.678Z'");
        work.database.promote().await.expect("promoted");
        for started in [false, true] {
            let (_, claimed) = work.claim(Lane::Again, 1).await;
            let Claimed { run_at, due_for, .. } = claimed[0];
            assert_eq!((claimed[0].id, run_at, claimed[0].started), (id, 1_767_323_045_678, started));
            assert!(due_for > Duration::from_secs(1), "{due_for:?}");
            work.expire(&work.worker);
            work.database.rescue().await.expect("rescued");
        }
        let plain = work.put(1).await[0];
        let (_, claimed) = work.claim(Lane::New, 1).await;
        assert_eq!((claimed[0].id, claimed[0].run_at), (plain, plain.enqueued_at()));
    });
}

#[test]
fn only_a_job_that_nobody_started_expires() {
    block_on(async {
        let work = Work::new().await;
        let soon = "2999-01-01T00:00:00Z".parse().expect("a time");
        let options = JobOptions { expires_at: Some(soon), ..JobOptions::default() };
        for verdict in [Verdict::Snooze { delay: Duration::ZERO }, Verdict::Back] {
            work.database.enqueue("plain", "{}", None, &options).await.expect("enqueued");
            let started = work.claim(Lane::New, 1).await;
            assert!(!started.1[0].expired);
            assert!(settle(&work, &started, verdict, "[]").await);
        }
        work.database.promote().await.expect("promoted");
        work.database.enqueue("plain", "{}", None, &options).await.expect("enqueued");
        let untouched = work.claim(Lane::New, 1).await;
        assert_eq!(work.settle(untouched.0, &untouched.1, &Verdict::Back).await, 1);
        work.server.execute("update biplane.job set expires_at = now()");
        let (_, claimed) = work.claim(Lane::Again, 3).await;
        let expired: Vec<_> = claimed.iter().map(|job| job.id == untouched.1[0].id).collect();
        assert_eq!(claimed.iter().map(|job| job.expired).collect::<Vec<_>>(), expired);
        assert_eq!(expired.len(), 3);
    });
}

/// A kind whose spent jobs enqueue one of `other`.
fn telling(other: &str) -> KindDefinition {
    KindDefinition { exhausted_enqueues: Some(other.to_owned()), ..kind("telling", UniqueRule::default()) }
}

async fn exhaust(work: &Work, args: &str) -> JobId {
    let id = work.put_one("telling", args).await;
    let claimed = work.claim(Lane::New, 1).await;
    assert!(settle(work, &claimed, failed(), "[]").await);
    // Sent again after a lost answer, it is held no more.
    assert!(!settle(work, &claimed, failed(), "[]").await);
    id
}

#[test]
fn where_attempts_are_spent_the_other_job_is_enqueued_once_with_the_failure() {
    block_on(async {
        let work = Work::new().await;
        work.database.publish(&[], &[telling("plain")]).await.expect("published");
        let id = exhaust(&work, r#"{"n": 7}"#).await;
        assert_eq!(work.state(id).await, "failed");
        let (_, told) = work.claim(Lane::New, 5).await;
        assert_eq!((told.len(), told[0].kind), (1, work.plain));
        let args: serde_json::Value = serde_json::from_str(&told[0].args).expect("args");
        assert_eq!((&args["args"]["n"], &args["job"]["id"]), (&7.into(), &id.to_string().into()));
        assert_eq!((&args["job"]["kind"], &args["job"]["attempt"]), (&"telling".into(), &1.into()));
        assert_eq!((&args["error"]["code"], &args["error"]["step"]), (&"http-500".into(), &"ask".into()));
        assert_eq!(args["job"]["run_at"].as_str().map(str::len), Some("2026-01-02T03:04:05.678Z".len()));
    });
}

#[test]
fn a_job_that_its_worker_dies_of_enqueues_the_other_too() {
    block_on(async {
        let work = Work::new().await;
        work.database.publish(&[], &[telling("plain")]).await.expect("published");
        work.put_one("telling", "{}").await;
        let claimed = work.claim(Lane::New, 1).await;
        assert_eq!(claimed.1.len(), 1);
        work.server.execute("update biplane.lease set attempts = '{3}', rescues = '{3}'");
        work.expire(&work.worker);
        assert_eq!(work.database.rescue().await.expect("rescued").failed, 1);
        let (_, told) = work.claim(Lane::New, 1).await;
        assert!(told[0].args.contains("worker-lost"), "{}", told[0].args);
    });
}

#[test]
fn what_keeps_the_other_job_out_does_not_keep_the_failure_from_being_written() {
    block_on(async {
        let work = Work::new().await;
        work.database.publish(&[], &[telling("unheard-of")]).await.expect("published");
        let id = exhaust(&work, "{}").await;
        assert_eq!(work.state(id).await, "failed");
        let noted = work.server.value("select error ->> 'on_exhausted' from biplane.failed");
        assert!(noted.contains("unheard-of"), "{noted}");
        // Of args that leave no room for more the other job is told all but them.
        work.database.publish(&[], &[telling("plain")]).await.expect("published");
        exhaust(&work, &format!("\"{}\"", "x".repeat((1 << 20) - 100))).await;
        let (_, told) = work.claim(Lane::New, 5).await;
        let args: serde_json::Value = serde_json::from_str(&told[0].args).expect("args");
        assert_eq!(
            (told.len(), args["args"].is_null(), &args["error"]["code"]),
            (1, true, &"http-500".into())
        );
    });
}
