//! Opening connections: single ones, and the pool that statements share.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection, Postgres};

use super::error::{StoreError, StoreResult};
use super::schema::Schema;
use super::settings::DatabaseSettings;
use super::statements::Statements;
use crate::base::guard::{self, Guard};

/// How long a server may take to answer a new connection.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// A connection that was used within this time is not asked whether it still works.
const FRESH: Duration = Duration::from_secs(1);

/// How often who waits for a connection looks whether one was given back: longer than any server takes to say that one
/// still works.
const LOOK: Duration = Duration::from_millis(200);

/// The oldest server that is served, as Postgres numbers it.
const OLDEST: u32 = 140_000;

/// A pool of connections to the engine's database, and its schema. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
    settings: Arc<DatabaseSettings>,
}

impl Database {
    /// A pool of at most `connections`, none of which is opened yet.
    pub fn new(settings: DatabaseSettings, connections: u32) -> Self {
        let pool = pool(settings.main().clone(), connections);
        Self { pool, settings: Arc::new(settings) }
    }

    /// As [`Database::new`], for those who wait no longer than this for a connection.
    pub fn with_patience(settings: DatabaseSettings, connections: u32, patience: Duration) -> Self {
        let options = pool_options(connections).acquire_timeout(patience);
        Self { pool: options.connect_lazy_with(settings.main().clone()), settings: Arc::new(settings) }
    }

    /// Where it is.
    pub fn settings(&self) -> &DatabaseSettings {
        &self.settings
    }

    /// Closes every connection once it is given back.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Where statements are carried out.
    pub(super) fn pool(&self) -> Statements<'_> {
        Statements { pool: &self.pool, alone: self.settings.unprepared() }
    }

    /// The connections themselves.
    pub(super) fn connections(&self) -> &PgPool {
        &self.pool
    }

    pub(super) fn schema(&self) -> &Schema {
        self.settings.schema()
    }
}

/// A pool of at most `connections`, none of which is opened yet.
pub(super) fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
    pool_options(connections).connect_lazy_with(options)
}

fn pool_options(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECT)
        // A round trip before each statement would double the short ones.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for >= FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

/// One of the pool's connections. The pool lets whoever opens one wait for a server that has none to spare, though others
/// may give theirs back in the meantime: those are taken then.
pub(super) async fn acquire(pool: &PgPool) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    let acquiring = async {
        loop {
            let acquiring = pin!(pool.acquire());
            tokio::select! {
                biased;
                acquired = acquiring => return acquired,
                () = given_back(pool) => {}
            }
        }
    };
    let in_time = tokio::time::timeout(pool.options().get_acquire_timeout(), acquiring).await;
    in_time.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

async fn given_back(pool: &PgPool) {
    loop {
        tokio::time::sleep(LOOK).await;
        if pool.num_idle() > 0 && !guard::removed(Guard::TakeIdle) {
            return;
        }
    }
}

/// One connection, with words for people where there is none.
pub(super) async fn open(
    settings: &DatabaseSettings,
    options: &PgConnectOptions,
) -> StoreResult<PgConnection> {
    open_at(options, &place(settings, options)).await
}

/// As [`open`], of the database that people know as `place`.
pub(super) async fn open_at(options: &PgConnectOptions, place: &str) -> StoreResult<PgConnection> {
    let connecting = PgConnection::connect_with(options);
    let connection = within(CONNECT, connecting).await.map_err(|error| explain(error, place))?;
    check_version(&connection)?;
    Ok(connection)
}

/// As [`open`], for a few questions in a row: past a pooler that keeps no prepared statements they are one transaction,
/// so that all of them reach the server that the first one reached. It ends with the connection.
pub(super) async fn open_to_ask(
    settings: &DatabaseSettings,
    options: &PgConnectOptions,
) -> StoreResult<PgConnection> {
    let mut connection = open(settings, options).await?;
    if settings.unprepared() && std::ptr::eq(options, settings.main()) {
        // Names that others have left on this server are none of ours.
        sqlx::raw_sql("begin; deallocate all").execute(&mut connection).await?;
    }
    Ok(connection)
}

/// What `work` comes to, unless the server takes longer than `limit`.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> StoreResult<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StoreError::Unreachable(format!("no answer within {} s", limit.as_secs()))),
    }
}

fn check_version(connection: &PgConnection) -> StoreResult<()> {
    match connection.server_version_num() {
        Some(version) if version < OLDEST => Err(StoreError::Settings(format!(
            "the server is PostgreSQL {}.{}; {} is the oldest that is served",
            version / 10_000,
            version % 10_000,
            OLDEST / 10_000
        ))),
        _ => Ok(()),
    }
}

fn place(settings: &DatabaseSettings, options: &PgConnectOptions) -> String {
    if std::ptr::eq(options, settings.main()) {
        format!("{} (DATABASE_URL)", settings.address())
    } else {
        let address = settings.direct_address().unwrap_or_else(|| settings.address());
        format!("{address} (BIPLANE_DATABASE_DIRECT_URL)")
    }
}

fn explain(error: StoreError, at: &str) -> StoreError {
    match error {
        StoreError::Unreachable(why) => StoreError::Unreachable(format!("{at}: {why}")),
        StoreError::Denied(why) => StoreError::Denied(format!("{at}: {why}")),
        StoreError::Busy(why) => StoreError::Busy(format!("{at}: {why}")),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_not_waited_for() {
        let never = std::future::pending::<Result<(), sqlx::Error>>();
        let error = within(Duration::from_millis(1), never).await.unwrap_err();
        assert!(error.is_transient() && error.is_uncertain(), "{error}");
    }
}
