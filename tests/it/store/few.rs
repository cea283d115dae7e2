//! A server with fewer connections than its clients would have.

use std::time::{Duration, Instant};

use biplane::base::guard::{Guard, without};
use biplane::store::{
    BatchId, ClaimRequest, Database, DatabaseSettings, Heartbeat, HeartbeatOptions, JobOptions, Schema,
    StoreError,
};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use super::away::on_this_thread;
use super::running::until;
use super::{Work, open};
use crate::support::{PrivatePostgres, TestDatabase, breathe, connect};

/// What a pool of four waits for at most.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a server says that has none left.
const REFUSAL: &str = "too many clients";

fn server() -> PrivatePostgres {
    PrivatePostgres::start(&["max_connections=6", "superuser_reserved_connections=0"])
}

/// Every connection that the server still has.
async fn take_all(url: &str) -> Vec<PgConnection> {
    let mut taken = Vec::new();
    while let Ok(connection) = PgConnection::connect(url).await {
        taken.push(connection);
    }
    taken
}

/// Holds up whoever arms a queue, until it is closed.
async fn lock_queues(url: &str) -> PgConnection {
    let mut lock = connect(url).await;
    let locked = sqlx::raw_sql("begin; lock table biplane.queue in access exclusive mode").execute(&mut lock);
    locked.await.expect("locked");
    lock
}

async fn wait_for_waiting(lock: &mut PgConnection, count: i64) {
    let waiting = "select count(*) from pg_locks where not granted";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *lock).await.expect("asked") < count {
        breathe().await;
    }
}

/// How a statement fares that begins while the server refuses its pool another connection, before one is given back.
fn asked_while_others_ask() -> Result<(), StoreError> {
    let server = server();
    on_this_thread(async {
        let work = Work::on(TestDatabase::on(&server.url())).await;
        work.database.close().await;
        let url = work.server.url();
        let settings = DatabaseSettings::new(&url, None, Schema::default())?;
        let pool = Database::with_patience(settings, 4, PATIENCE);
        let mut lock = lock_queues(&url).await;
        let (mut first, mut second) = (JoinSet::new(), JoinSet::new());
        let arming = pool.clone();
        first.spawn(async move { arming.arm(&[], Duration::ZERO).await });
        wait_for_waiting(&mut lock, 1).await;
        let _others = take_all(&url).await;
        let refused = || server.log().matches(REFUSAL).count();
        let before = refused();
        second.spawn(async move { pool.kinds().await });
        until("it is refused", || refused() > before).await;
        sqlx::raw_sql("rollback").execute(&mut lock).await.expect("unlocked");
        first.join_next().await.expect("a task").expect("no panic")?;
        second.join_next().await.expect("a task").expect("no panic").map(drop)
    })
}

#[test]
fn who_waits_for_a_server_without_a_connection_to_spare_takes_one_that_is_given_back() {
    assert_eq!(asked_while_others_ask(), Ok(()));
    let refused = without(Guard::TakeIdle, asked_while_others_ask);
    assert!(matches!(refused, Err(StoreError::Busy(_))), "{refused:?}");
}

/// How many leases are taken back of a worker whose pool had all of the server's connections when its heartbeats began.
fn rescued_beside_a_full_pool() -> i64 {
    let server = server();
    on_this_thread(async {
        let work = Work::on(TestDatabase::on(&server.url())).await;
        work.database.close().await;
        let url = work.server.url();
        let pool = open(&url, 8);
        pool.enqueue("plain", "{}", None, &JobOptions::default()).await.expect("enqueued");
        let mut lock = lock_queues(&url).await;
        let mut arming = JoinSet::new();
        for _ in 0..4 {
            let pool = pool.clone();
            arming.spawn(async move { pool.arm(&[], Duration::ZERO).await });
        }
        wait_for_waiting(&mut lock, 4).await;
        lock.close().await.expect("closed");
        arming.join_all().await;
        let _others = take_all(&url).await;
        let lease = Duration::from_secs(3);
        let options = HeartbeatOptions { every: lease / 5, lease };
        let (batch, claimed) = (BatchId::new(), Instant::now());
        let request = ClaimRequest { lease, ..work.request(1) };
        assert_eq!(pool.claim(&work.worker, batch, &request).await.expect("claimed").len(), 1);
        let heartbeat = Heartbeat::start(&pool, work.worker, options).expect("a heartbeat");
        heartbeat.hold(batch, claimed);
        until("the lease would have ended", || claimed.elapsed() > 2 * lease).await;
        pool.rescue().await.expect("rescued").batches
    })
}

#[test]
fn a_pool_that_has_every_connection_gives_one_up_for_heartbeats() {
    assert_eq!(rescued_beside_a_full_pool(), 0);
    assert_eq!(without(Guard::YieldToBeats, rescued_beside_a_full_pool), 1);
}
