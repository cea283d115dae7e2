//! A server that is killed again and again under loops that run.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use biplane::base::guard::{Guard, without};
use biplane::store::{Database, DatabaseSettings, JobId, JobOptions, Schema};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::Work;
use super::away::{comes_within, on_this_thread};
use super::running::{Running, until};
use crate::support::{PrivatePostgres, TestDatabase, breathe};

/// How long a connection is waited for: for less than the server is away.
const PATIENCE: Duration = Duration::from_secs(1);

const LEASE: Duration = Duration::from_secs(4);

/// Enqueues until it is ended. What is not acknowledged may be there or not; what is counts.
pub(super) async fn keep_putting(database: Database, put: Arc<Mutex<HashSet<JobId>>>) {
    loop {
        match database.enqueue_many("plain", &["{}"; 20], None, &JobOptions::default()).await {
            Ok(ids) => put.lock().extend(ids.into_iter().flatten()),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        breathe().await;
    }
}

/// Whether every job ends within `limit` after so many kills; then each has ended once, and none is gone that was acknowledged.
fn all_end_after(kills: usize, limit: Duration) -> bool {
    let mut server = PrivatePostgres::start(&["fsync=on"]);
    on_this_thread(async {
        let work = Work::on(TestDatabase::on(&server.url())).await;
        let settings = DatabaseSettings::new(&work.server.url(), None, Schema::default()).expect("a URL");
        let database = Database::with_patience(settings, 8, PATIENCE);
        let put = Arc::new(Mutex::new(HashSet::new()));
        let mut putting = JoinSet::new();
        putting.spawn(keep_putting(database.clone(), Arc::clone(&put)));
        let running = Running::with(&work, database, work.worker, LEASE);
        for kill in 1..=kills {
            until("work goes on", || put.lock().len() >= kill * 100).await;
            server.kill();
            let down = Instant::now();
            until("a claim has failed", || down.elapsed() > 2 * PATIENCE).await;
            server.restart();
        }
        putting.shutdown().await;
        let left = "(select count(*) from biplane.ready) + (select count(*) from biplane.lease)";
        let left = format!("select {left} + (select count(*) from biplane.deferred)");
        if !comes_within(limit, || work.server.value(&left) == "0").await {
            running.kill().await;
            return false;
        }
        running.stop().await;
        let known = put.lock().iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(",");
        let lost = format!(
            "select count(*) from unnest('{{{known}}}'::bigint[]) n where n not in (select job_id from biplane.done)"
        );
        assert_eq!(work.server.value(&lost), "0", "of {} that were acknowledged", put.lock().len());
        let twice = "select count(*) - count(distinct job_id) from biplane.done";
        assert_eq!((work.server.value(twice).as_str(), work.count("failed")), ("0", 0));
        true
    })
}

#[test]
fn every_job_ends_once_though_the_server_is_killed_again_and_again() {
    assert!(all_end_after(2, Duration::from_secs(60)));
    assert!(!without(Guard::ClaimAgain, || all_end_after(1, 2 * LEASE)));
}
