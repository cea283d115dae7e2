//! Faults of workers, connections and the server: no job lost, none finished twice.

use std::time::{Duration, Instant};

use biplane::base::guard::{Guard, without};
use biplane::store::{BatchId, ClaimRequest, Heartbeat, HeartbeatOptions, JobOptions, Lane, StoreError};

use super::{Work, done, open, outcomes};
use crate::support::{PrivatePostgres, Relay, TestDatabase, block_on, breathe, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

/// A worker slept past its lease, and another runs its jobs. What the first writes then, and what the second.
fn stale_and_good() -> (usize, usize) {
    block_on(async {
        let work = Work::new().await;
        work.put(3).await;
        let (old, claimed) = work.claim(Lane::New, 3).await;
        work.expire(&work.worker);
        work.database.rescue().await.expect("rescued");
        let other = work.database.register("other", "0").await.expect("registered");
        let new = BatchId::new();
        let again = work.database.claim(&other, new, &work.lane(Lane::Again, 3)).await.expect("claimed");
        let mut stale = 0;
        for batch in [old, new] {
            let settled = work.database.settle(&work.worker, &[batch], &outcomes(&claimed, &done())).await;
            stale += settled.expect("answered").written.len();
        }
        let good = work.database.settle(&other, &[new], &outcomes(&again, &done())).await;
        (stale, good.expect("answered").written.len())
    })
}

#[test]
fn a_worker_that_slept_past_its_lease_writes_nothing_and_the_next_writes_all() {
    assert_eq!(stale_and_good(), (0, 3));
    assert_eq!(without(Guard::Lease, stale_and_good), (3, 0), "without the fence the sleeper wins");
}

/// How many jobs a claim gets whose answer is lost, of three.
fn claimed_though_the_answer_is_lost() -> Result<usize, StoreError> {
    block_on(async {
        let work = Work::new().await;
        let relay = Relay::before(&work.server.url());
        // One connection that knows the statement already: what is lost is the claim's own answer.
        let database = open(&relay.url(&work.server.url()), 1);
        let request = work.request(3);
        assert!(database.claim(&work.worker, BatchId::new(), &request).await.expect("claimed").is_empty());
        work.put(3).await;
        relay.lose_next_answer();
        let claimed = database.claim_surely(&work.worker, BatchId::new(), &request).await;
        assert!(!relay.waits(), "the answer was lost");
        assert_eq!(work.count("ready"), 0, "the claim was carried out");
        claimed.map(|claimed| claimed.len())
    })
}

#[test]
fn a_claim_whose_answer_is_lost_is_settled_by_asking_for_its_batch() {
    assert_eq!(claimed_though_the_answer_is_lost(), Ok(3));
    let lost = without(Guard::AskForBatch, claimed_though_the_answer_is_lost);
    assert!(lost.is_err_and(|error| error.is_uncertain()), "without it the jobs wait for their deadline");
}

#[test]
fn outcomes_whose_answer_is_lost_are_sent_again_and_written_once() {
    block_on(async {
        let work = Work::new().await;
        let relay = Relay::before(&work.server.url());
        let database = open(&relay.url(&work.server.url()), 1);
        work.put(4).await;
        let (batch, claimed) = work.claim(Lane::New, 4).await;
        let all = outcomes(&claimed, &done());
        database.settle(&work.worker, &[batch], &all[..1]).await.expect("settled");
        relay.lose_next_answer();
        let lost = database.settle(&work.worker, &[batch], &all).await.expect_err("no answer");
        assert!(lost.is_uncertain() && !relay.waits(), "{lost}");
        let again = database.settle(&work.worker, &[batch], &all).await.expect("answered");
        assert_eq!(again.written.len(), 0);
        assert_eq!((work.count("done"), work.count("lease")), (4, 0));
    });
}

/// How many leases are taken back of a worker whose runtime is busy for longer than its lease.
fn rescued_while_busy() -> i64 {
    let work = block_on(Work::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let database = open(&work.server.url(), 1);
        database.enqueue("plain", "{}", None, &JobOptions::default()).await.expect("enqueued");
        let lease = Duration::from_secs(3);
        let options = HeartbeatOptions { every: lease / 5, lease };
        let heartbeat = Heartbeat::start(&database, work.worker, options).expect("a heartbeat");
        let (batch, claimed) = (BatchId::new(), Instant::now());
        let request = ClaimRequest { lease, ..work.request(1) };
        assert_eq!(database.claim(&work.worker, batch, &request).await.expect("claimed").len(), 1);
        heartbeat.hold(batch, claimed);
        // Blocks the runtime's only thread.
        wait_until("the lease would have ended", DEADLINE, || claimed.elapsed() > 2 * lease);
        let rescued = database.rescue().await.expect("rescued").batches;
        assert_eq!(heartbeat.remaining(batch).is_zero(), rescued == 1, "the worker knows as much itself");
        rescued
    })
}

#[test]
fn a_busy_runtime_keeps_its_leases() {
    assert_eq!(rescued_while_busy(), 0);
    assert_eq!(
        without(Guard::HeartbeatThread, rescued_while_busy),
        1,
        "without a thread of their own they stop"
    );
}

#[test]
fn a_server_without_a_connection_to_spare_is_short_of_something_for_now() {
    let server = PrivatePostgres::start(&["max_connections=5", "superuser_reserved_connections=0"]);
    block_on(async {
        let work = Work::on(TestDatabase::on(&server.url())).await;
        work.database.close().await;
        let database = open(&work.server.url(), 12);
        let mut putting = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let database = database.clone();
            putting.spawn(async move {
                let mut refused = 0;
                loop {
                    match database.enqueue("plain", "{}", None, &JobOptions::default()).await {
                        Ok(_) => return refused,
                        Err(error) => {
                            assert!(error.is_transient(), "{error}");
                            refused += 1;
                            breathe().await;
                        }
                    }
                }
            });
        }
        let refused: usize = putting.join_all().await.iter().sum();
        database.close().await;
        assert_eq!(work.count("ready"), 12, "refused {refused} times on the way");
    });
}
