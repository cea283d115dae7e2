//! How long things take: records from end to end, steps and commits.

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::{StageLabels, StepLabels};
use super::{StageMetrics, add};
use crate::telemetry::histogram::Seconds;
use crate::telemetry::names;

/// The series of one stage.
#[derive(Debug)]
pub(super) struct Times {
    latency: Seconds,
    steps: Family<StepLabels, Seconds>,
    commit: Seconds,
}

pub(super) struct Families {
    latency: Family<StageLabels, Seconds>,
    steps: Family<StepLabels, Seconds>,
    commit: Family<StageLabels, Seconds>,
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            latency: add(registry, names::LATENCY),
            steps: add(registry, names::STEP),
            commit: add(registry, names::COMMIT),
        }
    }

    pub(super) fn resolve(&self, stage: &str) -> Times {
        let labels = StageLabels::new(stage);
        Times {
            latency: self.latency.get_or_create_owned(&labels),
            steps: self.steps.clone(),
            commit: self.commit.get_or_create_owned(&labels),
        }
    }
}

impl StageMetrics {
    /// A record was finished `seconds` after its timestamp.
    pub fn latency_seconds(&self, seconds: f64) {
        self.0.times.latency.observe(seconds);
    }

    /// The handle for the time that `step` takes.
    pub fn step(&self, step: &str) -> StepTimer {
        let labels = StepLabels { stage: self.0.stage.clone(), step: step.to_owned() };
        StepTimer(self.0.times.steps.get_or_create_owned(&labels))
    }

    /// A commit of offsets took `seconds`.
    pub fn commit_seconds(&self, seconds: f64) {
        self.0.times.commit.observe(seconds);
    }
}

/// The series of one step, resolved once; cheap to clone, clones count together.
#[derive(Debug, Clone)]
pub struct StepTimer(Seconds);

impl StepTimer {
    /// One run took so long.
    pub fn took(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }
}
