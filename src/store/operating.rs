//! What operators do to jobs: which are meant, page by page, and what becomes of some of them in one statement.
//!
//! A filter never locks or changes anything; what changes is named by its id. Everything that is done to jobs is
//! counted in a row of `audit` by the same statement.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::claims::millis;
use super::connect::Database;
use super::error::{StoreError, StoreResult};
use super::ids::{BatchId, JobId, KindId, Worker};
use super::settle::{Beside, Outcome, Verdict};

/// How many jobs one page looks at, where a page is cheap to go on from.
const PAGE: i64 = 1_000;

/// As [`PAGE`], of those that are over, which are in no order of their own.
const ENDED_PAGE: i64 = 100_000;

/// How many late answers one statement looks at.
const LATE: i64 = 100;

/// Which jobs an operator means; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Selection {
    /// In one of these states.
    pub states: Vec<String>,
    /// Of this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// With this unique key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whose args contain these, as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<String>,
    /// That were enqueued, failed or ended within so many seconds. Of those that are over: the last hour, unless
    /// it is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<i64>,
}

/// A selection whose names were found.
#[derive(Debug, Clone)]
pub struct Selected {
    selection: Selection,
    queue: Option<i32>,
    kind: Option<i32>,
    queues: Vec<i32>,
}

/// How far a walk over the jobs that are meant has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    state: usize,
    queue: usize,
    ready: (i16, i16, i64),
    id: i64,
}

/// What is done to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They run now; what was given up begins anew.
    Retry,
    /// They end; who runs one is asked to end it within this time.
    Cancel(Duration),
    /// They are due that long from now.
    SnoozeFor(Duration),
    /// They are due then.
    SnoozeUntil(DateTime<Utc>),
    /// Failed ones are given up.
    Discard,
    /// Those that wait have this priority.
    Prioritise(i16),
}

/// What was done to jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Done.
    pub done: Vec<JobId>,
    /// Running: their workers were asked.
    pub asked: Vec<JobId>,
}

/// One row of the audit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditRow {
    /// Its number, as text.
    pub id: String,
    /// When, by the database's clock.
    pub at: String,
    /// Who.
    pub actor: String,
    /// What, such as `jobs.cancel`.
    pub action: String,
    /// To what.
    pub subject: serde_json::Value,
    /// With which outcome.
    pub detail: serde_json::Value,
}

/// Which rows of the audit are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this action, or of all that begin with it and a dot.
    pub action: Option<String>,
    /// By whom.
    pub actor: Option<String>,
    /// Of the last seconds.
    pub since_seconds: Option<i64>,
    /// Older than the row of this number.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: i64,
}

/// A job that ended, or was given up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ending {
    /// The job.
    pub id: JobId,
    /// `succeeded`, `cancelled`, `discarded` or `failed`.
    pub state: String,
    /// Its queue.
    pub queue: String,
    /// Its kind.
    pub kind: String,
    /// Its last attempt.
    pub attempt: i16,
    /// The code of its error.
    pub code: Option<String>,
    /// How long the last attempt took, in milliseconds.
    pub duration_ms: Option<i32>,
    /// When, by the database's clock.
    pub at: String,
}

impl Selection {
    /// Whether nothing but the states is said.
    pub fn is_all(&self) -> bool {
        *self == Self { states: self.states.clone(), ..Self::default() }
    }
}

impl Selected {
    /// Whether payloads must be looked at.
    fn looks_at_payloads(&self) -> bool {
        self.kind.is_some() || self.selection.key.is_some() || self.selection.args.is_some()
    }

    fn queue(&self) -> Option<Vec<i32>> {
        self.queue.map(|queue| vec![queue])
    }

    fn kind(&self) -> Option<Vec<i32>> {
        self.kind.map(|kind| vec![kind])
    }
}

impl Database {
    /// Looks up what the selection names.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with `BP005` for a queue or kind that nobody made known, `22P02` for args that are
    /// no JSON; those of the database.
    pub async fn select_jobs(&self, selection: Selection) -> StoreResult<Selected> {
        let names = self.schema().sql(include_str!("sql/operator/names.sql"));
        let row = sqlx::query(names)
            .bind(selection.queue.as_deref())
            .bind(selection.kind.as_deref())
            .fetch_one(self.pool())
            .await?;
        let queue: Option<i32> = row.try_get(0)?;
        let kind: Option<i32> = row.try_get(1)?;
        for (what, name, found) in [("queue", &selection.queue, queue), ("kind", &selection.kind, kind)] {
            if let (Some(name), None) = (name, found) {
                return Err(StoreError::Refused {
                    code: "BP005".to_owned(),
                    message: format!("no engine has made a {what} `{name}` known"),
                });
            }
        }
        let queues = match queue {
            Some(queue) => vec![queue],
            None => {
                let all = self.schema().sql("select id from biplane.queue order by id");
                sqlx::query_scalar(all).fetch_all(self.pool()).await?
            }
        };
        Ok(Selected { selection, queue, kind, queues })
    }

