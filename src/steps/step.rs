//! What a step is: planned by `check`, opened when a generation starts, run on each record.
//!
//! A step that never waits is a [`ReadyStep`] and runs without a future; the others are
//! [`WaitingStep`]s. A step changes its item only when it succeeds, so that it can be tried again.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::sql::{Asked, Effect};
use super::{EventTopic, Ports};
use crate::base::{Failure, RetryPolicy};
use crate::expr::{Expression, Named, RootSet};
use crate::record::Item;
use crate::spec::Spanned;
use crate::telemetry::traces::Parent;

/// A checked step as the catalog holds it.
#[derive(Debug, Clone)]
pub struct StepPlan {
    /// Its identity in its place; the name of its result under `steps`.
    pub name: Arc<str>,
    /// The word in TOML.
    pub kind: &'static str,
    /// Which records it is for; `None`: all.
    pub when: Option<Expression>,
    /// How long one run may take; only a step that waits can be cut short.
    pub timeout: Option<Duration>,
    /// Its own retries, before the stage's policy sees a failure.
    pub retry: Option<Arc<RetryPolicy>>,
    /// What it does.
    pub body: Arc<dyn StepBody>,
}

/// What a step does, checked and not yet opened.
pub trait StepBody: fmt::Debug + Send + Sync {
    /// The word in TOML.
    fn kind(&self) -> &'static str;

    /// Whether a run may wait for something outside.
    fn waits(&self) -> bool {
        false
    }

    /// Whether it bounds its runs by the step's `timeout` itself, so that waiting for its turn is no part of it.
    fn keeps_time(&self) -> bool {
        false
    }

    /// How it lets records wait for each other, where it does.
    fn gathering(&self) -> Option<&Gathering> {
        None
    }

    /// Whether nothing outside changes by running it twice for one record.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// What it asks a database, where it does.
    fn asked(&self) -> Option<&Asked> {
        None
    }

    /// What its templates name, where somebody asks.
    fn named(&self) -> Vec<&Named> {
        Vec::new()
    }

    /// The same step for a stage that is exactly-once in a database: what it would change is left for whoever
    /// changes it together with the stage's offset. `None`: it changes nothing in a database.
    fn deferred(&self) -> Option<Arc<dyn StepBody>> {
        None
    }

    /// What is left by such a step, as its result: the values of this statement.
    fn effect(&self) -> Option<&Effect> {
        None
    }

    /// For how long a job waits for a callback where the other side answered that it will call back;
    /// `None`: no such answer is known.
    fn callback(&self) -> Option<Duration> {
        None
    }

    /// Whether a run that left `item` so is to be followed by a callback.
    fn awaits_callback(&self, _item: &Item<'_>, _name: &str) -> bool {
        false
    }

    /// Puts what the callback brought where the step's answer would be.
    ///
    /// # Errors
    /// Where it cannot be put there.
    fn called_back(&self, _item: &mut Item<'_>, _name: &Arc<str>, _answer: Json) -> Result<(), Failure> {
        Ok(())
    }

    /// Where it publishes to, where it does. What, is its result.
    fn publishes(&self) -> Option<&Arc<EventTopic>> {
        None
    }

    /// What it looks at.
    fn reads(&self) -> RootSet;

    /// The schema file that every record behind it satisfies.
    fn schema(&self) -> Option<&Arc<str>> {
        None
    }

    /// Makes it ready to run, once a generation.
    ///
    /// # Errors
    /// Where something it needs cannot be had (a client that cannot be built).
    fn open(&self, ports: &Ports) -> Result<Runnable, OpenError>;
}

/// How a step lets records wait for each other; with the places of the settings, for findings.
#[derive(Debug, Clone)]
pub struct Gathering {
    /// How many records at most; at least 1.
    pub records: Spanned<usize>,
    /// How long the first of them waits at most.
    pub linger: Spanned<Duration>,
}

/// A step that could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step `{step}`: {message}")]
pub struct OpenError {
    /// The step's name; empty until the chain fills it in.
    pub step: String,
    /// Why.
    pub message: String,
}

impl OpenError {
    /// An error of the step that is being opened.
    pub fn new(message: impl Into<String>) -> Self {
        Self { step: String::new(), message: message.into() }
    }
}

/// A step that is open.
pub enum Runnable {
    /// It never waits.
    Ready(Box<dyn ReadyStep>),
    /// It may wait.
    Waiting(Box<dyn WaitingStep>),
}

/// What a step knows besides its item.
#[derive(Debug, Clone, Copy)]
pub struct StepContext<'a> {
    /// The step's name.
    pub name: &'a Arc<str>,
    /// The declared environment.
    pub env: &'a Arc<Json>,
    /// Whose step it is, as all engines call it: a stage's group; empty in a job.
    pub owner: &'a str,
    /// Whether the value goes from here to the JSON encoder and nobody else: the step may leave its
    /// text instead of a value.
    pub last: bool,
    /// The span under which its requests belong, where spans are made.
    pub parent: Option<&'a Parent>,
}

/// Where an item goes after a step.
#[derive(Debug)]
pub enum Flow<'r> {
    /// To the next step.
    Next,
    /// Nowhere: it is finished and counted as filtered.
    Filtered,
    /// These go on in its place, in this order.
    Many(Vec<Item<'r>>),
}

/// A step that runs to its end without waiting.
pub trait ReadyStep: Send + Sync {
    /// Runs on one item.
    ///
    /// # Errors
    /// Whatever ends the attempt; the item is then as before.
    fn run<'r>(&self, item: &mut Item<'r>, context: &StepContext<'_>) -> Result<Flow<'r>, Failure>;
}

/// One run of a step that waits.
pub type BoxedRun<'a, 'r> = Pin<Box<dyn Future<Output = Result<Flow<'r>, Failure>> + Send + 'a>>;

/// A step that may wait for something outside.
pub trait WaitingStep: Send + Sync {
    /// Runs on one item. Dropping the future abandons the run and leaves the item as before.
    ///
    /// # Errors
    /// Whatever ends the attempt; the item is then as before.
    fn run<'a, 'r: 'a>(&'a self, item: &'a mut Item<'r>, context: StepContext<'a>) -> BoxedRun<'a, 'r>;
}
