//! Metrics of stages that tell equal records apart.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::StageLabels;
use super::{StageMetrics, add, saturated};
use crate::telemetry::names;

/// The families of all stages; clones share them. A stage has series once it counts something.
#[derive(Debug, Clone)]
pub(super) struct DedupeFamilies {
    duplicates: Family<StageLabels, Counter>,
    marks: Family<StageLabels, Gauge>,
    forgotten: Family<StageLabels, Counter>,
}

impl DedupeFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            duplicates: add(registry, names::DUPLICATES),
            marks: add(registry, names::MARKS),
            forgotten: add(registry, names::MARKS_FORGOTTEN),
        }
    }

    pub(super) fn of(&self, stage: &str) -> DedupeMetrics {
        DedupeMetrics { labels: StageLabels::new(stage), families: self.clone() }
    }
}

impl StageMetrics {
    /// The metrics of what it knows of equal records.
    pub fn dedupe(&self) -> &DedupeMetrics {
        &self.0.dedupe
    }
}

/// What one stage knows of equal records.
#[derive(Debug)]
pub struct DedupeMetrics {
    labels: StageLabels,
    families: DedupeFamilies,
}

impl DedupeMetrics {
    /// A duplicate was dropped.
    pub fn duplicate(&self) {
        self.families.duplicates.get_or_create(&self.labels).inc();
    }

    /// There are so many marks now.
    pub fn set_marks(&self, count: usize) {
        self.families.marks.get_or_create(&self.labels).set(saturated(count));
    }

    /// So many marks were forgotten before their window was over.
    pub fn forgotten(&self, count: u64) {
        self.families.forgotten.get_or_create(&self.labels).inc_by(count);
    }
}
