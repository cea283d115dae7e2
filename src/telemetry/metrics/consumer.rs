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
}

pub(super) struct Families {
    rebalances: Family<StageLabels, Counter>,
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self { rebalances: add(registry, names::REBALANCES) }
    }

    pub(super) fn resolve(&self, stage: &str) -> Consumer {
        let labels = StageLabels::new(stage);
        Consumer { rebalances: self.rebalances.get_or_create_owned(&labels) }
    }
}

impl StageMetrics {
    /// `count` rebalances were seen.
    pub fn rebalances(&self, count: u64) {
        self.0.consumer.rebalances.inc_by(count);
    }
}
