//! Metrics of breakers and rate limits. Labelled by stage and by steps of the config alone.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::StageMetrics;
use crate::telemetry::names;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StepLabels {
    stage: String,
    step: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FloodLabels {
    stage: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    stage: String,
    limit: &'static str,
}

/// The families of all stages; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct SafeguardFamilies {
    open: Family<StepLabels, Gauge>,
    opened: Family<StepLabels, Counter>,
    floods: Family<FloodLabels, Counter>,
    limited: Family<LimitLabels, Counter>,
    waited: Family<LimitLabels, Counter<f64, AtomicU64>>,
}

impl SafeguardFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self::default();
        let Self { open, opened, floods, limited, waited } = families.clone();
        registry.register(names::BREAKER_OPEN.0, names::BREAKER_OPEN.1, open);
        registry.register(names::BREAKER_OPENED.0, names::BREAKER_OPENED.1, opened);
        registry.register(names::FLOODS.0, names::FLOODS.1, floods);
        registry.register(names::RATE_LIMITED.0, names::RATE_LIMITED.1, limited);
        registry.register(names::RATE_WAITED.0, names::RATE_WAITED.1, waited);
        families
    }

    pub(super) fn of(&self, stage: &str) -> SafeguardMetrics {
        SafeguardMetrics { stage: stage.to_owned(), families: self.clone() }
    }
}

impl StageMetrics {
    /// The metrics of its breakers and rate limits.
    pub fn safeguards(&self) -> &SafeguardMetrics {
        &self.0.safeguards
    }
}

/// One stage's breakers and limits.
#[derive(Debug)]
pub struct SafeguardMetrics {
    stage: String,
    families: SafeguardFamilies,
}

impl SafeguardMetrics {
    /// The step has a breaker, which is open or closed now.
    pub fn set_open(&self, step: &str, open: bool) {
        self.families.open.get_or_create(&self.step(step)).set(i64::from(open));
    }

    /// The step's breaker is gone.
    pub fn forget(&self, step: &str) {
        self.families.open.remove(&self.step(step));
    }

    /// The step's breaker opened.
    pub fn opened(&self, step: &str) {
        self.families.opened.get_or_create(&self.step(step)).inc();
    }

    /// Too many records failed for good.
    pub fn flooded(&self) {
        self.families.floods.get_or_create(&FloodLabels { stage: self.stage.clone() }).inc();
    }

    /// A limit (`stage` or `key`) makes what comes next wait so long.
    pub fn rate_limited(&self, limit: &'static str, wait: Duration) {
        let labels = LimitLabels { stage: self.stage.clone(), limit };
        self.families.limited.get_or_create(&labels).inc();
        self.families.waited.get_or_create(&labels).inc_by(wait.as_secs_f64());
    }

    fn step(&self, step: &str) -> StepLabels {
        StepLabels { stage: self.stage.clone(), step: step.to_owned() }
    }
}
