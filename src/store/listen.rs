//! Being told of new jobs, past a pooler. Polling covers what a lost notification would miss.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use uuid::Uuid;

use super::connect::{CONNECT, Database};
use super::error::StoreResult;

/// What `biplane.enqueue` notifies, with the queue's name as payload.
const CHANNEL: &str = "biplane_ready";

/// How long a notification to oneself may take.
const PROBE: Duration = Duration::from_secs(5);

/// One connection that hears of new jobs in armed queues.
#[derive(Debug)]
pub struct Listener {
    inner: PgListener,
}

impl Listener {
    /// Connects the direct way.
    ///
    /// # Errors
    /// Those of connecting.
    pub async fn open(database: &Database) -> StoreResult<Self> {
        let options = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT).max_lifetime(None);
        let pool = options.connect_lazy_with(database.settings().direct().clone());
        let mut inner = PgListener::connect_with(&pool).await?;
        inner.listen(CHANNEL).await?;
        Ok(Self { inner })
    }

    /// Whether what is notified comes through: past a pooler in transaction mode nothing does.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hears(&mut self, database: &Database) -> StoreResult<bool> {
        let word = Uuid::now_v7().to_string();
        let notify = sqlx::query("select pg_notify($1, $2)").bind(CHANNEL).bind(&word);
        notify.execute(database.pool()).await?;
        let heard = async {
            while self.inner.try_recv().await?.is_none_or(|heard| heard.payload() != word) {}
            Ok(true)
        };
        tokio::time::timeout(PROBE, heard).await.unwrap_or(Ok(false))
    }

    /// The name of the next queue with new work; `None` after the connection broke and came back, when any
    /// may have some. Cancel-safe.
    ///
    /// # Errors
    /// Those of the connection where it does not come back: open a new one.
    pub async fn next(&mut self) -> StoreResult<Option<String>> {
        Ok(self.inner.try_recv().await?.map(|heard| heard.payload().to_owned()))
    }
}
