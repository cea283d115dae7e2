//! What became of claimed jobs: written under the lease that holds them, or not at all.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value as Json;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Postgres, Row};
use uuid::Uuid;

use super::claims::millis;
use super::connect::Database;
use super::error::StoreResult;
use super::ids::{BatchId, JobId, KindId, Worker};
use super::secret::SecretHash;
use crate::base::guard::{self, Guard};
use crate::steps::ports::Event;

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Over; `detail` is its result as JSON text.
    Succeeded {
        /// Its result.
        detail: Option<String>,
    },
    /// Over, and `code` says why.
    Cancelled {
        /// Such as `expired`.
        code: String,
    },
    /// Over, because a rule or an operator says that it need not succeed.
    Discarded {
        /// Why.
        code: String,
        /// The last error as JSON text.
        detail: Option<String>,
    },
    /// Exhausted: kept for the operator.
    Failed {
        /// The error's code.
        code: String,
        /// The error as JSON text.
        detail: String,
    },
    /// Its attempt failed: again after `delay`, with one attempt spent.
    Retry {
        /// From now on by the database's clock.
        delay: Duration,
        /// The error's code.
        code: String,
        /// The error as JSON text.
        detail: String,
    },
    /// Again after `delay`, with no attempt spent.
    Snooze {
        /// From now on by the database's clock.
        delay: Duration,
    },
    /// It waits for a callback, that long at most, with no attempt spent. [`Beside::token`] says which.
    Wait {
        /// From now on by the database's clock.
        within: Duration,
    },
    /// Not started, or given up without a fault of its own: back to its queue, with no attempt spent.
    Back,
}

/// One job and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The job.
    pub id: JobId,
    /// Its kind.
    pub kind: KindId,
    /// Whether it holds a unique key, as its claim said.
    pub keyed: bool,
    /// Whether something of it is remembered, as its claim said.
    pub remembered: bool,
    /// How long it ran.
    pub took: Duration,
    /// What becomes of it.
    pub verdict: Verdict,
    /// What goes with that.
    pub beside: Beside,
}

/// What is written in the statement that writes what becomes of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// What its steps gave, for its next attempt, as JSON text of at most 4 MiB; `None`: what is remembered stays.
    /// Of no use where the job is over.
    pub kept: Option<String>,
    /// The callback that this attempt could be reached by, where it had one.
    pub token: Option<SecretHash>,
    /// Whether the attempt has gone on with what an earlier one waited for, or without it: that is over then.
    pub heard: bool,
    /// What is published where the job has succeeded.
    pub events: Vec<Event>,
}

/// What was written of a list of outcomes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Written now.
    pub written: Vec<JobId>,
    /// Held by no lease of this worker any more: nothing was written, and what it did is somebody else's to do
    /// again. Where the same outcomes were sent before and the answer was lost, they may have been written then.
    pub stale: Vec<JobId>,
}

impl Database {
    /// Writes outcomes of jobs that `batches` hold. Each job's row is written in the transaction that takes
    /// it out of its lease; whoever takes the last one deletes the lease. Safe to send again: what was
    /// written is held no more.
    ///
    /// # Errors
    /// Those of the database; then nothing was written, or all of it where
    /// [`StoreError::is_uncertain`](super::StoreError::is_uncertain).
    pub async fn settle(
        &self,
        worker: &Worker,
        batches: &[BatchId],
        outcomes: &[Outcome],
    ) -> StoreResult<Settlement> {
        if outcomes.is_empty() {
            return Ok(Settlement::default());
        }
        let mut seen = HashSet::with_capacity(outcomes.len());
        let outcomes: Vec<&Outcome> = outcomes.iter().filter(|outcome| seen.insert(outcome.id)).collect();
        let columns = Columns::of(&outcomes);
        let plain = outcomes.iter().all(|outcome| outcome.is_plain());
        let sql = if plain { include_str!("sql/lease/ack.sql") } else { letting_go!("sql/lease/settle.sql") };
        let sql = unguarded(sql);
        let batches: Vec<Uuid> = batches.iter().map(|batch| batch.0).collect();
        let query = sqlx::query(self.schema().sql(&sql))
            .bind(batches)
            .bind(worker.epoch)
            .bind(columns.ids)
            .bind(columns.kinds)
            .bind(columns.verdicts)
            .bind(columns.took)
            .bind(columns.codes)
            .bind(columns.details);
        let query = match plain {
            true => query,
            false => {
                let query =
                    query.bind(columns.delays).bind(columns.kept).bind(columns.tokens).bind(columns.heard);
                Events::of(&outcomes).bound(query)
            }
        };
        let mut written = HashSet::with_capacity(outcomes.len());
        for row in query.fetch_all(self.pool()).await? {
            written.insert(JobId(row.try_get(0)?));
        }
        let (written, stale) = outcomes.iter().map(|one| one.id).partition(|id| written.contains(id));
        Ok(Settlement { written, stale })
    }

