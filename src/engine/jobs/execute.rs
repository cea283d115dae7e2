//! One claimed job as an attempt of its kind's program.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::verdict::verdict;
use crate::base::Failure;
use crate::jobs::{self, Call, KeepLater, Outcome, Program};
use crate::store::{Claimed, KindId, Verdict};
use crate::telemetry::{JobMetrics, UnknownKinds};

/// A kind whose steps are open.
pub(super) struct Kind {
    pub(super) program: Program,
    pub(super) metrics: JobMetrics,
}

/// The kinds that run here, by their numbers in the database.
pub(super) struct Executor {
    pub(super) kinds: HashMap<KindId, Arc<Kind>>,
    pub(super) strangers: Strangers,
}

/// The kinds of which jobs were met that no config here has.
pub(super) struct Strangers {
    /// What the database calls them, as far as it did when this worker registered.
    pub(super) names: HashMap<KindId, String>,
    pub(super) metrics: UnknownKinds,
    /// When each was told of last.
    pub(super) told: Mutex<HashMap<KindId, Instant>>,
}

/// How often the log says that jobs of one unknown kind wait.
const TELL: Duration = Duration::from_secs(300);

impl Strangers {
    fn met(&self, job: &Claimed) {
        self.metrics.put_off();
        let now = Instant::now();
        let mut told = self.told.lock();
        if told.get(&job.kind).is_some_and(|last| now.duration_since(*last) < TELL) {
            return;
        }
        told.insert(job.kind, now);
        let kind = self.names.get(&job.kind).map_or_else(|| job.kind.0.to_string(), Clone::clone);
        warn!(kind, job = %job.id, "jobs wait of a kind that this config has not: define it, or cancel them");
    }
}

impl jobs::Execute for Executor {
    fn knows(&self, kind: KindId) -> bool {
        self.kinds.contains_key(&kind)
    }

    fn unknown(&self, job: &Claimed) {
        self.strangers.met(job);
    }

    async fn execute(&self, job: &Claimed, cancel: CancellationToken) -> Verdict {
        let Some(kind) = self.kinds.get(&job.kind) else { return Verdict::Back };
        let timer = kind.metrics.started();
        let outcome = kind.attempt(job, &cancel).await;
        let verdict = verdict(outcome, job, &kind.program.job().retry, rand::random());
        timer.ended(word(&verdict));
        if let Verdict::Retry { code, .. } | Verdict::Failed { code, .. } = &verdict {
            debug!(job = %job.id, kind = &*kind.program.job().name, code, "an attempt failed");
        }
        verdict
    }

    fn panicked(&self, _: &Claimed, message: &str) -> Verdict {
        let detail = json!({ "code": "panic", "message": message.replace('\0', " ") }).to_string();
        Verdict::Failed { code: "panic".to_owned(), detail }
    }
}

impl Kind {
    async fn attempt(&self, job: &Claimed, cancel: &CancellationToken) -> Outcome {
        let most = self.program.job().max_args;
        if job.args.len() as u64 > most.0 {
            let message = format!("the args have {} bytes and `max_args_bytes` is {most}", job.args.len());
            return Outcome::Failed(Failure::permanent("args-invalid", message).given_up());
        }
        let args = match serde_json::from_str(&job.args) {
            Ok(args) => args,
            Err(error) => {
                let failure = Failure::permanent("args-invalid", format!("the args are no JSON: {error}"));
                return Outcome::Failed(failure.given_up());
            }
        };
        let attempt = u32::try_from(job.attempt).unwrap_or(1);
        let priority = u8::try_from(job.priority).unwrap_or(9);
        // When it became due is written nowhere once it is.
        let facts = self.program.facts(job.id.0, attempt, priority, job.id.enqueued_at(), None, args);
        let call = Call { facts: &facts, attempt, kept: &[], callback: None };
        self.program.run(call, &KeepLater, cancel).await.outcome
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Succeeded { .. } => "succeeded",
        Verdict::Failed { .. } => "failed",
        Verdict::Retry { .. } => "retried",
        Verdict::Snooze { .. } => "snoozed",
        Verdict::Back => "handed-back",
        Verdict::Cancelled { .. } => "cancelled",
        Verdict::Discarded { .. } => "discarded",
    }
}
