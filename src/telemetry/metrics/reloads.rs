//! Metrics of edits of the config root.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::add;
use crate::telemetry::names;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// What became of edits; clones count together.
#[derive(Debug, Clone)]
pub struct ReloadMetrics {
    done: Counter,
    refused: Counter,
    failed: Counter,
    last_successful: Gauge,
}

impl ReloadMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let reloads: Family<ResultLabels, Counter> = add(registry, names::RELOADS);
        let of = |result| reloads.get_or_create_owned(&ResultLabels { result });
        let last_successful: Gauge = add(registry, names::LAST_RELOAD);
        // What it started with was as good.
        last_successful.set(1);
        Self { done: of("done"), refused: of("refused"), failed: of("failed"), last_successful }
    }

    /// The engine runs the edit.
    pub fn done(&self) {
        self.done.inc();
        self.last_successful.set(1);
    }

    /// The edit does not check.
    pub fn refused(&self) {
        self.refused.inc();
        self.last_successful.set(0);
    }

    /// The edit checks, but could not be gone over to.
    pub fn failed(&self) {
        self.failed.inc();
        self.last_successful.set(0);
    }
}
