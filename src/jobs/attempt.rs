//! One attempt of one job: its steps in order, from the first or from where an earlier attempt came to, within
//! the job's timeout. A panic is a failure like any other.
//!
//! What each step gave is kept as a [`Checkpoint`], so that a retry goes on at the step that failed. Nothing is
//! written here and nothing is decided about attempts: [`Outcome::settle`] hands that to the state machine.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use futures_util::FutureExt;
use serde_json::{Value as Json, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::state::{self, Attempts, Refused, Standing};
use crate::base::{Failure, Remedy, format_duration};
use crate::catalog::Job;
use crate::record::{Item, JobFacts, weight};
use crate::steps::{BoxedWait, Chain, OpenError, Pause, Ports, StepPlan};

/// The largest result of a job that is handed on, by about the size of its text.
pub const MAX_RESULT: usize = 64 << 10;
/// The most that one job's checkpoints hold together; what comes after is not kept.
pub const MAX_KEPT: usize = 4 << 20;
/// The longest message of a failure, in characters.
const MAX_MESSAGE: usize = 4_096;
/// The least that a job is snoozed, whatever the other side asks for.
const LEAST_SNOOZE: Duration = Duration::from_secs(1);
/// Statuses whose `Retry-After` snoozes a job.
const SNOOZING: [&str; 2] = ["http-429", "http-503"];
/// Longer than any process lives; stands for a timeout that no clock can hold.
const AGES: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// A kind of job whose steps are open; shared by all its attempts.
pub struct Program {
    job: Arc<Job>,
    steps: Vec<Step>,
}

struct Step {
    plan: StepPlan,
    chain: Chain,
}

/// One attempt.
#[derive(Debug)]
pub struct Call<'a> {
    /// The job as its expressions see it.
    pub facts: &'a JobFacts,
    /// The number of the attempt; counts from 1.
    pub attempt: u32,
    /// What steps gave in earlier attempts, in their order.
    pub kept: &'a [Checkpoint],
    /// What the callback brought that the job waited for, if it did.
    pub callback: Option<Json>,
}

/// What a step gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The step's name.
    pub step: Arc<str>,
    /// The value behind it, where the step changed it.
    pub value: Option<Json>,
    /// What stands under `steps.NAME`, where the step has a result.
    pub result: Option<Json>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps passed, or a `filter` ended it.
    Succeeded {
        /// The value behind the last step; `None` where it is larger than [`MAX_RESULT`] or there is none.
        result: Option<Json>,
    },
    /// A step failed, the args are not what they should be, or the time was over.
    Failed(Failure),
    /// The other side asked to be left alone for a while.
    Snoozed {
        /// For how long; at least a second.
        wait: Duration,
        /// What it said.
        why: Failure,
    },
    /// A step waits for a callback.
    Waiting {
        /// Which.
        step: Arc<str>,
        /// For how long at most.
        within: Duration,
    },
    /// It was told to stop.
    Cancelled,
}

/// An attempt that has ended.
#[derive(Debug)]
pub struct Run {
    /// How.
    pub outcome: Outcome,
    /// Checkpoints that [`Keep`] has not seen, to be written with the outcome. Of no use where the job is done.
    pub unkept: Vec<Checkpoint>,
}

/// One write of checkpoints.
pub type BoxedKeep<'a> = Pin<Box<dyn Future<Output = Result<bool, Failure>> + Send + 'a>>;

/// Who keeps checkpoints while an attempt runs.
pub trait Keep: Send + Sync {
    /// Writes what steps gave, in their order, before the next step starts. Called behind each step that asked
    /// another system, unless it was the last. False: not now, so they come again, at the latest with the outcome.
    ///
    /// # Errors
    /// Where it cannot be written; the attempt ends with that failure.
    fn keep<'a>(&'a self, checkpoints: &'a [Checkpoint]) -> BoxedKeep<'a>;
}

/// Keeps nothing on the way: all checkpoints come with the outcome, and a dead worker's steps are done again.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepLater;

