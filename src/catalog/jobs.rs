//! Kinds of jobs: references followed, defaults filled in, limits judged.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::args_path::{self, ArgsPath};
use super::fingerprint::{self, Used};
use super::queues::{self, Queue};
use super::scene::Scene;
use super::steps::{self, Place, WrittenStep};
use super::{job_steps, pulled};
use crate::base::{ByteSize, Failure, RetryPolicy};
use crate::diag::{Diagnostic, codes};
use crate::expr::RootSet;
use crate::spec::{About, JOB_KEYS, JobSpec, KeyState, OnConflict, Spanned, UniqueSpec, Workers};
use crate::steps::{Schema, StepPlan};

/// A kind of durable job.
pub struct Job {
    /// Its identity: what whoever enqueues it calls it.
    pub name: Arc<str>,
    /// What people read.
    pub about: About,
    /// The name it had before; jobs that were enqueued under it are its own.
    pub was: Option<Arc<str>>,
    /// Where it waits and whose limits it obeys.
    pub queue: Arc<Queue>,
    /// How long one attempt may take, waits within it included.
    pub timeout: Duration,
    /// When a failure is worth another attempt. What it says of exhausted records does not matter here.
    pub retry: Arc<RetryPolicy>,
    /// Which of two due jobs goes first: 1 before 9.
    pub priority: u8,
    /// Which jobs are the same; `None`: no two are.
    pub unique: Option<Unique>,
    /// What its args satisfy.
    pub args_schema: Option<Arc<Schema>>,
    /// The largest args, as JSON text.
    pub max_args: ByteSize,
    /// The kind that is enqueued where its attempts are spent; the job itself is kept in any case.
    pub exhausted_enqueues: Option<Arc<str>>,
    /// After how long a job that is due and not started is cancelled; `None`: never.
    pub expires: Option<Duration>,
    /// Whether a retry goes on at the step that failed.
    pub checkpoint: bool,
    /// What it does, in order; at least one step, unless pull workers do it.
    pub steps: Vec<StepPlan>,
    /// What tells each step, with all before it, from those of another version of this job.
    pub prints: Vec<u64>,
    /// What expressions see as `env`.
    pub env: Arc<Json>,
}

impl Job {
    /// Whether these are args that its steps can expect.
    ///
    /// # Errors
    /// A permanent failure `args-invalid` that says where they and `args_schema` disagree.
    pub fn check_args(&self, args: &Json) -> Result<(), Failure> {
        let Some(schema) = &self.args_schema else { return Ok(()) };
        schema.check(args).map_err(|failure| Failure::permanent("args-invalid", failure.message).given_up())
    }

    /// Whether programs of the user's own do it, which claim it over HTTP.
    pub fn is_pulled(&self) -> bool {
        self.queue.workers == Workers::Pull
    }

    /// Whether one of its steps may wait for a callback.
    pub fn waits_for_callbacks(&self) -> bool {
        self.steps.iter().any(|step| step.body.callback().is_some())
    }
}

impl fmt::Debug for Job {
    /// Never shows `env`, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("name", &self.name)
            .field("queue", &self.queue)
            .field("timeout", &self.timeout)
            .field("retry", &self.retry)
            .field("priority", &self.priority)
            .field("unique", &self.unique)
            .field("args_schema", &self.args_schema)
            .field("max_args", &self.max_args)
            .field("exhausted_enqueues", &self.exhausted_enqueues)
            .field("expires", &self.expires)
            .field("checkpoint", &self.checkpoint)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

/// Which jobs of a kind are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The args that tell them apart; at least one.
    pub by: Vec<ArgsPath>,
    /// The states in which one keeps others out; at least one, in the order of [`KeyState`].
    pub states: Vec<KeyState>,
    /// For how long one keeps others out whatever its state.
    pub period: Option<Duration>,
    /// What becomes of the one that is kept out.
    pub on_conflict: OnConflict,
}

/// How long an attempt may take where nothing is said.
pub(super) const TIMEOUT: Duration = Duration::from_secs(600);

/// All but `failed`: a job that is given up keeps nobody out.
pub(super) const STATES: [KeyState; 5] =
    [KeyState::Scheduled, KeyState::Queued, KeyState::Running, KeyState::Retrying, KeyState::Waiting];

/// A job as written, its groups written out.
pub(super) struct WrittenJob<'a> {
    pub(super) name: &'a str,
    pub(super) spec: JobSpec<'a>,
    pub(super) steps: Vec<WrittenStep<'a>>,
    /// What was named while the groups were written out.
    pub(super) used: Used,
}

/// Where the steps of a job stand.
pub(super) const OWNER: steps::Owner =
    steps::Owner { section: "jobs", noun: "job", keys: &JOB_KEYS, roots: RootSet::JOB };

