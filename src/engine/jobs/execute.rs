//! One claimed job as an attempt of its kind's program.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::callbacks::{Addresses, Token};
use super::verdict::verdict;
use crate::base::Failure;
use crate::events::ID_HEADER;
use crate::jobs::kept::{self, Checkpoint};
use crate::jobs::state::Cancelled;
use crate::jobs::{self, Call, Callback, Outcome, Program, Run};
use crate::record::JobFacts;
use crate::steps::ports::Event;
use crate::store::{Beside, Claimed, Database, Heard, KindId, QueueId, StoreResult, Verdict};
use crate::telemetry::traces::TRACEPARENT;
use crate::telemetry::{JobMetrics, UnknownKinds};

/// How long a job is put off whose earlier attempts cannot be looked up.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A kind whose steps are open.
pub(super) struct Kind {
    pub(super) program: Program,
    pub(super) metrics: JobMetrics,
}

/// Runs attempts of the kinds that are known by the time they start.
pub(super) struct Executor {
    pub(super) known: RwLock<Known>,
    pub(super) database: Database,
    pub(super) addresses: Addresses,
    pub(super) strangers: Strangers,
}

/// What is known of kinds, by their numbers in the database.
pub(super) struct Known {
    /// Those that run here.
    pub(super) kinds: HashMap<KindId, Arc<Kind>>,
    /// The queues whose jobs pull workers do, by name.
    pub(super) pulled: HashMap<String, QueueId>,
    /// What the database calls all that there were when they were made known.
    pub(super) names: HashMap<KindId, String>,
}

/// The kinds of which jobs were met that no config here has.
pub(super) struct Strangers {
    pub(super) metrics: UnknownKinds,
    /// When each was told of last.
    pub(super) told: Mutex<HashMap<KindId, Instant>>,
}

/// How often the log says that jobs of one unknown kind wait.
const TELL: Duration = Duration::from_secs(300);

impl Strangers {
    fn met(&self, job: &Claimed, name: Option<&String>) {
        self.metrics.put_off();
        let now = Instant::now();
        let mut told = self.told.lock();
        if told.get(&job.kind).is_some_and(|last| now.duration_since(*last) < TELL) {
            return;
        }
        told.insert(job.kind, now);
        let kind = name.map_or_else(|| job.kind.0.to_string(), Clone::clone);
        warn!(kind, job = %job.id, "jobs wait of a kind that this config has not: define it, or cancel them");
    }
}

/// What an attempt begins with, beside its job.
#[derive(Default)]
struct Before {
    kept: Vec<Checkpoint>,
    callback: Option<Callback>,
    /// By which this attempt can be called back.
    token: Option<Token>,
}

impl jobs::Execute for Executor {
    fn knows(&self, kind: KindId) -> bool {
        // One that pull workers do has no steps to run.
        self.kind(kind).is_some_and(|kind| !kind.program.job().is_pulled())
    }

    fn unknown(&self, job: &Claimed) {
        self.strangers.met(job, self.known.read().names.get(&job.kind));
    }

    async fn execute(&self, job: &Claimed, cancel: CancellationToken) -> (Verdict, Beside) {
        let Some(kind) = self.kind(job.kind) else { return (Verdict::Back, Beside::default()) };
        if !job.started {
            kind.metrics.claimed_after(job.due_for);
        }
        let timer = kind.metrics.started();
        let (verdict, beside) = if kind.has_expired(job) {
            (Verdict::Cancelled { code: Cancelled::Expired.as_str().to_owned() }, Beside::default())
        } else {
            self.attempt(&kind, job, &cancel).await
        };
        timer.ended(word(&verdict));
        if let Verdict::Retry { code, .. } | Verdict::Failed { code, .. } = &verdict {
            debug!(job = %job.id, kind = &*kind.program.job().name, code, "an attempt failed");
        }
        (verdict, beside)
    }

    fn panicked(&self, _: &Claimed, message: &str) -> Verdict {
        let detail = json!({ "code": "panic", "message": message.replace('\0', " ") }).to_string();
        Verdict::Failed { code: "panic".to_owned(), detail }
    }
}

