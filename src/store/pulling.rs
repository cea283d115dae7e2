//! What workers need that pull their jobs and hold no connection: to keep a batch, to tell how far a job is, and to
//! learn what of a batch is still theirs before they say what became of it.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::claims::millis;
use super::connect::Database;
use super::error::StoreResult;
use super::ids::{BatchId, JobId, KindId, Worker};
use super::settle::{Beside, Outcome, Verdict, unguarded};

/// How many jobs one look for overdue ones finds.
const PAGE: i64 = 500;

/// Longer than any attempt takes; stands for timeouts that the database's calendar does not hold.
const AGES: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// A job in a lease, as it is settled by whoever did not claim it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldJob {
    /// The lease.
    pub batch: BatchId,
    /// Whose that is.
    pub epoch: i64,
    /// The job.
    pub id: JobId,
    /// Which attempt runs.
    pub attempt: i16,
    /// How often it was rescued.
    pub rescues: i16,
    /// Its kind.
    pub kind: KindId,
    /// How many attempts it has.
    pub max_attempts: i16,
    /// Whether it holds a unique key.
    pub keyed: bool,
    /// Whether it is known to have been started.
    pub started: bool,
    /// For how long it has been held.
    pub ran: Duration,
    /// Whether an operator wants it ended.
    pub asked: bool,
}

impl HeldJob {
    /// What becomes of it.
    pub fn outcome(&self, verdict: Verdict, beside: Beside) -> Outcome {
        // It may have told how far it is at any time, and that goes as it ends.
        let (remembered, took) = (true, self.ran);
        Outcome { id: self.id, kind: self.kind, keyed: self.keyed, remembered, took, verdict, beside }
    }
}

impl Database {
    /// Extends a lease from now on, and says what it still holds, each with whether an operator wants it ended;
    /// nothing where the lease is gone or past its deadline.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn extend(
        &self,
        worker: &Worker,
        batch: BatchId,
        lease: Duration,
    ) -> StoreResult<Vec<(JobId, bool)>> {
        let rows = sqlx::query(self.schema().sql(include_str!("sql/lease/extend.sql")))
            .bind(batch.0)
            .bind(worker.epoch)
            .bind(millis(lease))
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| Ok((JobId(row.try_get(0)?), row.try_get(1)?))).collect()
    }

    /// Notes how far a job says it is, as JSON text. `false`: the lease does not hold it any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tell(&self, worker: &Worker, batch: BatchId, job: JobId, told: &str) -> StoreResult<bool> {
        let tell = sqlx::query(self.schema().sql(include_str!("sql/lease/tell.sql")))
            .bind(batch.0)
            .bind(worker.epoch)
            .bind(job.0)
            .bind(told);
        Ok(tell.execute(self.pool()).await?.rows_affected() == 1)
    }

    /// What each of these jobs has told last, as JSON text.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn told(&self, jobs: &[JobId]) -> StoreResult<Vec<(JobId, String)>> {
        let told =
            "select job_id, told::text from biplane.progress where job_id = any ($1) and told is not null";
        let ids: Vec<i64> = jobs.iter().map(|job| job.0).collect();
        let rows = sqlx::query(self.schema().sql(told)).bind(ids).fetch_all(self.pool()).await?;
        rows.iter().map(|row| Ok((JobId(row.try_get(0)?), row.try_get(1)?))).collect()
    }

    /// Those of `jobs` that the lease holds.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn held(&self, worker: &Worker, batch: BatchId, jobs: &[JobId]) -> StoreResult<Vec<HeldJob>> {
        let held = unguarded(include_str!("sql/lease/held.sql"));
        let rows = sqlx::query(self.schema().sql(&held))
            .bind(vec![batch.0])
            .bind(worker.epoch)
            .bind(jobs.iter().map(|job| job.0).collect::<Vec<_>>())
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(read).collect()
    }

    /// Jobs of these kinds that pull workers have held for longer than their attempts may take, longest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn overdue(&self, kinds: &[(KindId, Duration)]) -> StoreResult<Vec<HeldJob>> {
        let rows = sqlx::query(self.schema().sql(include_str!("sql/lease/overdue.sql")))
            .bind(kinds.iter().map(|(kind, _)| kind.0).collect::<Vec<_>>())
            .bind(kinds.iter().map(|(_, timeout)| millis((*timeout).min(AGES))).collect::<Vec<_>>())
            .bind(PAGE)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &PgRow) -> StoreResult<HeldJob> {
    Ok(HeldJob {
        batch: BatchId(row.try_get::<Uuid, _>(0)?),
        epoch: row.try_get(1)?,
        id: JobId(row.try_get(2)?),
        attempt: row.try_get(3)?,
        rescues: row.try_get(4)?,
        kind: KindId(row.try_get(5)?),
        max_attempts: row.try_get(6)?,
        keyed: row.try_get(7)?,
        started: row.try_get(8)?,
        ran: Duration::try_from_secs_f64(row.try_get(9)?).unwrap_or_default(),
        asked: row.try_get(10)?,
    })
}
