//! What holds up the jobs of a queue on all engines together: as engines say it, and as a claim finds it.

use std::time::Duration;

use sqlx::Row;

use super::claims::{Head, Lane};
use super::connect::Database;
use super::error::{StoreError, StoreResult};
use super::ids::{JobId, QueueId};
use super::publish::array;

/// How many jobs in the wrong half of their queue one statement moves.
const PAGE: i64 = 500;

/// The limits of a queue, which all engines keep together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueLimits {
    /// How many of its jobs run at one time.
    pub global_concurrency: Option<i32>,
    /// How many jobs of one key do; needs `turns_by`.
    pub per_key: Option<i32>,
    /// The path into args whose value is a job's key: keys take turns.
    pub turns_by: Option<Vec<String>>,
    /// How many jobs start in a second.
    pub rate: Option<f64>,
}

/// How a queue is claimed from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Claiming {
    /// It has no limits.
    #[default]
    Free,
    /// Its limits say how many.
    Limited,
    /// They do, and its keys take turns.
    Turns,
}

/// What a look at a queue finds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    /// How to claim from it.
    pub claiming: Claiming,
    /// How many of its jobs start in a second.
    pub rate: Option<f64>,
    /// Whether it gives nothing until it is resumed.
    pub paused: bool,
    /// Whether jobs lie under keys.
    pub keyed: bool,
    /// The first due job, under no key, of each lane and priority that was asked for.
    pub heads: Vec<Head>,
}

impl Look {
    /// Whether jobs lie where claims do not look: [`Database::sort_queue`] moves them.
    pub fn is_unsorted(&self) -> bool {
        if self.claiming == Claiming::Turns { !self.heads.is_empty() } else { self.keyed }
    }
}

impl Database {
    /// Gives queues their limits, in place of those they had. What runs already counts.
    ///
    /// # Errors
    /// Those of the database; [`StoreError::Busy`] where claims that had begun did not end within 2 s.
    pub async fn limit_queues(&self, limits: &[(QueueId, QueueLimits)]) -> StoreResult<()> {
        let limit = self.schema().sql(include_str!("sql/catalog/limit_queues.sql"));
        sqlx::query(limit)
            .bind(limits.iter().map(|(queue, _)| queue.0).collect::<Vec<_>>())
            .bind(limits.iter().map(|(_, limits)| limits.global_concurrency).collect::<Vec<_>>())
            .bind(limits.iter().map(|(_, limits)| limits.per_key).collect::<Vec<_>>())
            .bind(limits.iter().map(|(_, limits)| limits.turns_by.as_deref().map(array)).collect::<Vec<_>>())
            .bind(limits.iter().map(|(_, limits)| limits.rate).collect::<Vec<_>>())
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// How to claim from a queue, and the first due job of each of these lanes and priorities above the given
    /// marks.
    ///
    /// # Errors
    /// Those of the database; [`StoreError::Other`] where there is no such queue.
    pub async fn look(&self, queue: QueueId, marks: &[(Lane, i16, i64)]) -> StoreResult<Look> {
        let look = self.schema().sql(include_str!("sql/queue/look.sql"));
        let rows = sqlx::query(look)
            .bind(queue.0)
            .bind(marks.iter().map(|(lane, ..)| *lane as i16).collect::<Vec<_>>())
            .bind(marks.iter().map(|(_, priority, _)| *priority).collect::<Vec<_>>())
            .bind(marks.iter().map(|(.., after)| *after).collect::<Vec<_>>())
            .fetch_all(self.pool())
            .await?;
        let first = rows.first().ok_or_else(|| StoreError::Other {
            retriable: false,
            message: format!("there is no queue with the number {}", queue.0),
        })?;
        let claiming = match (first.try_get(0)?, first.try_get(1)?) {
            (_, true) => Claiming::Turns,
            (true, false) => Claiming::Limited,
            (false, false) => Claiming::Free,
        };
        let mut look = Look {
            claiming,
            rate: first.try_get(2)?,
            paused: first.try_get(3)?,
            keyed: first.try_get(4)?,
            heads: Vec::new(),
        };
        for row in &rows {
            let Some(lane) = row.try_get::<Option<i16>, _>(5)? else { continue };
            look.heads.push(Head {
                lane: match lane {
                    0 => Lane::New,
                    1 => Lane::Again,
                    _ => Lane::Alone,
                },
                priority: row.try_get(6)?,
                seq: row.try_get(7)?,
                id: JobId(row.try_get(8)?),
                age: Duration::try_from_secs_f64(row.try_get(9)?).unwrap_or_default(),
            });
        }
        Ok(look)
    }

    /// Moves some of the jobs that lie where claims do not look. Any number of engines may do so at once.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sort_queue(&self, queue: QueueId) -> StoreResult<()> {
        let sort = self.schema().sql(include_str!("sql/queue/sort.sql"));
        sqlx::query(sort).bind(queue.0).bind(PAGE).execute(self.pool()).await?;
        Ok(())
    }
}
