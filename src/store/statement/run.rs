//! Carrying a statement out.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use parking_lot::Mutex;
use serde_json::{Map, Value as Json};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, AssertSqlSafe, Column, Either, Executor, PgConnection, PgPool, Row, ValueRef};
use tokio::time::timeout;

use super::decode;
use super::encode;
use super::failed::failed;
use super::held::Held;
use super::learn::{Learned, learn};
use crate::base::Failure;
use crate::record::weight;
use crate::steps::ports::{BoxedSql, SqlAnswer, SqlLimits, SqlText, Statement};

/// How long the server may take to say what it would make of a statement.
pub(super) const PREPARING: Duration = Duration::from_secs(10);

/// Classes of errors that tables which are others by now give; both ends start anew then.
const STALE: [&str; 2] = ["sql-0a", "sql-42"];

/// A statement on a pool; what the server infers of it is asked once.
pub(super) struct Prepared {
    pool: PgPool,
    text: Arc<SqlText>,
    /// The database, for people.
    whom: String,
    learned: Mutex<Option<Arc<Learned>>>,
}

/// Why a transaction came to nothing.
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// Whether the connection can go on with another one.
    pub(super) sound: bool,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self { failure, sound: true }
    }
}

impl Prepared {
    pub(super) fn new(pool: PgPool, text: Arc<SqlText>, whom: String) -> Self {
        Self { pool, text, whom, learned: Mutex::default() }
    }

    fn failed(&self, error: sqlx::Error) -> Failure {
        failed(error, &self.whom)
    }

    async fn carry_out(&self, values: &[Json], limits: SqlLimits) -> Result<SqlAnswer, Failure> {
        let mut held = Held::begin(&self.pool, limits.timeout).await.map_err(|error| self.failed(error))?;
        match self.carry_out_in(&mut held, values, limits).await {
            Ok(answer) => {
                held.commit().await.map_err(|error| self.failed(error))?;
                Ok(answer)
            }
            Err(Broken { failure, sound }) => {
                if sound {
                    // Where that fails the connection is closed, which comes to the same.
                    let _ = held.roll_back().await;
                }
                Err(failure)
            }
        }
    }

    /// Carries it out within a transaction that somebody else begins and ends.
    pub(super) async fn carry_out_in(
        &self,
        connection: &mut PgConnection,
        values: &[Json],
        limits: SqlLimits,
    ) -> Result<SqlAnswer, Broken> {
        let result = self.within(connection, values, limits).await;
        result.map_err(|Broken { failure, sound }| {
            let stale = STALE.iter().any(|class| failure.code.starts_with(class));
            if stale {
                *self.learned.lock() = None;
            }
            Broken { failure, sound: sound && !stale }
        })
    }

    async fn within(
        &self,
        connection: &mut PgConnection,
        values: &[Json],
        limits: SqlLimits,
    ) -> Result<SqlAnswer, Broken> {
        let learned = self.learned(connection).await?;
        let mut arguments = PgArguments::default();
        for ((value, takes), name) in values.iter().zip(&learned.takes).zip(&self.text.names) {
            let added = arguments.add(encode::text(value, *takes, name)?);
            added.map_err(|error| self.failed(sqlx::Error::Encode(error)))?;
        }
        let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&learned.sql)), arguments);
        let mut coming = Executor::fetch_many(connection, query);
        let (mut answer, mut bytes) = (SqlAnswer::default(), 0);
        while let Some(next) = coming.try_next().await.map_err(|error| self.failed(error))? {
            match next {
                Either::Left(done) => answer.affected += done.rows_affected(),
                Either::Right(row) => {
                    let row = self.row(&row)?;
                    bytes += weight(&row);
                    answer.rows.push(row);
                }
            }
            if let Some(failure) = exceeded(answer.rows.len(), bytes, limits) {
                // The rest of the rows is still on its way.
                return Err(Broken { failure, sound: false });
            }
        }
        Ok(answer)
    }

    async fn learned(&self, connection: &mut PgConnection) -> Result<Arc<Learned>, Failure> {
        if let Some(learned) = &*self.learned.lock() {
            return Ok(Arc::clone(learned));
        }
        let learned = Arc::new(learn(connection, &self.text, &self.whom).await?);
        *self.learned.lock() = Some(Arc::clone(&learned));
        Ok(learned)
    }

    fn row(&self, row: &PgRow) -> Result<Json, Failure> {
        let mut fields = Map::with_capacity(row.columns().len());
        for (index, column) in row.columns().iter().enumerate() {
            let raw = row.try_get_raw(index).map_err(|error| self.failed(error))?;
            let value = match raw.is_null() {
                true => Json::Null,
                false => raw
                    .as_bytes()
                    .ok()
                    .and_then(|bytes| decode::value(column.type_info(), bytes))
                    .ok_or_else(|| decode::unknown(column.name(), column.type_info()))?,
            };
            fields.insert(column.name().to_owned(), value);
        }
        Ok(Json::Object(fields))
    }

    async fn ask(&self) -> Result<(), Failure> {
        let mut held = Held::begin(&self.pool, PREPARING).await.map_err(|error| self.failed(error))?;
        let learned = learn(&mut held, &self.text, &self.whom).await;
        let _ = held.roll_back().await;
        learned.map(|_| ())
    }
}

fn exceeded(rows: usize, bytes: usize, limits: SqlLimits) -> Option<Failure> {
    if rows > limits.rows {
        let message = format!("the statement gives more than {} rows", limits.rows);
        return Some(Failure::permanent("sql-rows", message));
    }
    let message = format!("the statement gives more than {} bytes", limits.bytes);
    (bytes > limits.bytes).then(|| Failure::permanent("sql-result-too-large", message))
}

/// What `work` comes to within `limit`; it is dropped where it takes longer.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(too_long(limit)))
}

pub(super) fn too_long(limit: Duration) -> Failure {
    Failure::took_longer("the statement", limit)
}

impl Statement for Prepared {
    fn run<'a>(&'a self, values: &'a [Json], limits: SqlLimits) -> BoxedSql<'a, SqlAnswer> {
        Box::pin(within(limits.timeout, self.carry_out(values, limits)))
    }

    fn prepare(&self) -> BoxedSql<'_, ()> {
        Box::pin(within(PREPARING, self.ask()))
    }
}