    /// Gives one job of a batch a lease of its own. `false`: the batch holds it no more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn graduate(
        &self,
        worker: &Worker,
        batch: BatchId,
        job: JobId,
        alone: BatchId,
        lease: Duration,
    ) -> StoreResult<bool> {
        let graduate = self.schema().sql(include_str!("sql/lease/graduate.sql"));
        let done = sqlx::query(graduate)
            .bind(batch.0)
            .bind(worker.epoch)
            .bind(job.0)
            .bind(alone.0)
            .bind(millis(lease))
            .execute(self.pool())
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

impl Outcome {
    /// Whether nothing but its end is to be written.
    fn is_plain(&self) -> bool {
        !self.keyed
            && !self.remembered
            && self.beside.token.is_none()
            && self.beside.events.is_empty()
            && self.verdict.is_final()
    }
}

impl Verdict {
    /// Whether the job is over and nothing of it is left but its outcome.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Succeeded { .. } | Self::Cancelled { .. } | Self::Discarded { .. })
    }

    /// Whether the job is to run again.
    pub fn comes_back(&self) -> bool {
        matches!(self, Self::Retry { .. } | Self::Snooze { .. } | Self::Back)
    }

    fn letter(&self) -> i8 {
        let letter = match self {
            Self::Succeeded { .. } => b's',
            Self::Cancelled { .. } => b'c',
            Self::Discarded { .. } => b'd',
            Self::Failed { .. } => b'f',
            Self::Retry { .. } => b'r',
            Self::Snooze { .. } => b'z',
            Self::Wait { .. } => b'w',
            Self::Back => b'b',
        };
        letter as i8
    }

    fn code(&self) -> Option<&str> {
        match self {
            Self::Cancelled { code }
            | Self::Discarded { code, .. }
            | Self::Failed { code, .. }
            | Self::Retry { code, .. } => Some(code),
            Self::Succeeded { .. } | Self::Snooze { .. } | Self::Wait { .. } | Self::Back => None,
        }
    }

    fn detail(&self) -> Option<&str> {
        match self {
            Self::Succeeded { detail } | Self::Discarded { detail, .. } => detail.as_deref(),
            Self::Failed { detail, .. } | Self::Retry { detail, .. } => Some(detail),
            Self::Cancelled { .. } | Self::Snooze { .. } | Self::Wait { .. } | Self::Back => None,
        }
    }

    fn delay(&self) -> Option<i64> {
        match self {
            Self::Retry { delay, .. } | Self::Snooze { delay } | Self::Wait { within: delay } => {
                Some(millis(*delay))
            }
            _ => None,
        }
    }
}

/// The statement, without what a test leaves out.
pub(super) fn unguarded(sql: &str) -> Cow<'_, str> {
    let mut sql = Cow::Borrowed(sql);
    if guard::removed(Guard::Lease) {
        let held = "batch_id = any ($1) and epoch = $2";
        sql = sql.replace(held, "$1::uuid[] <> '{}' and $2::bigint > 0 and job_ids && $3").into();
    }
    if guard::removed(Guard::EarlyCallback) {
        sql = sql.replace("where answered and", "where not answered and answered and").into();
    }
    sql
}

/// Outcomes as the statement takes them.
struct Columns<'a> {
    ids: Vec<i64>,
    kinds: Vec<i32>,
    verdicts: Vec<i8>,
    took: Vec<i32>,
    codes: Vec<Option<&'a str>>,
    details: Vec<Option<&'a str>>,
    delays: Vec<Option<i64>>,
    kept: Vec<Option<&'a str>>,
    tokens: Vec<Option<&'a [u8]>>,
    heard: Vec<bool>,
}

impl<'a> Columns<'a> {
    fn of(outcomes: &[&'a Outcome]) -> Self {
        Self {
            ids: outcomes.iter().map(|one| one.id.0).collect(),
            kinds: outcomes.iter().map(|one| one.kind.0).collect(),
            verdicts: outcomes.iter().map(|one| one.verdict.letter()).collect(),
            took: outcomes
                .iter()
                .map(|one| i32::try_from(one.took.as_millis()).unwrap_or(i32::MAX))
                .collect(),
            codes: outcomes.iter().map(|one| one.verdict.code()).collect(),
            details: outcomes.iter().map(|one| one.verdict.detail()).collect(),
            delays: outcomes.iter().map(|one| one.verdict.delay()).collect(),
            kept: outcomes.iter().map(|one| one.beside.kept.as_deref()).collect(),
            tokens: outcomes.iter().map(|one| one.beside.token.as_ref().map(SecretHash::bytes)).collect(),
            heard: outcomes.iter().map(|one| one.beside.heard).collect(),
        }
    }
}

/// Events as the statement takes them.
#[derive(Default)]
struct Events<'a> {
    jobs: Vec<i64>,
    topics: Vec<&'a str>,
    keys: Vec<Option<&'a [u8]>>,
    values: Vec<Option<&'a str>>,
    headers: Vec<String>,
    bytes: Vec<i32>,
}

impl<'a> Events<'a> {
    fn of(outcomes: &[&'a Outcome]) -> Self {
        let mut all = Self::default();
        let succeeded = outcomes.iter().filter(|one| matches!(one.verdict, Verdict::Succeeded { .. }));
        for (id, event) in succeeded.flat_map(|one| one.beside.events.iter().map(|event| (one.id, event))) {
            let headers = event.headers.iter().map(|(name, text)| (name.clone(), Json::from(text.as_str())));
            all.jobs.push(id.0);
            all.topics.push(&event.topic);
            all.keys.push(event.key.as_ref().map(String::as_bytes));
            all.values.push(event.value.as_deref());
            all.headers.push(Json::Object(headers.collect()).to_string());
            all.bytes.push(i32::try_from(event.size()).unwrap_or(i32::MAX));
        }
        all
    }

    fn bound(self, query: Query<'a, Postgres, PgArguments>) -> Query<'a, Postgres, PgArguments> {
        query
            .bind(self.jobs)
            .bind(self.topics)
            .bind(self.keys)
            .bind(self.values)
            .bind(self.headers)
            .bind(self.bytes)
    }
}
