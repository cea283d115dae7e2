//! The engines and pull workers that claim: registering, leaving, and who lives.

use serde::Serialize;
use sqlx::Row;
use uuid::Uuid;

use super::connect::Database;
use super::error::StoreResult;
use super::ids::Worker;

/// One engine or pull worker as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerRow {
    /// Its id.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Seconds since it registered.
    pub up_seconds: f64,
    /// Seconds since its last heartbeat.
    pub silent_seconds: f64,
    /// How many batches it holds.
    pub batches: i64,
    /// How many jobs those hold.
    pub jobs: i64,
    /// Whether it pulls its jobs over HTTP.
    pub pull: bool,
}

impl Database {
    /// Registers this run of an engine, which claims under the epoch it is given.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn register(&self, name: &str, version: &str) -> StoreResult<Worker> {
        let id = Uuid::now_v7();
        let epoch = sqlx::query_scalar(self.schema().sql(include_str!("sql/worker/register.sql")))
            .bind(id)
            .bind(name)
            .bind(version)
            .fetch_one(self.pool())
            .await?;
        Ok(Worker { id, epoch })
    }

    /// The worker of that name that pulls its jobs; it lives now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn pull_worker(&self, name: &str, version: &str) -> StoreResult<Worker> {
        let row = sqlx::query(self.schema().sql(include_str!("sql/worker/pull.sql")))
            .bind(Uuid::now_v7())
            .bind(name)
            .bind(version)
            .fetch_one(self.pool())
            .await?;
        Ok(Worker { id: row.try_get(0)?, epoch: row.try_get(1)? })
    }

    /// Forgets a worker that has handed everything back. Leases that it still holds end at their deadline.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn leave(&self, worker: &Worker) -> StoreResult<()> {
        let leave = self.schema().sql(include_str!("sql/worker/leave.sql"));
        sqlx::query(leave).bind(worker.id).execute(self.pool()).await?;
        Ok(())
    }

    /// Forgets workers that were not heard of for this many days. Returns how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_workers(&self, days: i32) -> StoreResult<u64> {
        let forget = self.schema().sql(include_str!("sql/worker/forget.sql"));
        Ok(sqlx::query(forget).bind(days).execute(self.pool()).await?.rows_affected())
    }

    /// Every worker that lives, or has been silent for ten minutes at most or still holds jobs, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn workers(&self) -> StoreResult<Vec<WorkerRow>> {
        let list = self.schema().sql(include_str!("sql/worker/list.sql"));
        let rows = sqlx::query(list).fetch_all(self.pool()).await?;
        rows.iter()
            .map(|row| {
                Ok(WorkerRow {
                    id: row.try_get::<Uuid, _>(0)?.to_string(),
                    name: row.try_get(1)?,
                    version: row.try_get(2)?,
                    up_seconds: row.try_get(3)?,
                    silent_seconds: row.try_get(4)?,
                    batches: row.try_get(5)?,
                    jobs: row.try_get(6)?,
                    pull: row.try_get(7)?,
                })
            })
            .collect()
    }
}