impl Keep for KeepLater {
    fn keep<'a>(&'a self, _: &'a [Checkpoint]) -> BoxedKeep<'a> {
        Box::pin(async { Ok(false) })
    }
}

/// What an attempt has come to so far; outlives the attempt that is cut short.
#[derive(Default)]
struct Progress {
    unkept: Vec<Checkpoint>,
    weight: usize,
}

impl Outcome {
    /// Where the job stands then. `random` is uniform in `0.0..1.0`.
    ///
    /// # Errors
    /// Unless it is `running`.
    pub fn settle(&self, job: Standing, attempts: Attempts<'_>, random: f64) -> Result<Standing, Refused> {
        match self {
            Self::Succeeded { .. } => state::succeed(job),
            Self::Failed(failure) => state::fail(job, failure, attempts, random),
            Self::Snoozed { wait, .. } => state::snooze(job, *wait),
            Self::Waiting { within, .. } => state::wait(job, *within),
            Self::Cancelled => state::cancel(job),
        }
    }
}

impl Program {
    /// Opens the steps of `job`, once a generation.
    ///
    /// # Errors
    /// The first step that cannot be opened.
    pub fn open(job: Arc<Job>, ports: &Ports) -> Result<Self, OpenError> {
        let open = |plan: &StepPlan| {
            let chain = Chain::open(std::slice::from_ref(plan), Arc::clone(&job.env), ports)?;
            Ok(Step { plan: plan.clone(), chain })
        };
        let steps = job.steps.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { job, steps })
    }

    /// The kind as checked.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// What its expressions see of one job. Times are in milliseconds since the Unix epoch; `fire_at` is that of
    /// the schedule that enqueued it.
    pub fn facts(
        &self,
        id: i64,
        attempt: u32,
        priority: u8,
        run_at: i64,
        fire_at: Option<i64>,
        args: Json,
    ) -> JobFacts {
        let (kind, queue, due) = (&*self.job.name, &*self.job.queue.name, rfc3339(run_at));
        // An id does not fit into the numbers of many a JSON reader.
        let job = json!({
            "id": id.to_string(), "kind": kind, "queue": queue, "attempt": attempt, "priority": priority,
            "run_at": due,
        });
        JobFacts { args, job, fire_at: fire_at.map_or(due, rfc3339), window: Json::Null }
    }

    /// Runs one attempt to its end, its timeout, or until `cancel`. Dropping the future abandons it; what was
    /// asked of others may have happened in either case.
    pub async fn run(&self, call: Call<'_>, keep: &dyn Keep, cancel: &CancellationToken) -> Run {
        let began = Instant::now();
        let until = began.checked_add(self.job.timeout).unwrap_or_else(|| began + AGES);
        let mut progress = Progress::default();
        let attempt = Box::pin(self.attempt(&call, keep, until, &mut progress));
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => Outcome::Cancelled,
            ended = tokio::time::timeout_at(until, AssertUnwindSafe(attempt).catch_unwind()) => match ended {
                Ok(Ok(Ok(outcome))) => outcome,
                Ok(Ok(Err(failure))) => judge(failure),
                Ok(Err(panic)) => Outcome::Failed(panicked(&*panic)),
                Err(_) => Outcome::Failed(took_longer(self.job.timeout)),
            },
        };
        Run { outcome, unkept: progress.unkept }
    }

    async fn attempt(
        &self,
        call: &Call<'_>,
        keep: &dyn Keep,
        until: Instant,
        progress: &mut Progress,
    ) -> Result<Outcome, Failure> {
        // SQL enqueues without a look at the schema.
        self.job.check_args(&call.facts.args)?;
        let (first, mut item) = self.resume(call, progress)?;
        let pause = Until(until);
        for (index, step) in self.steps.iter().enumerate().skip(first) {
            let before = item.value()?.clone();
            let mut out = Vec::with_capacity(1);
            step.chain.run(item, &mut out, &pause).await?;
            let Some(left) = out.pop() else { return Ok(Outcome::Succeeded { result: None }) };
            item = left;
            if let Some(within) = step.waits_for_callback(&item) {
                return Ok(Outcome::Waiting { step: Arc::clone(&step.plan.name), within });
            }
            let more = index + 1 < self.steps.len();
            if self.job.checkpoint && more {
                progress.made(step, &before, &mut item)?;
                if step.plan.body.waits() && keep.keep(&progress.unkept).await? {
                    progress.unkept.clear();
                }
            }
        }
        let result = item.value()?;
        Ok(Outcome::Succeeded { result: (weight(result) <= MAX_RESULT).then(|| result.clone()) })
    }

    /// The step to begin at, and what it begins with.
    fn resume<'r>(&self, call: &Call<'r>, progress: &mut Progress) -> Result<(usize, Item<'r>), Failure> {
        let kept = if self.job.checkpoint { call.kept } else { &[] };
        let mut item = Item::of_job(call.facts, call.attempt, json!({}));
        let mut first = 0;
        // Of steps that an edit has put in another order nothing is known.
        for (checkpoint, step) in kept.iter().zip(&self.steps) {
            if checkpoint.step != step.plan.name {
                break;
            }
            progress.weight += checkpoint.weight();
            if let Some(value) = &checkpoint.value {
                item.set_value(value.clone());
            }
            if let Some(result) = &checkpoint.result {
                item.set_result(&step.plan.name, result.clone());
            }
            first += 1;
        }
        let waited = self.steps.get(first).filter(|step| step.plan.body.callback().is_some());
        if let (Some(answer), Some(step)) = (&call.callback, waited) {
            let before = item.value()?.clone();
            let name = &step.plan.name;
            let called_back = step.plan.body.called_back(&mut item, name, answer.clone());
            called_back.map_err(|failure| failure.in_step(name))?;
            progress.made(step, &before, &mut item)?;
            first += 1;
        }
        Ok((first, item))
    }
}

