//! Putting jobs in from Rust. SQL has the same functions, `biplane.enqueue` and `biplane.enqueue_many`.

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row};

use super::claims::millis;
use super::connect::Database;
use super::error::StoreResult;
use super::ids::JobId;
use crate::steps::ports::{Enqueued, JobOrder};

/// What the creator of a job may say beside kind and args; what is `None` is as the kind says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// Not before this time.
    pub run_at: Option<DateTime<Utc>>,
    /// From 1, which goes first, to 9.
    pub priority: Option<i32>,
    /// How many attempts it has.
    pub max_attempts: Option<i32>,
    /// Cancelled, visibly, unless it has started by then.
    pub expires_at: Option<DateTime<Utc>>,
    /// The trace that it belongs to, as W3C `traceparent`.
    pub trace: Option<String>,
}

impl Database {
    /// Enqueues one job, whose `args` are JSON text, and returns its id; where another job holds the unique
    /// key, that job's id.
    ///
    /// # Errors
    /// [`StoreError::Refused`](super::StoreError::Refused) with `BP001` for a kind that no engine knows, `BP002`
    /// for args larger than the kind takes, `BP003` for an option out of its range, `BP004` for a key above 1 KiB, `22P05` for
    /// a NUL in args and `22P02` for what is no JSON; those of the database.
    pub async fn enqueue(
        &self,
        kind: &str,
        args: &str,
        unique_key: Option<&str>,
        options: &JobOptions,
    ) -> StoreResult<JobId> {
        let enqueue = self.schema().sql(
            "select biplane.enqueue($1, $2::text::jsonb, $3, $4::text::timestamptz, $5, $6, $7::text::timestamptz, $8)",
        );
        let query = sqlx::query(enqueue).bind(kind).bind(args).bind(unique_key);
        let row = with_options(query, options).fetch_one(self.pool()).await?;
        Ok(JobId(row.try_get(0)?))
    }

    /// Enqueues many jobs of one kind in one statement. The answer has an id for each, in the order of `args`,
    /// and `None` where another job holds the unique key.
    ///
    /// # Errors
    /// As [`Database::enqueue`]; one job that is refused refuses all.
    pub async fn enqueue_many(
        &self,
        kind: &str,
        args: &[&str],
        unique_keys: Option<&[&str]>,
        options: &JobOptions,
    ) -> StoreResult<Vec<Option<JobId>>> {
        let enqueue = self.schema().sql(
            "select job_id from biplane.enqueue_many($1, $2::text[]::jsonb[], $3, $4::text::timestamptz, $5, $6,
                $7::text::timestamptz, $8) order by place",
        );
        let query = sqlx::query(enqueue).bind(kind).bind(args).bind(unique_keys);
        let rows = with_options(query, options).fetch_all(self.pool()).await?;
        rows.iter().map(|row| Ok(row.try_get::<Option<i64>, _>(0)?.map(JobId))).collect()
    }
}

impl Database {
    /// Enqueues what a step orders, unless it did so for the same origin before. The answer has one for each job.
    ///
    /// # Errors
    /// As [`Database::enqueue_many`].
    pub async fn enqueue_once(&self, order: &JobOrder<'_>) -> StoreResult<Vec<Enqueued>> {
        let enqueue = self.schema().sql(
            "select job_id, is_new from biplane.enqueue_once($1, $2, $3, $4, $5::text[]::jsonb[], $6,
                $7::text::timestamptz, $8, $9, $10, $11, $12, $13, $14::text::jsonb) order by nth",
        );
        let (then_kind, then_args) = order.then.as_ref().map(|(kind, args)| (*kind, &**args)).unzip();
        let rows = sqlx::query(enqueue)
            .bind(order.origin.source)
            .bind(order.origin.place)
            .bind(order.origin.part)
            .bind(order.kind)
            .bind(&order.args)
            .bind(order.unique_keys.as_ref())
            .bind(order.run_at.as_deref())
            .bind(order.delay.map(millis))
            .bind(order.expires.map(millis))
            .bind(order.priority)
            .bind(order.max_attempts)
            .bind(order.trace.as_deref())
            .bind(then_kind)
            .bind(then_args)
            .fetch_all(self.pool())
            .await?;
        let enqueued = |row: &PgRow| Ok(Enqueued { id: row.try_get(0)?, is_new: row.try_get(1)? });
        rows.iter().map(enqueued).collect()
    }

    /// Forgets what steps enqueued `days` days ago or earlier. Says how many times; call it again until that is none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_enqueued(&self, days: i32) -> StoreResult<u64> {
        let forget = self.schema().sql(include_str!("sql/job/forget_enqueued.sql"));
        Ok(sqlx::query(forget).bind(days).execute(self.pool()).await?.rows_affected())
    }
}

/// Binds what both ways in take last, in their order.
pub(super) fn with_options<'q>(
    query: Query<'q, Postgres, PgArguments>,
    options: &'q JobOptions,
) -> Query<'q, Postgres, PgArguments> {
    query
        .bind(options.run_at.map(text))
        .bind(options.priority)
        .bind(options.max_attempts)
        .bind(options.expires_at.map(text))
        .bind(options.trace.as_deref())
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}
