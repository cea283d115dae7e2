//! Heartbeats: a worker says that it lives and extends the leases it holds.
//!
//! They have a thread, a runtime and a connection of their own, so that a busy runtime or an exhausted pool
//! cannot make a worker look dead. Where the server has none to spare the pool gives up one of its own. This machine's clock measures durations only: a lease ends by the
//! database's clock, and here never later than there.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::{Connection, PgConnection, Row};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::claims::millis;
use super::connect::{Database, acquire, open};
use super::error::{StoreError, StoreResult};
use super::ids::{BatchId, JobId, Worker};
use crate::base::guard::{self, Guard};

/// How often and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatOptions {
    /// How often leases are extended.
    pub every: Duration,
    /// How long a lease is from each heartbeat on.
    pub lease: Duration,
}

impl Default for HeartbeatOptions {
    /// Every three seconds for fifteen: what a killed worker held starts elsewhere within twenty.
    fn default() -> Self {
        Self { every: Duration::from_secs(3), lease: Duration::from_secs(15) }
    }
}

/// A running heartbeat. Dropping it ends it; leases then run out.
#[derive(Debug)]
pub struct Heartbeat {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    worker: Worker,
    options: HeartbeatOptions,
    /// Beats have a connection of their own.
    alone: bool,
    held: Mutex<Held>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Held {
    /// What is held, and since when at the latest its lease is sure to run.
    batches: HashMap<BatchId, Instant>,
    lost: HashSet<BatchId>,
    /// Jobs that somebody wants ended, as the last beat said.
    asked: HashSet<JobId>,
}

impl Heartbeat {
    /// Begins to beat for `worker`.
    ///
    /// # Errors
    /// [`StoreError::Other`] where no thread can be started.
    pub fn start(database: &Database, worker: Worker, options: HeartbeatOptions) -> StoreResult<Self> {
        let alone = !guard::removed(Guard::HeartbeatThread);
        let shared = Arc::new(Shared {
            database: database.clone(),
            worker,
            options,
            alone,
            held: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let beats = beat(Arc::clone(&shared));
        if !alone {
            tokio::runtime::Handle::current().spawn(beats);
            return Ok(Self { shared, thread: None });
        }
        let failed = |error: std::io::Error| StoreError::Other {
            retriable: true,
            message: format!("no thread for heartbeats: {error}"),
        };
        let guards = guard::inherited();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("biplane-heartbeat".to_owned())
            .spawn(move || {
                guards.adopt();
                runtime.block_on(beats);
            })
            .map_err(failed)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Extends this batch's lease from now on. `claimed` is when its claim was sent, not when it was answered.
    pub fn hold(&self, batch: BatchId, claimed: Instant) {
        self.shared.held.lock().batches.insert(batch, claimed);
    }

    /// This batch is settled: its lease is extended no more.
    pub fn release(&self, batch: BatchId) {
        let mut held = self.shared.held.lock();
        held.batches.remove(&batch);
        held.lost.remove(&batch);
    }

    /// How long this batch's lease is sure to run; nothing once it may have ended, or where it is not held.
    /// Work that cannot end within it aborts itself.
    pub fn remaining(&self, batch: BatchId) -> Duration {
        let held = self.shared.held.lock();
        let until = held.batches.get(&batch).map(|since| *since + self.shared.options.lease);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// The jobs among what this worker holds that an operator wants ended.
    pub fn asked(&self) -> Vec<JobId> {
        self.shared.held.lock().asked.iter().copied().collect()
    }

    /// Whether an operator wants this job ended.
    pub fn is_asked(&self, job: JobId) -> bool {
        self.shared.held.lock().asked.contains(&job)
    }

    /// The batches that were held and whose leases have been taken back since the last time this was asked.
    pub fn take_lost(&self) -> Vec<BatchId> {
        self.shared.held.lock().lost.drain().collect()
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn beat(shared: Arc<Shared>) {
    let mut connection = None;
    while !shared.stop.is_cancelled() {
        let sent = Instant::now();
        let beat = Box::pin(beat_once(&shared, &mut connection));
        let beat = tokio::time::timeout(shared.options.every, beat);
        match until(&shared.stop, beat).await {
            None => return,
            Some(Ok(Ok(()))) => {}
            Some(failed) => {
                // What is left of a statement on it is not known: the next beat opens another.
                connection = None;
                match failed {
                    Ok(Err(error)) => warn!(%error, "a heartbeat failed"),
                    _ => warn!(within = ?shared.options.every, "a heartbeat was not answered"),
                }
            }
        }
        let rest = shared.options.every.saturating_sub(sent.elapsed());
        if until(&shared.stop, tokio::time::sleep(rest)).await.is_none() {
            return;
        }
    }
}

async fn until<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    stop.run_until_cancelled(work).await
}

async fn beat_once(shared: &Shared, connection: &mut Option<PgConnection>) -> StoreResult<()> {
    let settings = shared.database.settings();
    let pool = shared.database.connections();
    let (mut pooled, mut given_up);
    let connection = match connection {
        Some(connection) => connection,
        None if !shared.alone => {
            pooled = acquire(pool).await?;
            &mut *pooled
        }
        None => match open(settings, settings.direct()).await {
            Ok(opened) => connection.insert(opened),
            Err(StoreError::Busy(_)) if !guard::removed(Guard::YieldToBeats) => {
                // Closed after this beat, which makes room for one of the next beat's own.
                given_up = acquire(pool).await?.detach();
                &mut given_up
            }
            Err(error) => return Err(error),
        },
    };
    let named: Vec<BatchId> = shared.held.lock().batches.keys().copied().collect();
    let sent = Instant::now();
    let sql = settings.schema().sql(include_str!("sql/worker/beat.sql"));
    // Past a pooler its parts have to reach one server.
    let mut transaction = connection.begin().await?;
    let rows = sqlx::query(sql)
        .persistent(false)
        .bind(shared.worker.id)
        .bind(shared.worker.epoch)
        .bind(named.iter().map(|batch| batch.0).collect::<Vec<Uuid>>())
        .bind(millis(shared.options.lease))
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let mut extended = HashSet::with_capacity(rows.len());
    let mut asked = HashSet::new();
    for row in &rows {
        match (row.try_get::<Option<Uuid>, _>(0)?, row.try_get::<Option<i64>, _>(1)?) {
            (Some(batch), _) => drop(extended.insert(BatchId(batch))),
            (None, Some(job)) => drop(asked.insert(JobId(job))),
            (None, None) => {}
        }
    }
    let mut held = shared.held.lock();
    held.asked = asked;
    for batch in named {
        if extended.contains(&batch) {
            if let Some(since) = held.batches.get_mut(&batch) {
                *since = sent;
            }
        } else if held.batches.remove(&batch).is_some() {
            held.lost.insert(batch);
        }
    }
    Ok(())
}
