//! What comes back: rescued, handed back, retried; how often, and where to.

use std::time::Duration;

use biplane::store::{Lane, Verdict};

use super::{Work, done};
use crate::support::block_on;

#[test]
fn only_leases_past_their_deadline_are_taken_back_and_all_of_those() {
    block_on(async {
        let work = Work::new().await;
        work.put(90).await;
        let other = work.database.register("other", "0").await.expect("registered");
        for n in 0..45 {
            let worker = if n % 9 == 0 { other } else { work.worker };
            let batch = biplane::store::BatchId::new();
            work.database.claim(&worker, batch, &work.request(2)).await.expect("claimed");
        }
        work.expire(&work.worker);
        let mut rescuers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let database = work.database.clone();
            rescuers.spawn(async move { database.rescue().await.expect("rescued") });
        }
        let rescued = rescuers.join_all().await;
        assert_eq!(rescued.iter().map(|one| one.batches).sum::<i64>(), 40);
        assert_eq!(rescued.iter().map(|one| one.returned).sum::<i64>(), 80);
        assert_eq!((work.count("lease"), work.count("ready")), (5, 80));
    });
}

#[test]
fn a_rescue_spends_no_attempt_and_the_fourth_claim_is_alone() {
    block_on(async {
        let work = Work::new().await;
        work.put(2).await;
        let mut lane = Lane::New;
        for rescues in 0..3 {
            let (_, claimed) = work.claim(lane, 10).await;
            let seen: Vec<_> = claimed.iter().map(|job| (job.attempt, job.rescues)).collect();
            assert_eq!(seen, [(1, rescues), (1, rescues)]);
            work.expire(&work.worker);
            assert_eq!(work.database.rescue().await.expect("rescued").returned, 2);
            lane = Lane::Again;
        }
        assert!(work.claim(Lane::Again, 10).await.1.is_empty());
        let (good, healthy) = work.claim(Lane::Alone, 10).await;
        assert_eq!(healthy.len(), 1, "one by one");
        assert_eq!(work.settle(good, &healthy, &done()).await, 1);
        // The other one kills its worker whenever it runs: each death of its own spends an attempt.
        for attempt in 1..=3 {
            let (_, claimed) = work.claim(Lane::Alone, 10).await;
            assert_eq!(claimed.iter().map(|job| job.attempt).collect::<Vec<_>>(), [attempt]);
            work.expire(&work.worker);
            work.database.rescue().await.expect("rescued");
        }
        assert_eq!((work.count("ready"), work.count("failed"), work.count("done")), (0, 1, 1));
        assert_eq!(work.server.value("select code from biplane.failed"), "worker-lost");
    });
}

#[test]
fn what_is_handed_back_keeps_its_attempt_and_its_order_in_the_lane_of_what_comes_back() {
    block_on(async {
        let work = Work::new().await;
        let ids = work.put(5).await;
        let (batch, claimed) = work.claim(Lane::New, 5).await;
        assert_eq!(work.settle(batch, &claimed, &Verdict::Back).await, 5);
        let (_, again) = work.claim(Lane::Again, 5).await;
        assert_eq!(again.iter().map(|job| job.id).collect::<Vec<_>>(), ids);
        assert!(again.iter().all(|job| job.attempt == 1 && job.rescues == 0));
    });
}

#[test]
fn a_retry_is_promoted_once_it_is_due_with_its_next_attempt() {
    block_on(async {
        let work = Work::new().await;
        work.put(1200).await;
        for _ in 0..2 {
            let (batch, claimed) = work.claim(Lane::New, 600).await;
            let retry =
                Verdict::Retry { delay: Duration::ZERO, code: "timeout".to_owned(), detail: "{}".to_owned() };
            assert_eq!(work.settle(batch, &claimed, &retry).await, 600);
        }
        assert_eq!(work.count("deferred"), 1200);
        let later = Verdict::Snooze { delay: Duration::from_secs(3600) };
        work.put(1).await;
        let (batch, claimed) = work.claim(Lane::New, 1).await;
        work.settle(batch, &claimed, &later).await;
        let mut promoters = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let database = work.database.clone();
            promoters.spawn(async move { database.promote().await.expect("promoted").due });
        }
        assert_eq!(promoters.join_all().await.iter().sum::<i64>(), 1200);
        assert_eq!(work.database.promote().await.expect("promoted").due, 0);
        let (_, again) = work.claim(Lane::Again, 1000).await;
        assert!(again.iter().all(|job| job.attempt == 2));
        assert_eq!((work.count("deferred"), work.count("ready")), (1, 200));
    });
}

#[test]
fn a_job_that_cannot_be_promoted_blocks_no_other() {
    block_on(async {
        let work = Work::new().await;
        work.put(3).await;
        let (batch, claimed) = work.claim(Lane::New, 3).await;
        work.settle(batch, &claimed, &Verdict::Snooze { delay: Duration::ZERO }).await;
        // A row that breaks a rule of `ready` on its way: only a fault or a hand could make one.
        let job = claimed[0].id;
        work.server
            .execute(&format!("alter table biplane.ready add constraint broken check (job_id <> {job})"));
        let (mut due, mut put_off) = (0, 0);
        let promoting = async {
            // What a server has refused it still holds for a moment, good or bad, and a look meanwhile passes over it.
            while due < 3 {
                let promoted = work.database.promote().await.expect("promoted");
                due += promoted.due;
                put_off += promoted.put_off;
            }
        };
        tokio::time::timeout(super::LONG, promoting).await.expect("all are moved or put off");
        assert_eq!((due, put_off), (3, 1));
        assert_eq!((work.count("ready"), work.count("deferred")), (2, 1));
        assert_eq!(work.database.promote().await.expect("promoted").due, 0, "it is not tried again at once");
    });
}
