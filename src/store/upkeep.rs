//! Days of partitions: made ahead, dropped when they are old. The functions run as the schema's owner, so
//! that an engine's role needs no right to make or drop tables.

use chrono::NaiveDate;

use super::connect::Database;
use super::error::StoreResult;

/// How many days ahead partitions are made.
pub const DAYS_AHEAD: i32 = 7;

/// With more payloads than this still named, a day is left for later, because moving them holds locks.
const KEEP_AT_MOST: i32 = 10_000;

impl Database {
    /// Makes the partitions that are missing for the coming days. `None`: another session is at it.
    ///
    /// # Errors
    /// Those of the database; [`StoreError::Busy`](super::StoreError::Busy) where a lock was not had within 2 s.
    pub async fn make_days(&self) -> StoreResult<Option<i32>> {
        let make = self.schema().sql("select biplane.upkeep_ahead($1)");
        Ok(sqlx::query_scalar(make).bind(DAYS_AHEAD).fetch_one(self.pool()).await?)
    }

    /// How many days ahead of today have partitions.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn days_ahead(&self) -> StoreResult<i32> {
        let ask = self.schema().sql("select biplane.upkeep_days_ahead()");
        Ok(sqlx::query_scalar(ask).fetch_one(self.pool()).await?)
    }

    /// Drops the oldest day of payloads that is `days` old or older, after what is still named was moved.
    /// Call it again until it answers `None`.
    ///
    /// # Errors
    /// As [`Database::make_days`].
    pub async fn drop_jobs(&self, days: i32) -> StoreResult<Option<NaiveDate>> {
        let drop = self.schema().sql("select biplane.upkeep_drop_jobs($1, $2)::text");
        let day: Option<String> =
            sqlx::query_scalar(drop).bind(days).bind(KEEP_AT_MOST).fetch_one(self.pool()).await?;
        Ok(day.and_then(|day| day.parse().ok()))
    }

    /// Drops every day of outcomes that is `days` old or older and says how many. `None`: another session is
    /// at it.
    ///
    /// # Errors
    /// As [`Database::make_days`].
    pub async fn drop_done(&self, days: i32) -> StoreResult<Option<i32>> {
        let drop = self.schema().sql("select biplane.upkeep_drop_done($1)");
        Ok(sqlx::query_scalar(drop).bind(days).fetch_one(self.pool()).await?)
    }
}
