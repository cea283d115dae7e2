//! Queues: limits that jobs share, judged against each other.

use std::sync::Arc;

use super::args_path::{self, ArgsPath};
use super::scene::Scene;
use crate::base::Rate;
use crate::diag::{Diagnostic, Span, codes, nearest};
use crate::spec::{About, QueueSpec, Spanned, Workers};

/// A named set of jobs that share workers and limits.
#[derive(Debug)]
pub struct Queue {
    /// Its identity.
    pub name: Arc<str>,
    /// What people read.
    pub about: About,
    /// The name it had before.
    pub was: Option<Arc<str>>,
    /// Who works its jobs.
    pub workers: Workers,
    /// How many of its jobs one engine runs at one time; at least 1.
    pub concurrency: usize,
    /// How many all engines run at one time; `None`: any.
    pub global_concurrency: Option<usize>,
    /// How many jobs of one key run at one time, on all engines together.
    pub per_key: Option<KeyConcurrency>,
    /// Whose jobs take turns; that of `per_key` where it has one, `None`: the oldest goes first.
    pub turns: Option<ArgsPath>,
    /// How many jobs all engines start together.
    pub rate: Option<Rate>,
}

/// The limit of the jobs that share a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConcurrency {
    /// What counts as the key.
    pub key: ArgsPath,
    /// How many of them run at one time; at least 1.
    pub concurrency: usize,
}

/// How many jobs of a queue one engine runs where nothing is said.
const CONCURRENCY: usize = 16;

/// The queue that a table says; `None`: something is wrong, and that has been reported.
pub(super) fn resolve(scene: &Scene<'_>, name: &str, spec: &QueueSpec) -> Option<Queue> {
    let what = format!("queue `{name}`");
    let errors = scene.read.diagnostics.errors();
    let key = |text: &Option<Spanned<String>>| args_path::resolve(scene, text.as_ref()?, &what);
    let per_key = spec.per_key.as_ref().map(|per_key| (key(&per_key.key), count(&per_key.concurrency)));
    let fairness = spec.fairness.as_ref().map(|fairness| key(&fairness.key));
    check_turns(scene, spec, &what);
    check_workers(scene, spec, &what);
    check_limits(scene, spec, &what);
    if scene.read.diagnostics.errors() > errors {
        return None;
    }
    let per_key = match per_key {
        Some((key, concurrency)) => Some(KeyConcurrency { key: key?, concurrency: concurrency? }),
        None => None,
    };
    let global_concurrency = count(&spec.global_concurrency);
    let turns = per_key.as_ref().map(|per_key| per_key.key.clone()).or(fairness.flatten());
    Some(Queue {
        name: Arc::from(name),
        about: spec.about.clone(),
        was: spec.was.as_ref().map(|was| Arc::from(was.value.as_str())),
        workers: spec.workers.as_ref().map_or(Workers::Engine, |word| word.value),
        concurrency: count(&spec.concurrency)
            .unwrap_or(CONCURRENCY.min(global_concurrency.unwrap_or(CONCURRENCY))),
        global_concurrency,
        per_key,
        turns,
        rate: spec.rate.as_ref().map(|rate| rate.value),
    })
}

/// The queue of that name; `what` names it.
pub(super) fn find(scene: &Scene<'_>, name: &Spanned<String>, what: &str) -> Option<Arc<Queue>> {
    scene.used.borrow_mut().insert(("queues", name.value.clone()));
    if let Some(queue) = scene.queues.get(&name.value) {
        return queue.clone();
    }
    if !scene.dots.meant("queues", &name.value) {
        let near = nearest(&name.value, scene.queues.keys().map(String::as_str));
        scene.undefined(
            Diagnostic::new(
                &codes::QUEUE_UNDEFINED,
                format!("{what} names undefined queue `{}`", name.value),
            )
            .at(name.span, "no such queue")
            .help(match near {
                Some(near) => format!("a queue with a similar name exists: `{near}`"),
                None => format!("define it: [queues.{}]", name.value),
            }),
        );
    }
    None
}

fn count(number: &Option<Spanned<i64>>) -> Option<usize> {
    number.as_ref().and_then(|number| usize::try_from(number.value).ok())
}

/// A queue has one kind of key.
fn check_turns(scene: &Scene<'_>, spec: &QueueSpec, what: &str) {
    if let (Some(per_key), Some(fairness)) = (&spec.per_key, &spec.fairness) {
        scene.report(
            Diagnostic::new(&codes::KEY_CONFLICT, format!("{what} has both `per_key` and `fairness`"))
                .at(fairness.span, "takes turns")
                .also(per_key.span, "takes turns by its own key already")
                .help("remove `fairness`"),
        );
    }
}

/// What one engine runs is nothing to jobs that no engine runs.
fn check_workers(scene: &Scene<'_>, spec: &QueueSpec, what: &str) {
    let pulled = spec.workers.as_ref().filter(|word| word.known && word.value == Workers::Pull);
    if let (Some(pulled), Some(own)) = (pulled, spec.concurrency.as_ref().filter(|own| own.own)) {
        scene.report(
            Diagnostic::new(
                &codes::KEY_CONFLICT,
                format!("{what} is for pull workers and has a `concurrency`"),
            )
            .at(own.span, "how many jobs one engine runs")
            .also(pulled.span, "no engine runs any")
            .help(
                "remove it: a worker runs what it claims; `global_concurrency` bounds all of them together",
            ),
        );
    }
}

/// Limits that another makes pointless.
fn check_limits(scene: &Scene<'_>, spec: &QueueSpec, what: &str) {
    let Some(global) = spec.global_concurrency.as_ref().filter(|number| number.known) else { return };
    let report = |number: i64, place: Span, who: &str, key: &str| {
        let message =
            format!("{who} may run {number} jobs of {what}, but all engines together only {}", global.value);
        scene.report(
            Diagnostic::new(&codes::QUEUE_LIMITS, message)
                .at(place, "never reached")
                .also(global.span, "for all engines together")
                .help(format!("lower `{key}`, or raise `global_concurrency`")),
        );
    };
    let above = |number: &&Spanned<i64>| number.known && number.value > global.value;
    if let Some(own) = spec.concurrency.as_ref().filter(above) {
        report(own.value, own.span, "one engine", "concurrency");
    }
    if let Some(own) = spec.per_key.as_ref().and_then(|per_key| per_key.concurrency.as_ref()).filter(above) {
        report(own.value, own.span, "one key", "per_key.concurrency");
    }
}