impl Executor {
    /// The kind of that number.
    pub(super) fn kind(&self, kind: KindId) -> Option<Arc<Kind>> {
        self.known.read().kinds.get(&kind).cloned()
    }

    /// The queue of that name, where pull workers do its jobs.
    pub(super) fn pulled_queue(&self, name: &str) -> Option<QueueId> {
        self.known.read().pulled.get(name).copied()
    }

    /// How long an attempt of each kind may take that pull workers do.
    pub(super) fn pulled_timeouts(&self) -> Vec<(KindId, Duration)> {
        let known = self.known.read();
        let pulled = known.kinds.iter().filter(|(_, kind)| kind.program.job().is_pulled());
        pulled.map(|(number, kind)| (*number, kind.program.job().timeout)).collect()
    }

    async fn attempt(&self, kind: &Kind, job: &Claimed, cancel: &CancellationToken) -> (Verdict, Beside) {
        let before = match self.before(kind, job).await {
            Ok(before) => before,
            Err(error) => {
                warn!(job = %job.id, %error, "what an earlier attempt came to cannot be read; the job is put off");
                return (Verdict::Snooze { delay: LOOK_AGAIN }, Beside::default());
            }
        };
        let (token, heard) = (before.token.as_ref().map(Token::hash), before.callback.is_some());
        let Run { outcome, kept, events } = self.run(kind, job, before, cancel).await;
        let verdict = verdict(outcome, job, &kind.program.job().retry, rand::random());
        let kept = to_be_kept(job, &verdict, &kept, kind.program.job().checkpoint);
        let events = events.into_iter().map(|(step, event)| addressed(event, kind, job, &step)).collect();
        (verdict, Beside { kept, token, heard, events })
    }

    /// Looks up what earlier attempts came to, and makes the address by which this one can be called back.
    async fn before(&self, kind: &Kind, job: &Claimed) -> StoreResult<Before> {
        let mut before = Before::default();
        if job.remembered && job.started {
            let text = self.database.kept(job.id).await?;
            before.kept = text.map(|text| kept::read(&text)).unwrap_or_default();
        }
        if !kind.program.job().waits_for_callbacks() {
            return Ok(before);
        }
        if job.started {
            before.callback = self.database.heard(job.id).await?.map(read);
        }
        let token = Token::new();
        self.database.expect_callback(job.id, token.hash()).await?;
        before.token = Some(token);
        Ok(before)
    }

    async fn run(&self, kind: &Kind, job: &Claimed, before: Before, cancel: &CancellationToken) -> Run {
        let Before { kept, callback, token } = before;
        let args = match kind.args(job) {
            Ok(args) => args,
            Err(failure) => {
                return Run { outcome: Outcome::Failed(failure.given_up()), kept, events: Vec::new() };
            }
        };
        let address = token.map(|token| self.addresses.of(&token));
        let facts = kind.facts(job, address.as_deref(), args);
        let attempt = attempt(job);
        kind.program.run(Call { facts: &facts, attempt, kept, callback }, cancel).await
    }
}

impl Kind {
    pub(super) fn has_expired(&self, job: &Claimed) -> bool {
        !job.started && self.program.job().expires.is_some_and(|expires| job.due_for >= expires)
    }

    fn facts(&self, job: &Claimed, callback: Option<&str>, args: Json) -> JobFacts {
        let known = jobs::Known {
            id: job.id.0,
            attempt: attempt(job),
            priority: u8::try_from(job.priority).unwrap_or(9),
            run_at: job.run_at,
            fire_at: None,
            callback,
        };
        self.program.facts(known, args)
    }

    pub(super) fn args(&self, job: &Claimed) -> Result<Json, Failure> {
        let most = self.program.job().max_args;
        if job.args.len() as u64 > most.0 {
            let message = format!("the args have {} bytes and `max_args_bytes` is {most}", job.args.len());
            return Err(Failure::permanent("args-invalid", message));
        }
        serde_json::from_str(&job.args)
            .map_err(|error| Failure::permanent("args-invalid", format!("the args are no JSON: {error}")))
    }
}

