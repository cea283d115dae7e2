//! Events of durable jobs on their way to Kafka.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::add;
use crate::telemetry::names;

/// What is known of them here. Clones count together.
#[derive(Debug, Clone)]
pub struct OutboxMetrics {
    /// How many wait, of all engines.
    pub events: Gauge,
    /// How long the oldest of these has, in seconds.
    pub oldest: Gauge<f64, AtomicU64>,
    /// Those that Kafka took from here.
    pub published: Counter,
    /// How often a topic took none.
    pub refused: Counter,
}

impl OutboxMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            events: add(registry, names::OUTBOX_EVENTS),
            oldest: add(registry, names::OUTBOX_OLDEST),
            published: add(registry, names::OUTBOX_PUBLISHED),
            refused: add(registry, names::OUTBOX_REFUSED),
        }
    }
}
