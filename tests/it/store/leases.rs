//! Outcomes are written once, by the holder of the lease; batches are settled in parts.

use std::time::{Duration, Instant};

use biplane::store::{BatchId, Heartbeat, HeartbeatOptions, Lane, Verdict};

use super::{LONG, Work, done, outcomes};
use crate::support::{block_on, wait_until};

#[test]
fn a_batch_is_settled_in_parts_and_whoever_takes_the_last_deletes_the_lease() {
    block_on(async {
        let work = Work::new().await;
        work.put(10).await;
        let (batch, claimed) = work.claim(Lane::New, 10).await;
        assert_eq!(work.settle(batch, &claimed[3..7], &done()).await, 4);
        assert_eq!(work.server.value("select cardinality(job_ids) from biplane.lease"), "6");
        assert_eq!(work.settle(batch, &claimed, &done()).await, 6, "what is settled is settled once");
        assert_eq!((work.count("lease"), work.count("done")), (0, 10));
        assert_eq!(work.settle(batch, &claimed, &done()).await, 0);
        assert_eq!(work.count("done"), 10);
    });
}

#[test]
fn parts_of_one_batch_that_are_settled_at_once_are_each_written() {
    block_on(async {
        let work = Work::new().await;
        work.put(400).await;
        let (batch, claimed) = work.claim(Lane::New, 400).await;
        let mut settling = tokio::task::JoinSet::new();
        for part in claimed.chunks(25) {
            let (database, worker, part) = (work.database.clone(), work.worker, outcomes(part, &done()));
            settling.spawn(async move { database.settle(&worker, &[batch], &part).await.expect("settled") });
        }
        let written: usize = settling.join_all().await.iter().map(|one| one.written.len()).sum();
        assert_eq!(written, 400);
        assert_eq!((work.count("lease"), work.count("done")), (0, 400));
    });
}

#[test]
fn several_batches_are_settled_in_one_go() {
    block_on(async {
        let work = Work::new().await;
        work.put(9).await;
        let mut all = Vec::new();
        let mut batches = Vec::new();
        for _ in 0..3 {
            let (batch, claimed) = work.claim(Lane::New, 3).await;
            batches.push(batch);
            all.extend(claimed);
        }
        let mut twice = outcomes(&all, &done());
        twice.extend(outcomes(&all, &done()));
        let settled = work.database.settle(&work.worker, &batches, &twice).await.expect("settled");
        assert_eq!(
            (settled.written.len(), settled.stale.len()),
            (9, 0),
            "one that is named twice counts once"
        );
        assert_eq!((work.count("lease"), work.count("done")), (0, 9));
    });
}

#[test]
fn every_verdict_leaves_the_job_where_it_says() {
    block_on(async {
        let work = Work::new().await;
        work.put(7).await;
        let (batch, claimed) = work.claim(Lane::New, 7).await;
        let code = || "timeout".to_owned();
        let verdicts = [
            (Verdict::Succeeded { detail: Some(r#"{"rows": 3}"#.to_owned()) }, "succeeded"),
            (Verdict::Cancelled { code: "expired".to_owned() }, "cancelled"),
            (Verdict::Discarded { code: code(), detail: None }, "discarded"),
            (Verdict::Failed { code: code(), detail: r#"{"message": "no"}"#.to_owned() }, "failed"),
            (Verdict::Retry { delay: LONG, code: code(), detail: "{}".to_owned() }, "retrying"),
            (Verdict::Snooze { delay: LONG }, "scheduled"),
            (Verdict::Back, "queued"),
        ];
        let mut all = Vec::new();
        for (job, (verdict, _)) in claimed.iter().zip(&verdicts) {
            all.extend(outcomes(std::slice::from_ref(job), verdict));
        }
        let settled = work.database.settle(&work.worker, &[batch], &all).await.expect("settled");
        assert_eq!(settled.written.len(), 7);
        let mut attempts = Vec::new();
        for (job, (_, state)) in claimed.iter().zip(&verdicts) {
            assert_eq!(work.state(job.id).await, *state);
            attempts.push(work.database.show_job(job.id).await.expect("shown").expect("known").attempt);
        }
        assert_eq!(attempts, [1, 1, 1, 1, 2, 1, 1], "only a failure that is tried again spends an attempt");
        assert_eq!(work.count("lease"), 0);
    });
}

#[test]
fn a_job_that_graduates_is_settled_under_its_own_lease() {
    block_on(async {
        let work = Work::new().await;
        work.put(3).await;
        let (batch, claimed) = work.claim(Lane::New, 3).await;
        let alone = BatchId::new();
        let graduate = |batch, job, alone| work.database.graduate(&work.worker, batch, job, alone, LONG);
        assert!(graduate(batch, claimed[1].id, alone).await.expect("graduated"));
        assert!(
            !graduate(batch, claimed[1].id, BatchId::new()).await.expect("asked"),
            "it is not there any more"
        );
        assert_eq!(work.count("lease"), 2);
        assert_eq!(work.settle(batch, &claimed, &done()).await, 2);
        assert_eq!(work.settle(alone, &claimed[1..2], &done()).await, 1);
        assert_eq!((work.count("lease"), work.count("done")), (0, 3));
    });
}

#[test]
fn heartbeats_extend_what_they_name_and_tell_what_was_lost() {
    block_on(async {
        let work = Work::new().await;
        work.put(2).await;
        let (kept, _) = work.claim(Lane::New, 1).await;
        let (lost, _) = work.claim(Lane::New, 1).await;
        let options = HeartbeatOptions { every: Duration::from_millis(50), lease: Duration::from_secs(3600) };
        let heartbeat = Heartbeat::start(&work.database, work.worker, options).expect("a heartbeat");
        let claimed = Instant::now();
        heartbeat.hold(kept, claimed);
        assert!(heartbeat.remaining(kept) > Duration::from_secs(3590));
        assert_eq!(heartbeat.remaining(lost), Duration::ZERO);
        work.server.execute(&format!("delete from biplane.lease where batch_id = '{lost}'"));
        heartbeat.hold(lost, claimed);
        let mut told = Vec::new();
        wait_until("the lost batch is told", Duration::from_secs(20), || {
            told.extend(heartbeat.take_lost());
            !told.is_empty()
        });
        assert_eq!(told, [lost]);
        wait_until("the lease is an hour long", Duration::from_secs(20), || {
            let asked = "select deadline_at > now() + interval '50 minutes' from biplane.lease";
            work.server.value(asked) == "true"
        });
        heartbeat.release(kept);
        assert_eq!(heartbeat.remaining(kept), Duration::ZERO);
    });
}