/// What is to be remembered of an attempt that has ended. Of one that counts for nothing it is that there was one: a
/// job that has started does not expire any more. Without `checkpoint` only the next attempt begins anew, not what
/// goes on with this one.
fn to_be_kept(job: &Claimed, verdict: &Verdict, kept: &[Checkpoint], checkpoint: bool) -> Option<String> {
    let same = matches!(verdict, Verdict::Wait { .. } | Verdict::Back);
    let kept = if same || checkpoint { kept } else { &[] };
    let first = !job.started && (same || matches!(verdict, Verdict::Snooze { .. }));
    let matters = first || job.remembered || !kept.is_empty();
    (matters && !verdict.is_final()).then(|| kept::write(kept))
}

/// An event with what tells it from any other, and with its job's trace unless it has one of its own.
fn addressed(mut event: Event, kind: &Kind, job: &Claimed, step: &str) -> Event {
    event.headers.retain(|(name, _)| name != ID_HEADER);
    let id = format!("jobs/{}/{}/{step}", kind.program.job().name, job.id.0);
    event.headers.push((ID_HEADER.to_owned(), id));
    let traced = event.headers.iter().any(|(name, _)| name == TRACEPARENT);
    if let Some(trace) = job.trace.as_ref().filter(|_| !traced) {
        event.headers.push((TRACEPARENT.to_owned(), trace.clone()));
    }
    event
}

fn attempt(job: &Claimed) -> u32 {
    u32::try_from(job.attempt).unwrap_or(1)
}

fn read(heard: Heard) -> Callback {
    match heard {
        // It was JSON as it came.
        Heard::Answer(text) => Callback::Answer(serde_json::from_str(&text).unwrap_or_default()),
        Heard::Nothing => Callback::Missed,
    }
}

pub(super) fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Succeeded { .. } => "succeeded",
        Verdict::Failed { .. } => "failed",
        Verdict::Retry { .. } => "retried",
        Verdict::Snooze { .. } => "snoozed",
        Verdict::Wait { .. } => "waiting",
        Verdict::Back => "handed-back",
        Verdict::Cancelled { .. } => "cancelled",
        Verdict::Discarded { .. } => "discarded",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::JobId;

    fn claimed(started: bool, remembered: bool) -> Claimed {
        Claimed {
            seq: 1,
            id: JobId(1),
            attempt: 1,
            rescues: 0,
            kind: KindId(1),
            max_attempts: 2,
            args: "{}".to_owned(),
            keyed: false,
            trace: None,
            expired: false,
            priority: 5,
            remembered,
            started,
            run_at: 0,
            due_for: Duration::ZERO,
        }
    }

    #[test]
    fn what_is_of_no_use_is_not_remembered_and_that_a_job_started_is() {
        let one = [Checkpoint { step: "a".to_owned(), print: 1, value: None, result: None }];
        let some = Some(kept::write(&one));
        let nothing = Some("[]".to_owned());
        let delay = Duration::ZERO;
        let retry = || Verdict::Retry { delay, code: "x".to_owned(), detail: "{}".to_owned() };
        let (snooze, wait) = (Verdict::Snooze { delay }, Verdict::Wait { within: delay });
        let (new, again) = (claimed(false, false), claimed(true, true));
        assert_eq!(to_be_kept(&new, &retry(), &one, true), some);
        assert_eq!(to_be_kept(&new, &retry(), &[], true), None, "its number says that it has started");
        assert_eq!(to_be_kept(&new, &snooze, &[], true), nothing);
        assert_eq!(to_be_kept(&again, &retry(), &one, false), nothing, "the next begins anew");
        for same in [Verdict::Back, wait] {
            assert_eq!(to_be_kept(&again, &same, &one, false), some, "{same:?}");
        }
        assert_eq!(to_be_kept(&again, &Verdict::Succeeded { detail: None }, &one, true), None);
    }
}
