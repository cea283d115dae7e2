//! Metrics of the spans that an engine exports. Of the whole engine, since one queue serves all stages.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::add;
use crate::telemetry::names;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DropLabels {
    reason: &'static str,
}

/// What became of spans; clones count together.
#[derive(Debug, Clone)]
pub struct TraceMetrics {
    exported: Counter,
    dropped: Family<DropLabels, Counter>,
}

impl TraceMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self { exported: add(registry, names::SPANS_EXPORTED), dropped: add(registry, names::SPANS_DROPPED) }
    }

    /// Shows a reason from the start, so that its first drop is a rise.
    pub fn expect(&self, reasons: impl IntoIterator<Item = &'static str>) {
        for reason in reasons {
            let _ = self.dropped.get_or_create(&DropLabels { reason });
        }
    }

    /// The receiver took `count` spans.
    pub fn exported(&self, count: usize) {
        self.exported.inc_by(count as u64);
    }

    /// `count` spans are gone.
    pub fn dropped(&self, reason: &'static str, count: usize) {
        self.dropped.get_or_create(&DropLabels { reason }).inc_by(count as u64);
    }
}
