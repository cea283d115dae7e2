//! The small loops beside the queues: rescue, promotion, days of partitions, notifications.
//!
//! Any number of engines may run each; the database sees to it that nothing is done twice. An error is
//! logged and the next round tries again.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::wakes::Wakes;
use crate::base::guard::{self, Guard};
use crate::store::{Database, Listener, StoreResult};

/// Leases past their deadline are looked for this often.
const RESCUE: Duration = Duration::from_secs(3);

/// Cancelled jobs that did not end are looked for this often.
const FENCE: Duration = Duration::from_secs(3);

/// What is due later is looked for this often.
const PROMOTE: Duration = Duration::from_secs(1);

/// Partitions are looked after this often.
const DAYS: Duration = Duration::from_secs(3600);

/// How long a listener that failed is left alone.
const RECONNECT: Duration = Duration::from_secs(1);

/// How long nobody listens where nothing comes through.
const DEAF: Duration = Duration::from_secs(300);

/// Takes back what dead workers held, until cancelled.
pub async fn rescue(database: Database, wakes: Arc<Wakes>, cancel: CancellationToken) {
    while wait(RESCUE, &cancel).await {
        if guard::removed(Guard::Rescue) {
            continue;
        }
        match database.rescue().await {
            Ok(rescued) if rescued.batches > 0 => {
                warn!(
                    batches = rescued.batches,
                    returned = rescued.returned,
                    failed = rescued.failed,
                    "leases past their deadline were taken back"
                );
                wakes.all();
            }
            done => log("rescue", done),
        }
    }
}

/// Ends jobs whose workers were asked to end them and did not in time, until cancelled.
pub async fn fence(database: Database, cancel: CancellationToken) {
    while wait(FENCE, &cancel).await {
        match database.fence_cancelled().await {
            Ok(fenced) if fenced > 0 => {
                warn!(fenced, "cancelled jobs were taken from workers that had not ended them in time");
            }
            done => log("fencing of cancelled jobs", done),
        }
    }
}

/// Moves what has become due to its queue, until cancelled.
pub async fn promote(database: Database, wakes: Arc<Wakes>, cancel: CancellationToken) {
    while wait(PROMOTE, &cancel).await {
        match database.promote().await {
            Ok(promoted) if promoted.due > 0 => wakes.all(),
            done => log("promotion", done),
        }
    }
}

/// How long what has ended is kept, in whole days from the one on which it was enqueued or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Payloads that nothing names any more.
    pub payloads: i32,
    /// Outcomes, and workers that were never heard of again.
    pub outcomes: i32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { payloads: 30, outcomes: 30 }
    }
}

/// Makes the coming days and drops those of payloads and outcomes that are old, until cancelled.
pub async fn keep_days(database: Database, retention: Retention, cancel: CancellationToken) {
    loop {
        log("making partitions", database.make_days().await);
        loop {
            match database.drop_jobs(retention.payloads).await {
                Ok(Some(day)) => info!(%day, "a day of payloads was dropped"),
                done => break log("dropping payloads", done),
            }
        }
        loop {
            match database.forget_enqueued(retention.payloads).await {
                Ok(forgotten) if forgotten > 0 => {}
                done => break log("forgetting what steps enqueued", done),
            }
        }
        log("dropping outcomes", database.drop_done(retention.outcomes).await);
        log("forgetting workers", database.forget_workers(retention.outcomes).await);
        log("forgetting jobs", database.forget().await);
        log("forgetting requests", database.forget_requests().await);
        log("forgetting callbacks", database.drop_callbacks(retention.outcomes).await);
        if !wait(DAYS, &cancel).await {
            return;
        }
    }
}

/// Wakes queues as they are notified of, until cancelled. While no listener works, polling finds the work.
pub async fn listen(database: Database, wakes: Arc<Wakes>, cancel: CancellationToken) {
    loop {
        let heard = cancel.run_until_cancelled(hear(&database, &wakes)).await;
        wakes.set_listening(false);
        let again = match heard {
            None => return,
            Some(Ok(())) => {
                info!(
                    "notifications do not come through, as past a pooler: new jobs are found by polling alone"
                );
                DEAF
            }
            Some(failed) => {
                log("listening", failed);
                RECONNECT
            }
        };
        if !wait(again, &cancel).await {
            return;
        }
    }
}

/// Returns only where the connection is gone for good, or nothing is heard on it.
async fn hear(database: &Database, wakes: &Wakes) -> StoreResult<()> {
    let Some(mut listener) = Listener::open(database).await? else { return Ok(()) };
    if !listener.hears(database).await? {
        return Ok(());
    }
    wakes.set_listening(true);
    wakes.all();
    loop {
        match listener.next().await? {
            Some(queue) => wakes.one(&queue),
            None => wakes.all(),
        }
    }
}

/// `false`: cancelled.
async fn wait(time: Duration, cancel: &CancellationToken) -> bool {
    cancel.run_until_cancelled(tokio::time::sleep(time)).await.is_some()
}

fn log<T, E: Display>(what: &str, done: Result<T, E>) {
    if let Err(error) = done {
        warn!(%error, what, "a service of the command plane failed and tries again");
    }
}
