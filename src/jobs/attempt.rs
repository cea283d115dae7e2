//! One attempt of one job: its steps in order, from the first or from where an earlier attempt came to, within
//! the job's timeout. A panic is a failure like any other.
//!
//! What each step gave is kept as a [`Checkpoint`], so that a retry goes on at the step that failed. Nothing is
//! written here and nothing is decided about attempts: [`Outcome::settle`] hands that to the state machine.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use futures_util::FutureExt;
use serde_json::{Value as Json, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::kept::{Checkpoint, MAX_KEPT};
use super::state::{self, Attempts, Refused, Standing};
use crate::base::{Failure, Remedy, format_duration};
use crate::catalog::Job;
use crate::record::{Item, JobFacts, weight};
use crate::steps::ports::Event;
use crate::steps::{BoxedWait, Chain, OpenError, Pause, Ports, StepPlan};

/// The largest result of a job that is handed on, by about the size of its text.
pub const MAX_RESULT: usize = 64 << 10;
/// The longest message of a failure, in characters.
pub const MAX_MESSAGE: usize = 4_096;
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
    /// Whether what steps gave is needed again: by a retry, or behind a wait.
    keeps: bool,
}

struct Step {
    plan: StepPlan,
    chain: Chain,
    /// What tells it and all before it from another list of steps.
    print: u64,
}

/// What is known of one job beside its kind. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its number.
    pub id: i64,
    /// The number of the attempt; counts from 1.
    pub attempt: u32,
    /// From 1, which goes first, to 9.
    pub priority: u8,
    /// When it was to run.
    pub run_at: i64,
    /// When the schedule fired that enqueued it.
    pub fire_at: Option<i64>,
    /// The address by which this attempt can be called back.
    pub callback: Option<&'a str>,
}

/// One attempt.
#[derive(Debug)]
pub struct Call<'a> {
    /// The job as its expressions see it.
    pub facts: &'a JobFacts,
    /// The number of the attempt; counts from 1.
    pub attempt: u32,
    /// What steps gave in earlier attempts, in their order.
    pub kept: Vec<Checkpoint>,
    /// What came of the callback that the job waited for, if it did.
    pub callback: Option<Callback>,
}

/// What came of a callback.
#[derive(Debug, Clone, PartialEq)]
pub enum Callback {
    /// This.
    Answer(Json),
    /// Nothing, in the time that there was.
    Missed,
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
    /// What steps have given so far, for the next attempt. Of no use where the job is done.
    pub kept: Vec<Checkpoint>,
    /// What is to be published once the job is done, each by the name of its step.
    pub events: Vec<(Arc<str>, Event)>,
}

