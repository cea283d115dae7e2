//! A connection for one transaction. Unless it is given back it is closed, so that no transaction that was cut
//! short is ever met by the next one.

use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres};

use crate::store::connect::acquire;

/// How much longer than a statement may take its server waits before it ends the statement itself.
const MARGIN: Duration = Duration::from_secs(1);
/// How long the server keeps a transaction open in which nothing happens: an engine that stands still must not
/// hold locks.
const IDLE: Duration = Duration::from_secs(5);

pub(super) struct Held {
    connection: PoolConnection<Postgres>,
    /// Whether a transaction may be open on it.
    open: bool,
}

impl Held {
    /// Takes a connection and begins a transaction whose statements may take `limit`.
    pub(super) async fn begin(pool: &PgPool, limit: Duration) -> sqlx::Result<Self> {
        let taken = acquire(pool).await.map_err(|error| match error {
            // While there is room, a connection that does not come is one that nobody answers.
            sqlx::Error::PoolTimedOut if pool.size() < pool.options().get_max_connections() => unanswered(),
            error => error,
        });
        let mut held = Self { connection: taken?, open: true };
        let limit = i32::try_from((limit + MARGIN).as_millis()).unwrap_or(i32::MAX);
        let idle = IDLE.as_millis();
        // Where it can, the server looks whether anybody still waits for a statement that runs.
        let begin = format!(
            "begin; select set_config('statement_timeout', '{limit}', true), \
             set_config('idle_in_transaction_session_timeout', '{idle}', true), case when version() ilike '%linux%' \
             then set_config('client_connection_check_interval', '1000', true) end"
        );
        sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *held).await?;
        Ok(held)
    }

    /// Ends the transaction; what was done in it stands.
    pub(super) async fn commit(self) -> sqlx::Result<()> {
        self.end("commit").await
    }

    /// Ends the transaction; what was done in it does not stand.
    pub(super) async fn roll_back(self) -> sqlx::Result<()> {
        self.end("rollback").await
    }

    async fn end(mut self, how: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(how).execute(&mut *self).await?;
        self.open = false;
        Ok(())
    }
}

fn unanswered() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no server answers there"))
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.open {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Held {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
