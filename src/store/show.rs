//! Jobs as operators see them: one wherever it stands, and lists of them.

use serde::Serialize;
use sqlx::Row;
use uuid::Uuid;

use super::connect::Database;
use super::error::StoreResult;
use super::ids::{BatchId, JobId};

/// A job as operators see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRow {
    /// `scheduled`, `queued`, `running`, `retrying`, `waiting`, `failed`, `succeeded`, `cancelled`, `discarded`.
    pub state: String,
    /// Its queue.
    pub queue: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// Which attempt runs, is due next, or was the last.
    pub attempt: i16,
    /// How many it has; `None` once its payload is gone.
    pub max_attempts: Option<i16>,
    /// From 1, which goes first, to 9.
    pub priority: Option<i16>,
    /// Its args as JSON text; `None` once its payload is gone.
    pub args: Option<String>,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// The trace it belongs to.
    pub trace: Option<String>,
    /// The code of its last error.
    pub code: Option<String>,
    /// Its result or its last error, as JSON text.
    pub detail: Option<String>,
    /// How far it has said last that it is, as JSON text.
    pub progress: Option<String>,
    /// The lease that holds it.
    pub batch: Option<BatchId>,
    /// Seconds since it was created.
    pub age_seconds: f64,
    /// Seconds until it is due or its lease ends; below zero, since it ended.
    pub until_seconds: Option<f64>,
}

/// Which jobs are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this state; `None`: of all in which they are not over.
    pub state: Option<String>,
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// With this unique key.
    pub key: Option<String>,
    /// Whose args contain these, as JSON text.
    pub args: Option<String>,
    /// At most this many.
    pub limit: i64,
    /// Of those that are over, only the last seconds.
    pub since_seconds: i64,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListedJob {
    /// The job.
    pub id: JobId,
    /// As [`JobRow::state`].
    pub state: String,
    /// Its queue.
    pub queue: String,
    /// Its kind.
    pub kind: String,
    /// Which attempt runs, is due next, or was the last.
    pub attempt: i16,
    /// The code of its last error.
    pub code: Option<String>,
    /// Seconds since it was created.
    pub age_seconds: f64,
    /// As [`JobRow::until_seconds`].
    pub until_seconds: Option<f64>,
}

impl Database {
    /// Jobs in the order in which they come up. A rare kind in a long queue makes it read much of that.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list_jobs(&self, filter: &JobFilter) -> StoreResult<Vec<ListedJob>> {
        let list = self.schema().sql(include_str!("sql/job/list.sql"));
        let rows = sqlx::query(list)
            .bind(filter.state.as_deref())
            .bind(filter.queue.as_deref())
            .bind(filter.kind.as_deref())
            .bind(filter.limit)
            .bind(filter.since_seconds)
            .bind(filter.key.as_deref())
            .bind(filter.args.as_deref())
            .fetch_all(self.pool())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(ListedJob {
                    id: JobId(row.try_get(0)?),
                    state: row.try_get(1)?,
                    queue: row.try_get(2)?,
                    kind: row.try_get(3)?,
                    attempt: row.try_get(4)?,
                    code: row.try_get(5)?,
                    age_seconds: row.try_get(6)?,
                    until_seconds: row.try_get(7)?,
                })
            })
            .collect()
    }

    /// Where a job stands; `None` where it is not known, or not any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn show_job(&self, job: JobId) -> StoreResult<Option<JobRow>> {
        let show = self.schema().sql(include_str!("sql/job/show.sql"));
        let Some(row) = sqlx::query(show).bind(job.0).fetch_optional(self.pool()).await? else {
            return Ok(None);
        };
        Ok(Some(JobRow {
            state: row.try_get(0)?,
            queue: row.try_get(1)?,
            kind: row.try_get(2)?,
            attempt: row.try_get(3)?,
            max_attempts: row.try_get(4)?,
            priority: row.try_get(5)?,
            args: row.try_get(6)?,
            unique_key: row.try_get(7)?,
            trace: row.try_get(8)?,
            code: row.try_get(9)?,
            detail: row.try_get(10)?,
            batch: row.try_get::<Option<Uuid>, _>(11)?.map(BatchId),
            age_seconds: row.try_get(12)?,
            until_seconds: row.try_get(13)?,
            progress: row.try_get(14)?,
        }))
    }
}