impl Step {
    /// For how long the job now waits for a callback, if its step was answered so.
    fn waits_for_callback(&self, item: &Item<'_>) -> Option<Duration> {
        let within = self.plan.body.callback()?;
        let status = item.result(&self.plan.name)?.get("status")?.as_u64()?;
        (status == 202).then_some(within)
    }
}

impl Progress {
    fn made(&mut self, step: &Step, before: &Json, item: &mut Item<'_>) -> Result<(), Failure> {
        let value = item.value()?;
        let value = (value != before).then(|| value.clone());
        let result = item.result(&step.plan.name).cloned();
        let checkpoint = Checkpoint { step: Arc::clone(&step.plan.name), value, result };
        self.weight += checkpoint.weight();
        // Checkpoints are good as far as there is none missing before them.
        if self.weight <= MAX_KEPT {
            self.unkept.push(checkpoint);
        }
        Ok(())
    }
}

impl Checkpoint {
    fn weight(&self) -> usize {
        self.value.iter().chain(&self.result).map(weight).sum()
    }
}

/// Waits as long as the attempt has time for it.
struct Until(Instant);

impl Pause for Until {
    fn pause<'a>(&'a self, wait: Duration, _: &'a Failure) -> BoxedWait<'a> {
        Box::pin(async move {
            let due = Instant::now().checked_add(wait).filter(|due| *due < self.0);
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => return false,
            }
            true
        })
    }
}

/// A snooze or a failure.
fn judge(failure: Failure) -> Outcome {
    let failure = Failure { message: failure.message.chars().take(MAX_MESSAGE).collect(), ..failure };
    match failure.retry_after {
        Some(wait) if SNOOZING.contains(&&*failure.code) && failure.remedy == Remedy::Policy => {
            Outcome::Snoozed { wait: wait.max(LEAST_SNOOZE), why: failure }
        }
        _ => Outcome::Failed(failure),
    }
}

fn rfc3339(millis: i64) -> String {
    let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn took_longer(limit: Duration) -> Failure {
    let limit = format_duration(limit);
    Failure::transient("timeout", format!("the attempt took longer than {limit}"))
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let message = text.unwrap_or_else(|| "for an unknown reason".to_owned());
    Failure::permanent("panic", format!("a step panicked: {message}"))
}