/// What an attempt has come to so far; outlives the attempt that is cut short.
#[derive(Default)]
struct Progress {
    kept: Vec<Checkpoint>,
    bytes: usize,
    events: Vec<(Arc<str>, Event)>,
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
        let open = |(plan, print): (&StepPlan, &u64)| {
            let chain = Chain::open(std::slice::from_ref(plan), Arc::clone(&job.env), ports)?;
            Ok(Step { plan: plan.clone(), chain, print: *print })
        };
        let steps = job.steps.iter().zip(&job.prints).map(open).collect::<Result<_, _>>()?;
        let keeps = job.checkpoint || job.waits_for_callbacks();
        Ok(Self { job, steps, keeps })
    }

    /// The kind as checked.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// What its expressions see of one job.
    pub fn facts(&self, known: Known<'_>, args: Json) -> JobFacts {
        let Known { id, attempt, priority, run_at, fire_at, callback } = known;
        let (kind, queue, due) = (&*self.job.name, &*self.job.queue.name, rfc3339(run_at));
        // An id does not fit into the numbers of many a JSON reader.
        let job = json!({
            "id": id.to_string(), "kind": kind, "queue": queue, "attempt": attempt, "priority": priority,
            "run_at": due, "callback": callback,
        });
        JobFacts { args, job, fire_at: fire_at.map_or(due, rfc3339), window: Json::Null }
    }

    /// Runs one attempt to its end, its timeout, or until `cancel`. Dropping the future abandons it; what was
    /// asked of others may have happened in either case.
    pub async fn run(&self, call: Call<'_>, cancel: &CancellationToken) -> Run {
        let began = Instant::now();
        let until = began.checked_add(self.job.timeout).unwrap_or_else(|| began + AGES);
        let mut progress = Progress::default();
        let attempt = Box::pin(self.attempt(call, until, &mut progress));
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
        Run { outcome, kept: progress.kept, events: progress.events }
    }

    async fn attempt(
        &self,
        call: Call<'_>,
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
            progress.published(step, &item);
            if let Some(within) = step.waits_for_callback(&item) {
                if progress.kept.len() < index {
                    let message = format!("what the steps before it gave takes more than {MAX_KEPT} bytes");
                    let failure = Failure::permanent("checkpoint-too-large", message);
                    return Err(failure.in_step(&step.plan.name));
                }
                return Ok(Outcome::Waiting { step: Arc::clone(&step.plan.name), within });
            }
            let more = index + 1 < self.steps.len();
            if self.keeps && more {
                progress.made(step, &before, &mut item)?;
            }
        }
        let result = item.value()?;
        Ok(Outcome::Succeeded { result: (weight(result) <= MAX_RESULT).then(|| result.clone()) })
    }

    /// The step to begin at, and what it begins with.
    fn resume<'r>(&self, call: Call<'r>, progress: &mut Progress) -> Result<(usize, Item<'r>), Failure> {
        let kept = if self.keeps { call.kept } else { Vec::new() };
        let whole = kept.len();
        let mut item = Item::of_job(call.facts, call.attempt, json!({}));
        let mut first = 0;
        for (checkpoint, step) in kept.into_iter().zip(&self.steps) {
            // Behind an edit nothing is known: what a step gave may rest on what is another step now.
            if checkpoint.print != step.print {
                break;
            }
            progress.bytes += checkpoint.bytes();
            if let Some(value) = &checkpoint.value {
                item.set_value(value.clone());
            }
            if let Some(result) = &checkpoint.result {
                item.set_result(&step.plan.name, result.clone());
            }
            progress.published(step, &item);
            progress.kept.push(checkpoint);
            first += 1;
        }
        // Behind an edit it is not this step that waited.
        let waited =
            self.steps.get(first).filter(|step| first == whole && step.plan.body.callback().is_some());
        if let (Some(callback), Some(step)) = (call.callback, waited) {
            let before = item.value()?.clone();
            let name = &step.plan.name;
            let Callback::Answer(answer) = callback else { return Err(step.missed()) };
            let called_back = step.plan.body.called_back(&mut item, name, answer);
            called_back.map_err(|failure| failure.in_step(name))?;
            progress.made(step, &before, &mut item)?;
            first += 1;
        }
        Ok((first, item))
    }
}

impl Step {
    /// For how long the job now waits for a callback, if it does.
    fn waits_for_callback(&self, item: &Item<'_>) -> Option<Duration> {
        let within = self.plan.body.callback()?;
        self.plan.body.awaits_callback(item, &self.plan.name).then_some(within)
    }

    fn missed(&self) -> Failure {
        let within = format_duration(self.plan.body.callback().unwrap_or_default());
        Failure::transient("callback-timeout", format!("no callback came within {within}"))
            .in_step(&self.plan.name)
    }
}

impl Progress {
    /// Notes what a step that ran wants published.
    fn published(&mut self, step: &Step, item: &Item<'_>) {
        let name = &step.plan.name;
        let result = step.plan.body.publishes().and_then(|_| item.result(name));
        self.events.extend(result.and_then(Event::of).map(|event| (Arc::clone(name), event)));
    }

    fn made(&mut self, step: &Step, before: &Json, item: &mut Item<'_>) -> Result<(), Failure> {
        let value = item.value()?;
        let value = (value != before).then(|| value.clone());
        let result = item.result(&step.plan.name).cloned();
        let checkpoint = Checkpoint { step: step.plan.name.to_string(), print: step.print, value, result };
        self.bytes += checkpoint.bytes();
        // Checkpoints are good as far as there is none missing before them.
        if self.bytes <= MAX_KEPT {
            self.kept.push(checkpoint);
        }
        Ok(())
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

/// The failure of an attempt that took longer than `limit`.
pub fn took_longer(limit: Duration) -> Failure {
    Failure::took_longer("the attempt", limit)
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let message = text.unwrap_or_else(|| "for an unknown reason".to_owned());
    Failure::permanent("panic", format!("a step panicked: {message}"))
}
