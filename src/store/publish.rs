//! Making kinds and queues known to the database, so that SQL can enqueue.

use std::collections::HashMap;

use sqlx::Row;

use super::connect::Database;
use super::error::{StoreError, StoreResult};
use super::ids::{KindId, QueueId};

/// The states of a job in which it holds its unique key, as the database writes them.
pub mod states {
    /// Due later.
    pub const SCHEDULED: i16 = 1;
    /// Due and unclaimed.
    pub const QUEUED: i16 = 2;
    /// Claimed.
    pub const RUNNING: i16 = 4;
    /// Due later, after a failure.
    pub const RETRYING: i16 = 8;
    /// Waiting for a callback.
    pub const WAITING: i16 = 16;
    /// Exhausted and kept for the operator.
    pub const FAILED: i16 = 32;
    /// Every state in which it is not over.
    pub const LIVE: i16 = SCHEDULED | QUEUED | RUNNING | RETRYING | WAITING;
}

/// What makes a job of a kind unique unless its creator gives a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueRule {
    /// Paths into args, each a list of names; none: only a key that is given counts.
    pub by: Option<Vec<Vec<String>>>,
    /// Bits of [`states`].
    pub states: i16,
    /// How long the key is kept after its job has left those states, from enqueue on; in seconds.
    pub seconds: Option<i32>,
    /// What becomes of the job that holds the key.
    pub on_conflict: Conflict,
}

/// What becomes of a job whose unique key is wanted again while it waits to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conflict {
    /// Nothing.
    #[default]
    Keep,
    /// It takes the new args.
    ReplaceArgs,
    /// It becomes due when the new one would have been.
    PushBack,
}

impl Conflict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::ReplaceArgs => "replace-args",
            Self::PushBack => "push-back",
        }
    }
}

impl Default for UniqueRule {
    fn default() -> Self {
        Self { by: None, states: states::LIVE, seconds: None, on_conflict: Conflict::Keep }
    }
}

/// The largest args that any kind may take, in bytes.
pub const MAX_ARGS: i32 = 1 << 20;

/// A kind of job as engines make it known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindDefinition {
    /// The name of its `[jobs.NAME]`.
    pub name: String,
    /// Its queue's name.
    pub queue: String,
    /// From 1, which goes first, to 9.
    pub priority: i16,
    /// How many attempts a job has.
    pub max_attempts: i16,
    /// What makes its jobs unique.
    pub unique: UniqueRule,
    /// The largest args as JSON text, in bytes; at most [`MAX_ARGS`].
    pub max_args_bytes: i32,
    /// The kind that is enqueued where the attempts of a job are spent.
    pub exhausted_enqueues: Option<String>,
}

/// The numbers that kinds and queues bear in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// By name.
    pub kinds: HashMap<String, KindId>,
    /// By name.
    pub queues: HashMap<String, QueueId>,
}

impl Database {
    /// Makes these queues, and those of the kinds, and these kinds known. What is known already is brought
    /// up to date; nothing is forgotten.
    ///
    /// # Errors
    /// Those of the database; [`StoreError::Refused`] where a definition breaks its bounds.
    pub async fn publish(&self, queues: &[String], kinds: &[KindDefinition]) -> StoreResult<Published> {
        let mut names: Vec<&str> = queues.iter().map(String::as_str).collect();
        names.extend(kinds.iter().map(|kind| kind.queue.as_str()));
        names.sort_unstable();
        names.dedup();
        let known = self.schema().sql(include_str!("sql/catalog/publish_queues.sql"));
        let rows = sqlx::query(known).bind(names).fetch_all(self.pool()).await?;
        let mut published = Published::default();
        for row in &rows {
            published.queues.insert(row.try_get(1)?, QueueId(row.try_get(0)?));
        }
        published.kinds = self.publish_kinds(&published.queues, kinds).await?;
        Ok(published)
    }

    /// What the database calls each kind that was ever made known.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn kinds(&self) -> StoreResult<HashMap<KindId, String>> {
        let known = self.schema().sql("select id, name from biplane.kind");
        let rows = sqlx::query(known).fetch_all(self.pool()).await?;
        rows.iter().map(|row| Ok((KindId(row.try_get(0)?), row.try_get(1)?))).collect()
    }

    async fn publish_kinds(
        &self,
        queues: &HashMap<String, QueueId>,
        kinds: &[KindDefinition],
    ) -> StoreResult<HashMap<String, KindId>> {
        let mut numbers = Vec::new();
        for kind in kinds {
            let number = queues.get(&kind.queue).ok_or_else(|| StoreError::Other {
                retriable: true,
                message: format!("queue `{}` was not made known", kind.queue),
            })?;
            numbers.push(number.0);
        }
        let known = self.schema().sql(include_str!("sql/catalog/publish_kinds.sql"));
        let rows = sqlx::query(known)
            .bind(kinds.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>())
            .bind(numbers)
            .bind(kinds.iter().map(|kind| kind.priority).collect::<Vec<_>>())
            .bind(kinds.iter().map(|kind| kind.max_attempts).collect::<Vec<_>>())
            .bind(kinds.iter().map(|kind| kind.unique.by.as_deref().map(array_of_paths)).collect::<Vec<_>>())
            .bind(kinds.iter().map(|kind| kind.unique.states).collect::<Vec<_>>())
            .bind(kinds.iter().map(|kind| kind.unique.seconds).collect::<Vec<_>>())
            .bind(kinds.iter().map(|kind| kind.unique.on_conflict.as_str()).collect::<Vec<_>>())
            .bind(kinds.iter().map(|kind| kind.max_args_bytes).collect::<Vec<_>>())
            .bind(kinds.iter().map(|kind| kind.exhausted_enqueues.as_deref()).collect::<Vec<_>>())
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| Ok((row.try_get(1)?, KindId(row.try_get(0)?)))).collect()
    }
}

/// A text array of text arrays, each written as Postgres writes arrays.
fn array_of_paths(paths: &[Vec<String>]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| array(path)).collect();
    array(&paths)
}

/// A text array as Postgres writes it.
pub(super) fn array(items: &[String]) -> String {
    let quoted: Vec<String> =
        items.iter().map(|item| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("{{{}}}", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_postgres_reads_them() {
        let paths = [vec!["a".to_owned(), "b c".to_owned()], vec!["x\"y\\".to_owned()]];
        let written = array_of_paths(&paths);
        assert_eq!(written, r#"{"{\"a\",\"b c\"}","{\"x\\\"y\\\\\"}"}"#);
    }
}