    /// How many jobs are meant, by state. Reads all that might be: for people, not for loops.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count_selected(&self, selected: &Selected) -> StoreResult<Vec<(String, i64)>> {
        let count = self.schema().sql(include_str!("sql/operator/count.sql"));
        let rows = sqlx::query(count)
            .bind(&selected.selection.states)
            .bind(selected.queue())
            .bind(selected.kind())
            .bind(selected.selection.key.as_deref())
            .bind(selected.selection.args.as_deref())
            .bind(selected.looks_at_payloads())
            .bind(selected.selection.since_seconds)
            .fetch_all(self.pool())
            .await?;
        let mut counts = Vec::new();
        for row in &rows {
            counts.push((row.try_get(0)?, row.try_get(1)?));
        }
        counts.sort();
        Ok(counts)
    }

    /// The next jobs that are meant behind `cursor`, which moves on. There may be none of a page and more behind
    /// it; `None`: that was all.
    ///
    /// # Errors
    /// Those of the database; the cursor has not moved then.
    pub async fn next_selected(
        &self,
        selected: &Selected,
        cursor: &mut Cursor,
    ) -> StoreResult<Option<Vec<JobId>>> {
        let Some(state) = selected.selection.states.get(cursor.state) else { return Ok(None) };
        let page = match (state.as_str(), selected.queues.get(cursor.queue)) {
            ("queued", Some(queue)) => self.walk_ready(selected, *queue, cursor).await?,
            ("queued", None) => {
                *cursor = Cursor { state: cursor.state + 1, ..Cursor::default() };
                Vec::new()
            }
            (state, _) => self.walk(selected, state, cursor).await?,
        };
        Ok(Some(page))
    }

    async fn walk_ready(
        &self,
        selected: &Selected,
        queue: i32,
        cursor: &mut Cursor,
    ) -> StoreResult<Vec<JobId>> {
        let (lane, priority, seq) = cursor.ready;
        let walk = self.schema().sql(include_str!("sql/operator/walk_ready.sql"));
        let query = sqlx::query(walk).bind(queue).bind(lane).bind(priority).bind(seq).bind(PAGE);
        let rows = query
            .bind(selected.kind())
            .bind(selected.selection.key.as_deref())
            .bind(selected.selection.args.as_deref())
            .bind(selected.selection.since_seconds)
            .fetch_all(self.pool())
            .await?;
        let next = match rows.last() {
            Some(last) => Cursor { ready: (last.try_get(1)?, last.try_get(2)?, last.try_get(3)?), ..*cursor },
            None => Cursor { queue: cursor.queue + 1, ready: Default::default(), ..*cursor },
        };
        let meant = meant(&rows, 4)?;
        *cursor = next;
        Ok(meant)
    }

    async fn walk(&self, selected: &Selected, state: &str, cursor: &mut Cursor) -> StoreResult<Vec<JobId>> {
        let over = matches!(state, "cancelled" | "discarded");
        let walk = self.schema().sql(include_str!("sql/operator/walk.sql"));
        let rows = sqlx::query(walk)
            .bind(state)
            .bind(selected.queue())
            .bind(cursor.id)
            .bind(if over { ENDED_PAGE } else { PAGE })
            .bind(selected.kind())
            .bind(selected.selection.key.as_deref())
            .bind(selected.selection.args.as_deref())
            .bind(selected.selection.since_seconds)
            .fetch_all(self.pool())
            .await?;
        let next = match rows.last() {
            Some(last) => Cursor { id: last.try_get(0)?, ..*cursor },
            None => Cursor { state: cursor.state + 1, ..Cursor::default() },
        };
        let meant = meant(&rows, 1)?;
        *cursor = next;
        Ok(meant)
    }

    /// Writes that an operator begins to do something; its number. `subject` and `detail` are JSON text.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin_audit(
        &self,
        actor: &str,
        action: &str,
        subject: &str,
        detail: &str,
    ) -> StoreResult<i64> {
        let begin = self.schema().sql(include_str!("sql/operator/begin.sql"));
        let query = sqlx::query_scalar(begin).bind(actor).bind(action).bind(subject).bind(detail);
        Ok(query.fetch_one(self.pool()).await?)
    }

    /// Does it to those of `ids` that can take it, in one transaction, and counts them in the audit's row. What
    /// another is just claiming or settling may be missed.
    ///
    /// # Errors
    /// Those of the database; then nothing was done, or all of it where
    /// [`StoreError::is_uncertain`] says so.
    pub async fn change_jobs(
        &self,
        change: Change,
        ids: &[JobId],
        actor: &str,
        audit: Option<i64>,
    ) -> StoreResult<Changed> {
        let sql = match change {
            Change::Retry => include_str!("sql/operator/retry.sql"),
            Change::Cancel(_) => letting_go!("sql/operator/cancel.sql"),
            Change::SnoozeFor(_) | Change::SnoozeUntil(_) => letting_go!("sql/operator/snooze.sql"),
            Change::Discard => letting_go!("sql/operator/discard.sql"),
            Change::Prioritise(_) => include_str!("sql/operator/prioritise.sql"),
        };
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let query = sqlx::query(self.schema().sql(sql)).bind(ids).bind(audit);
        let query = match change {
            Change::Retry | Change::Discard => query,
            Change::Cancel(within) => query.bind(actor.to_owned()).bind(millis(within)),
            Change::SnoozeFor(wait) => query.bind(None::<String>).bind(millis(wait)),
            Change::SnoozeUntil(at) => {
                query.bind(at.to_rfc3339_opts(SecondsFormat::Micros, true)).bind(None::<i64>)
            }
            Change::Prioritise(priority) => query.bind(priority),
        };
        let row = query.fetch_one(self.pool()).await?;
        let ids = |ids: Vec<i64>| ids.into_iter().map(JobId).collect();
        Ok(Changed { done: ids(row.try_get(0)?), asked: ids(row.try_get(1)?) })
    }

    /// Ends jobs whose workers were asked to and did not in time: they are taken from those, whose outcomes then
    /// count for nothing. Returns how many.
    ///
    /// # Errors
    /// Those of the database; what was ended before stays so.
    pub async fn fence_cancelled(&self) -> StoreResult<usize> {
        let late = self.schema().sql(include_str!("sql/operator/late.sql"));
        let rows = sqlx::query(late).bind(LATE).fetch_all(self.pool()).await?;
        let mut fenced = 0;
        let mut ids = Vec::new();
        for row in &rows {
            let (id, actor): (i64, String) = (row.try_get(0)?, row.try_get(5)?);
            ids.push(id);
            let Some(batch) = row.try_get::<Option<Uuid>, _>(1)? else {
                fenced += self
                    .change_jobs(Change::Cancel(Duration::ZERO), &[JobId(id)], &actor, None)
                    .await?
                    .done
                    .len();
                continue;
            };
            let worker = Worker { id: Uuid::nil(), epoch: row.try_get(2)? };
            let outcome = Outcome {
                id: JobId(id),
                kind: KindId(row.try_get(3)?),
                keyed: row.try_get(4)?,
                remembered: true,
                took: Duration::ZERO,
                verdict: Verdict::Cancelled { code: "asked".to_owned() },
                beside: Beside::default(),
            };
            fenced += self.settle(&worker, &[BatchId(batch)], &[outcome]).await?.written.len();
        }
        if !ids.is_empty() {
            let forget = self.schema().sql(include_str!("sql/operator/fenced.sql"));
            sqlx::query(forget).bind(ids).execute(self.pool()).await?;
        }
        Ok(fenced)
    }

    /// What operators did, newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn audit(&self, filter: &AuditFilter) -> StoreResult<Vec<AuditRow>> {
        let list = self.schema().sql(include_str!("sql/operator/audit.sql"));
        let rows = sqlx::query(list)
            .bind(filter.action.as_deref())
            .bind(filter.actor.as_deref())
            .bind(filter.since_seconds)
            .bind(filter.before)
            .bind(filter.limit)
            .fetch_all(self.pool())
            .await?;
        let json =
            |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        rows.iter()
            .map(|row| {
                Ok(AuditRow {
                    id: row.try_get(0)?,
                    at: row.try_get(1)?,
                    actor: row.try_get(2)?,
                    action: row.try_get(3)?,
                    subject: json(row.try_get(4)?),
                    detail: json(row.try_get(5)?),
                })
            })
            .collect()
    }

    /// Jobs that ended within the last `seconds`, oldest first, at most 10,000.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn endings(
        &self,
        seconds: i64,
        queue: Option<&str>,
        kind: Option<&str>,
        state: Option<&str>,
    ) -> StoreResult<Vec<Ending>> {
        let list = self.schema().sql(include_str!("sql/operator/endings.sql"));
        let query = sqlx::query(list).bind(seconds).bind(queue).bind(kind).bind(state);
        let rows = query.fetch_all(self.pool()).await?;
        rows.iter()
            .map(|row| {
                Ok(Ending {
                    id: JobId(row.try_get(0)?),
                    state: row.try_get(1)?,
                    queue: row.try_get(2)?,
                    kind: row.try_get(3)?,
                    attempt: row.try_get(4)?,
                    code: row.try_get(5)?,
                    duration_ms: row.try_get(6)?,
                    at: row.try_get(7)?,
                })
            })
            .collect()
    }
}

/// The ids, in the first column, of rows that say in that one that they are meant.
fn meant(rows: &[PgRow], column: usize) -> StoreResult<Vec<JobId>> {
    let mut ids = Vec::new();
    for row in rows {
        if row.try_get(column)? {
            ids.push(JobId(row.try_get(0)?));
        }
    }
    Ok(ids)
}
