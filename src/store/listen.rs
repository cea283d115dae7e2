//! Being told of new jobs, past a pooler. Polling covers what a lost notification would miss.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgListener, PgPoolOptions};
use uuid::Uuid;

use super::connect::{self, CONNECT, Database};
use super::error::StoreResult;
use super::inspect::{Route, probing, route_of};

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
    /// Connects the direct way; `None` past a pooler. What a server behind one is told to listen to it tells
    /// whoever has that server later, amid the answers to their statements, which many clients take for an error.
    ///
    /// # Errors
    /// Those of connecting.
    pub async fn open(database: &Database) -> StoreResult<Option<Self>> {
        let options = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT).max_lifetime(None);
        let direct = database.settings().direct();
        let Ok(mut inner) = PgListener::connect_with(&options.connect_lazy_with(probing(direct))).await
        else {
            // Without what a pooler refuses, it can be reached, or that is an error.
            let _ = connect::open(database.settings(), direct).await?.close().await;
            return Ok(None);
        };
        if route_of(&mut inner).await? == Route::Pooler {
            return Ok(None);
        }
        inner.listen(CHANNEL).await?;
        Ok(Some(Self { inner }))
    }

    /// Whether what is notified comes through.
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
