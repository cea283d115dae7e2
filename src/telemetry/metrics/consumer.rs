//! What happens to a stage's consumer: rebalances of its group and rebuilds.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::StageLabels;
use super::{StageMetrics, add};
use crate::telemetry::names;

/// The series of one stage.
#[derive(Debug)]
pub(super) struct Consumer {
    rebalances: Counter,
    watchdog_rebuilds: Counter,
}

pub(super) struct Families {
    rebalances: Family<StageLabels, Counter>,
    watchdog_rebuilds: Family<StageLabels, Counter>,
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            rebalances: add(registry, names::REBALANCES),
            watchdog_rebuilds: add(registry, names::WATCHDOG_REBUILDS),
        }
    }

    pub(super) fn resolve(&self, stage: &str) -> Consumer {
        let labels = StageLabels::new(stage);
        Consumer {
            rebalances: self.rebalances.get_or_create_owned(&labels),
            watchdog_rebuilds: self.watchdog_rebuilds.get_or_create_owned(&labels),
        }
    }
}

impl StageMetrics {
    /// `count` rebalances were seen.
    pub fn rebalances(&self, count: u64) {
        self.0.consumer.rebalances.inc_by(count);
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