/// The job that a table says; `None`: something is wrong, and that has been reported.
pub(super) fn resolve(scene: &Scene<'_>, written: &WrittenJob<'_>) -> Option<Job> {
    let WrittenJob { name, spec, .. } = written;
    let what = format!("job `{name}`");
    let errors = scene.read.diagnostics.errors();
    let queue = match &spec.queue {
        Some(queue) => queues::find(scene, queue, &what),
        None => {
            check_queue_present(scene, written, &what);
            None
        }
    };
    let retry = match &spec.retry {
        Some(retry) => scene.retry(retry, &what),
        None => Some(scene.built_in()),
    };
    let schema = spec.args_schema.as_ref().filter(|name| name.known);
    let args_schema = schema.map(|name| scene.schemas.find(scene.files, name, false, scene.read.diagnostics));
    let unique = spec.unique.as_ref().map(|unique| resolve_unique(scene, unique, &what));
    let exhausted_enqueues = spec.exhausted_enqueues.as_ref().map(|other| scene.job(other, &what));
    job_steps::check(scene, written, &what);
    pulled::check(scene, written, queue.as_deref(), &what);
    if let (Some(name), Some(queue)) = (&spec.retry, &queue)
        && queue.workers == Workers::Pull
    {
        scene.pull_retries.borrow_mut().insert(name.value.clone());
    }
    let table = scene.sections.jobs.get(name).map(|definition| definition.table);
    let place = table.map(|table| Place { owner: OWNER, name, table });
    let plans = steps::plan(scene, &written.steps, &what, OWNER, place);
    if scene.read.diagnostics.errors() > errors {
        return None;
    }
    Some(Job {
        name: Arc::from(*name),
        about: spec.about.clone(),
        was: spec.was.as_ref().map(|was| Arc::from(was.value.as_str())),
        queue: queue?,
        timeout: spec.timeout.as_ref().map_or(TIMEOUT, |timeout| timeout.value),
        retry: retry?,
        priority: spec.priority.as_ref().map_or(5, |number| u8::try_from(number.value).unwrap_or(5)),
        unique: unique.map_or(Some(None), |unique| unique.map(Some))?,
        args_schema: args_schema.map_or(Some(None), |schema| schema.map(Some))?,
        max_args: spec.max_args_bytes.as_ref().map_or(ByteSize(1 << 20), |size| size.value),
        exhausted_enqueues: exhausted_enqueues.map_or(Some(None), |other| other.map(Some))?,
        expires: spec.expires.as_ref().map(|wait| wait.value),
        checkpoint: spec.checkpoint.as_ref().is_none_or(|word| word.value),
        steps: plans?,
        prints: fingerprint::of_steps(&written.steps),
        env: Arc::clone(&scene.environment.values),
    })
}

/// Whether a job has a queue, or has one that was reported. Its defaults may well say it, so it is not for the
/// reader to judge.
fn check_queue_present(scene: &Scene<'_>, written: &WrittenJob<'_>, what: &str) {
    let sections = scene.sections;
    let places = [sections.jobs.get(written.name), sections.defaults.get("jobs")];
    if places.into_iter().flatten().any(|definition| definition.table.get("queue").is_some()) {
        return;
    }
    scene.report(
        Diagnostic::new(&codes::KEY_MISSING, format!("{what} has no `queue`"))
            .at(written.spec.span, "`queue` is missing")
            .help("add `queue = \"NAME\"`, here or in `[defaults.jobs]`"),
    );
}

fn resolve_unique(scene: &Scene<'_>, spec: &UniqueSpec, what: &str) -> Option<Unique> {
    let paths = spec.by.as_ref()?;
    let by: Vec<_> = paths.iter().filter_map(|text| args_path::resolve(scene, text, what)).collect();
    let mut states: Vec<_> =
        spec.states.as_ref().map_or(STATES.to_vec(), |states| states.iter().map(|word| word.value).collect());
    states.sort_unstable();
    states.dedup();
    (by.len() == paths.len()).then(|| Unique {
        by,
        states,
        period: spec.period.as_ref().map(|period| period.value),
        on_conflict: spec.on_conflict.as_ref().map_or(OnConflict::Keep, |word| word.value),
    })
}

/// Reports jobs whose exhaustion leads back to themselves: what always fails would go round for ever.
pub(super) fn check_loops(scene: &Scene<'_>, written: &[WrittenJob<'_>]) {
    let next: HashMap<&str, &Spanned<String>> =
        written.iter().filter_map(|job| Some((job.name, job.spec.exhausted_enqueues.as_ref()?))).collect();
    let mut told = HashSet::new();
    for job in written {
        let mut way: Vec<&str> = vec![job.name];
        while let Some(to) = way.last().and_then(|name| next.get(name)) {
            if to.value == job.name {
                if !way.iter().any(|name| told.contains(name)) {
                    report_loop(scene, &way, to);
                }
                told.extend(way);
                break;
            }
            // Of a loop further on its own members tell.
            if way.contains(&to.value.as_str()) {
                break;
            }
            way.push(&to.value);
        }
    }
}

fn report_loop(scene: &Scene<'_>, way: &[&str], back: &Spanned<String>) {
    let first = way.first().copied().unwrap_or_default();
    let through = way.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" → ");
    let message = format!("job `{first}` enqueues itself again where its attempts are spent");
    scene.report(
        Diagnostic::new(&codes::JOB_LOOP, message)
            .at(back.span, format!("{through} → `{first}`"))
            .help("let one of them be kept for an operator: leave its `on_exhausted` out"),
    );
}
