//! What happens to a stage's clients: rebalances of its group, rebuilds, partitions that are others' by now, epochs
//! given up.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::StageLabels;
use super::{StageMetrics, add};
use crate::telemetry::names;

/// The series of one stage.
#[derive(Debug)]
pub(super) struct Consumer {
    offset_conflicts: Counter,
    rebalances: Counter,
    epochs_given_up: Counter,
    watchdog_rebuilds: Counter,
}

pub(super) struct Families {
    offset_conflicts: Family<StageLabels, Counter>,
    rebalances: Family<StageLabels, Counter>,
    epochs_given_up: Family<StageLabels, Counter>,
    watchdog_rebuilds: Family<StageLabels, Counter>,
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            offset_conflicts: add(registry, names::OFFSET_CONFLICTS),
            epochs_given_up: add(registry, names::EPOCHS_GIVEN_UP),
            rebalances: add(registry, names::REBALANCES),
            watchdog_rebuilds: add(registry, names::WATCHDOG_REBUILDS),
        }
    }

    pub(super) fn resolve(&self, stage: &str) -> Consumer {
        let labels = StageLabels::new(stage);
        Consumer {
            offset_conflicts: self.offset_conflicts.get_or_create_owned(&labels),
            rebalances: self.rebalances.get_or_create_owned(&labels),
            epochs_given_up: self.epochs_given_up.get_or_create_owned(&labels),
            watchdog_rebuilds: self.watchdog_rebuilds.get_or_create_owned(&labels),
        }
    }
}

impl StageMetrics {
    /// `count` stretches changed nothing, since another engine had moved the partition.
    pub fn offset_conflicts(&self, count: u64) {
        self.0.consumer.offset_conflicts.inc_by(count);
    }

    /// `count` rebalances were seen.
    pub fn rebalances(&self, count: u64) {
        self.0.consumer.rebalances.inc_by(count);
    }

    /// `count` epochs were given up.
    pub fn epochs_given_up(&self, count: u64) {
        self.0.consumer.epochs_given_up.inc_by(count);
    }

    /// The watchdog replaced `count` consumers.
    pub fn watchdog_rebuilds(&self, count: u64) {
        self.0.consumer.watchdog_rebuilds.inc_by(count);
    }

    /// How many consumers the watchdog replaced so far.
    pub fn watchdog_rebuilt(&self) -> u64 {
        self.0.consumer.watchdog_rebuilds.get()
    }
}
