//! Claiming: due jobs become a batch under a lease, in one statement.

use std::time::{Duration, Instant};

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::connect::Database;
use super::error::StoreResult;
use super::ids::{BatchId, JobId, KindId, QueueId, Worker};
use super::limits::Claiming;
use crate::base::guard::{self, Guard};

/// How many jobs one batch may hold.
pub const BATCH_LIMIT: usize = 1000;

/// How long a job waits for one priority, in seconds: a lower number goes first.
pub const AGEING: f64 = 60.0;

/// How long a lost answer is asked for before the lease's own deadline settles it.
const ASK: Duration = Duration::from_secs(5);

/// Which of a queue's ready rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Jobs that never ran.
    New = 0,
    /// Jobs that come back: after a wait, a hand-back or a rescue.
    Again = 1,
    /// Jobs whose workers died too often: claim them one by one.
    Alone = 2,
}

/// What to claim. From a queue whose keys take turns `lane`, `priority` and `after` say nothing.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest {
    /// From this queue.
    pub queue: QueueId,
    /// How: what a [`Look`](super::Look) said. A queue that has changed since gives nothing.
    pub claiming: Claiming,
    /// From this lane of it.
    pub lane: Lane,
    /// Of this priority, from 1 to 9.
    pub priority: i16,
    /// Only rows above this number: see [`LowWater`](super::LowWater).
    pub after: i64,
    /// At most this many, and at most [`BATCH_LIMIT`]; one from [`Lane::Alone`].
    pub limit: usize,
    /// How long the lease is, from the claim on by the database's clock.
    pub lease: Duration,
}

/// One claimed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Its number among ready rows, for the low-water mark.
    pub seq: i64,
    /// The job.
    pub id: JobId,
    /// Which attempt this is, from 1 on.
    pub attempt: i16,
    /// How often it was rescued.
    pub rescues: i16,
    /// Its kind.
    pub kind: KindId,
    /// How many attempts it has.
    pub max_attempts: i16,
    /// Its args as JSON text.
    pub args: String,
    /// Whether it holds a unique key.
    pub keyed: bool,
    /// The trace it belongs to.
    pub trace: Option<String>,
    /// It should have started by now and must not any more: cancel it.
    pub expired: bool,
    /// From 1, which goes first, to 9.
    pub priority: i16,
    /// Whether something of it is remembered beside its payload, which goes as the job ends.
    pub remembered: bool,
    /// Whether it was started before, and not handed back untouched.
    pub started: bool,
    /// When it was to run, in milliseconds since the Unix epoch by the database's clock.
    pub run_at: i64,
    /// For how long it had been due when it was claimed.
    pub due_for: Duration,
}

/// The first due job of one lane and priority.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    /// Its lane.
    pub lane: Lane,
    /// Its priority.
    pub priority: i16,
    /// Its number among ready rows.
    pub seq: i64,
    /// The job.
    pub id: JobId,
    /// How long ago it was created, by the database's clock.
    pub age: Duration,
}

impl Database {
    /// Claims jobs under `batch`, a fresh [`BatchId`]. No jobs: no lease.
    ///
    /// # Errors
    /// Those of the database. Where [`StoreError::is_uncertain`](super::StoreError::is_uncertain) says so, jobs may be claimed all the same:
    /// [`Database::claim_surely`] asks.
    pub async fn claim(
        &self,
        worker: &Worker,
        batch: BatchId,
        request: &ClaimRequest,
    ) -> StoreResult<Vec<Claimed>> {
        let alone = request.lane == Lane::Alone && request.claiming != Claiming::Turns;
        let most = if alone { 1 } else { BATCH_LIMIT };
        let limit = request.limit.min(most);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let claim = statement(request.claiming);
        let claim = if guard::removed(Guard::OneTurn) {
            &claim.replace("biplane.open_turn", "biplane.turn_room")
        } else {
            claim
        };
        let query = sqlx::query(self.schema().sql(claim))
            .bind(batch.0)
            .bind(worker.id)
            .bind(worker.epoch)
            .bind(millis(request.lease))
            .bind(request.queue.0);
        let query = match request.claiming {
            Claiming::Turns => query.bind(limit as i64).bind(AGEING),
            Claiming::Free | Claiming::Limited => {
                query.bind(request.lane as i16).bind(request.priority).bind(request.after).bind(limit as i64)
            }
        };
        query.fetch_all(self.pool()).await?.iter().map(read).collect()
    }

    /// What `batch` still holds, and a new deadline for it: settles a claim whose answer was lost.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ask(&self, worker: &Worker, batch: BatchId, lease: Duration) -> StoreResult<Vec<Claimed>> {
        let ask = self.schema().sql(include_str!("sql/lease/ask.sql"));
        let rows = sqlx::query(ask)
            .bind(batch.0)
            .bind(worker.epoch)
            .bind(millis(lease))
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(read).collect()
    }

    /// As [`Database::claim`]; where the answer is lost, the database is asked for the batch until it
    /// answers, at most five seconds. What is not learnt by then comes back at the lease's deadline.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn claim_surely(
        &self,
        worker: &Worker,
        batch: BatchId,
        request: &ClaimRequest,
    ) -> StoreResult<Vec<Claimed>> {
        let lost = match self.claim(worker, batch, request).await {
            Err(error) if error.is_uncertain() && !guard::removed(Guard::AskForBatch) => error,
            answer => return answer,
        };
        let started = Instant::now();
        let mut wait = Duration::from_millis(20);
        loop {
            match self.ask(worker, batch, request.lease).await {
                Err(error) if error.is_transient() && started.elapsed() < ASK => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_millis(500));
                }
                Err(_) => return Err(lost),
                Ok(claimed) if claimed.is_empty() => return Err(lost),
                Ok(claimed) => return Ok(claimed),
            }
        }
    }
}

/// What claims from a queue of that sort.
fn statement(claiming: Claiming) -> &'static str {
    match claiming {
        Claiming::Free => letting_go!("sql/job/claim.sql", "sql/job/claimed.sql"),
        Claiming::Limited => letting_go!("sql/job/claim_limited.sql", "sql/job/claimed.sql"),
        Claiming::Turns => letting_go!("sql/job/claim_turns.sql", "sql/job/claimed.sql"),
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn read(row: &PgRow) -> StoreResult<Claimed> {
    Ok(Claimed {
        seq: row.try_get(0)?,
        id: JobId(row.try_get(1)?),
        attempt: row.try_get(2)?,
        rescues: row.try_get(3)?,
        kind: KindId(row.try_get(4)?),
        max_attempts: row.try_get(5)?,
        args: row.try_get(6)?,
        keyed: row.try_get(7)?,
        trace: row.try_get(8)?,
        expired: row.try_get(9)?,
        priority: row.try_get(10)?,
        remembered: row.try_get(11)?,
        started: row.try_get(12)?,
        run_at: row.try_get(13)?,
        due_for: Duration::try_from_secs_f64(row.try_get(14)?).unwrap_or_default(),
    })
}
