//! One claimed job as an attempt of its kind's program.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::verdict::verdict;
use crate::base::Failure;
use crate::jobs::{self, Call, KeepLater, Outcome, Program};
use crate::store::{Claimed, KindId, Verdict};
use crate::telemetry::JobMetrics;

/// A kind whose steps are open.
pub(super) struct Kind {
    pub(super) program: Program,
    pub(super) metrics: JobMetrics,
}

/// The kinds that run here, by their numbers in the database.
pub(super) struct Executor {
    pub(super) kinds: HashMap<KindId, Arc<Kind>>,
}

impl jobs::Execute for Executor {
    fn knows(&self, kind: KindId) -> bool {
        self.kinds.contains_key(&kind)
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
