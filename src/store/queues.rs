//! Queues as operators see them: paused or not, and how much lies where.

use std::time::Duration;

use serde::Serialize;
use sqlx::Row;

use super::claims::millis;
use super::connect::Database;
use super::error::StoreResult;
use super::ids::QueueId;

/// One queue as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueRow {
    /// Its name.
    pub name: String,
    /// Seconds since it was paused; `None` while it runs.
    pub paused_seconds: Option<f64>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub pause_reason: Option<String>,
    /// Jobs that are due.
    pub queued: i64,
    /// Jobs that are due later.
    pub deferred: i64,
    /// Jobs that are claimed.
    pub running: i64,
    /// Jobs that are kept for the operator.
    pub failed: i64,
    /// What all engines together keep of it.
    #[serde(flatten)]
    pub limits: LimitsRow,
}

/// The limits of a queue and how much of them is in use.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LimitsRow {
    /// How many jobs run at one time.
    pub global_concurrency: Option<i32>,
    /// How many jobs of one key do.
    pub per_key: Option<i32>,
    /// Where in the args a job's key stands, where keys take turns.
    pub key: Option<String>,
    /// How many start in a second.
    pub rate: Option<f64>,
    /// How many keys have jobs that run.
    pub keys: i64,
    /// How many of them have as many as may be.
    pub keys_at_limit: i64,
    /// How many the rate lets start now.
    pub may_start: Option<f64>,
}

/// What pausing or resuming came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It is so now.
    Changed,
    /// It was so already.
    Unchanged,
    /// There is no such queue.
    Unknown,
}

impl Database {
    /// Every queue that was made known. Counts each of their jobs: for people, not for loops.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn queues(&self) -> StoreResult<Vec<QueueRow>> {
        let list = self.schema().sql(include_str!("sql/queue/list.sql"));
        let rows = sqlx::query(list).fetch_all(self.pool()).await?;
        rows.iter()
            .map(|row| {
                Ok(QueueRow {
                    name: row.try_get(0)?,
                    paused_seconds: row.try_get(1)?,
                    paused_by: row.try_get(2)?,
                    pause_reason: row.try_get(3)?,
                    queued: row.try_get(4)?,
                    deferred: row.try_get(5)?,
                    running: row.try_get(6)?,
                    failed: row.try_get(7)?,
                    limits: LimitsRow {
                        global_concurrency: row.try_get(8)?,
                        per_key: row.try_get(9)?,
                        key: row.try_get(10)?,
                        rate: row.try_get(11)?,
                        keys: row.try_get(12)?,
                        keys_at_limit: row.try_get(13)?,
                        may_start: row.try_get(14)?,
                    },
                })
            })
            .collect()
    }

    /// Lets no engine claim from a queue from now on. What runs is finished. `actor` stands in the audit.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn pause_queue(&self, queue: &str, actor: &str, reason: Option<&str>) -> StoreResult<Held> {
        let pause = self.schema().sql(include_str!("sql/queue/pause.sql"));
        let row = sqlx::query(pause).bind(queue).bind(actor).bind(reason).fetch_one(self.pool()).await?;
        Ok(held(row.try_get(0)?, row.try_get(1)?))
    }

    /// Lets engines claim from a queue again.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn resume_queue(&self, queue: &str, actor: &str) -> StoreResult<Held> {
        let resume = self.schema().sql(include_str!("sql/queue/resume.sql"));
        let row = sqlx::query(resume).bind(queue).bind(actor).fetch_one(self.pool()).await?;
        Ok(held(row.try_get(0)?, row.try_get(1)?))
    }

    /// Asks whoever enqueues into these queues to notify, for this long. Look once more after it and then
    /// wait with a [`Listener`](super::Listener).
    ///
    /// # Errors
    /// Those of the database.
    pub async fn arm(&self, queues: &[QueueId], how_long: Duration) -> StoreResult<()> {
        let arm = self.schema().sql(include_str!("sql/queue/arm.sql"));
        let queues: Vec<i32> = queues.iter().map(|queue| queue.0).collect();
        sqlx::query(arm).bind(queues).bind(millis(how_long)).execute(self.pool()).await?;
        Ok(())
    }
}

fn held(changed: bool, known: bool) -> Held {
    match (changed, known) {
        (true, _) => Held::Changed,
        (false, true) => Held::Unchanged,
        (false, false) => Held::Unknown,
    }
}
