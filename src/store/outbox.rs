//! Events of jobs that are done, on their way to Kafka: whose turn it is to send, what is next, what is there.

use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::claims::millis;
use super::connect::Database;
use super::error::StoreResult;

/// How many events are counted at most.
const COUNTED: i64 = 100_000;

/// An event that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the order.
    pub id: i64,
    /// The physical name of its topic.
    pub topic: String,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value, as JSON text; `None`: a null value.
    pub value: Option<String>,
    /// Its headers, as a JSON object of texts.
    pub headers: String,
    /// When its job was done, in milliseconds since the Unix epoch by the database's clock.
    pub made_at: i64,
}

/// Whether anything is to be sent, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing waits.
    Idle,
    /// Something waits, and this one sends it.
    Mine,
    /// Something waits, and another one sends it.
    Other,
}

/// How much is to be sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Depth {
    /// How many events wait, counted up to 100,000.
    pub events: i64,
    /// How long the oldest has, in seconds.
    pub oldest: f64,
}

impl Database {
    /// Takes or keeps the turn to send, for `length` by the database's clock.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn outbox_turn(&self, relay: Uuid, length: Duration) -> StoreResult<Turn> {
        let turn = self.schema().sql(include_str!("sql/outbox/turn.sql"));
        let row = sqlx::query(turn).bind(relay).bind(millis(length)).fetch_one(self.pool()).await?;
        Ok(match (row.try_get(0)?, row.try_get(1)?) {
            (false, _) => Turn::Idle,
            (true, true) => Turn::Mine,
            (true, false) => Turn::Other,
        })
    }

    /// Gives the turn back, if `relay` has it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn leave_outbox(&self, relay: Uuid) -> StoreResult<()> {
        let leave = self.schema().sql("update biplane.outbox_turn set until = '-infinity' where relay = $1");
        sqlx::query(leave).bind(relay).execute(self.pool()).await?;
        Ok(())
    }

    /// The first events behind `after` that are not for the topics `held`, in their order: at most `limit` and about
    /// `bytes` of them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_events(
        &self,
        after: i64,
        held: &[String],
        (limit, bytes): (i64, i64),
    ) -> StoreResult<Vec<Waiting>> {
        let take = self.schema().sql(include_str!("sql/outbox/take.sql"));
        let query = sqlx::query(take).bind(after).bind(held).bind(limit).bind(bytes);
        let rows = query.fetch_all(self.pool()).await?;
        let waiting = |row: &sqlx::postgres::PgRow| {
            Ok(Waiting {
                id: row.try_get(0)?,
                topic: row.try_get(1)?,
                key: row.try_get(2)?,
                value: row.try_get(3)?,
                headers: row.try_get(4)?,
                made_at: row.try_get(5)?,
            })
        };
        rows.iter().map(waiting).collect()
    }

    /// Forgets events that Kafka has.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_events(&self, ids: &[i64]) -> StoreResult<()> {
        let forget = self.schema().sql("delete from biplane.outbox where id = any ($1)");
        sqlx::query(forget).bind(ids).execute(self.pool()).await?;
        Ok(())
    }

    /// How much waits.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn outbox_depth(&self) -> StoreResult<Depth> {
        let depth = self.schema().sql(
            "select (select count(*) from (select from biplane.outbox limit $1) o),
                coalesce((select extract(epoch from clock_timestamp() - made_at)::float8 from biplane.outbox
                    order by id limit 1), 0)",
        );
        let row = sqlx::query(depth).bind(COUNTED).fetch_one(self.pool()).await?;
        Ok(Depth { events: row.try_get(0)?, oldest: row.try_get(1)? })
    }
}
