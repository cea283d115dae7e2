//! Putting jobs in from Rust. SQL has the same functions, `biplane.enqueue` and `biplane.enqueue_many`.

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Postgres, Row};

use super::connect::Database;
use super::error::StoreResult;
use super::ids::JobId;

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

/// Binds what both ways in take last, in their order.
fn with_options<'q>(
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
