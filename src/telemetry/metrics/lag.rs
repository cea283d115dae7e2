//! How far a stage's partitions are behind their ends.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::PartitionLabels;
use super::{StageMetrics, add};
use crate::telemetry::names;

type FloatGauge = Gauge<f64, AtomicU64>;

/// The series of all stages; which partitions a stage has changes while it runs.
#[derive(Debug, Clone)]
pub(super) struct Lag {
    records: Family<PartitionLabels, Gauge>,
    seconds: Family<PartitionLabels, FloatGauge>,
}

impl Lag {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self { records: add(registry, names::LAG_RECORDS), seconds: add(registry, names::LAG_SECONDS) }
    }
}

impl StageMetrics {
    /// How far an assigned partition is behind its end; `None`: that is not known in seconds.
    pub fn set_lag(&self, topic: &str, partition: i32, records: i64, seconds: Option<f64>) {
        let labels = self.partition(topic, partition);
        let lag = &self.0.lag;
        lag.records.get_or_create(&labels).set(records);
        match seconds {
            Some(seconds) => {
                lag.seconds.get_or_create(&labels).set(seconds);
            }
            None => {
                lag.seconds.remove(&labels);
            }
        }
    }

    /// The partition is another's now.
    pub fn clear_lag(&self, topic: &str, partition: i32) {
        let labels = self.partition(topic, partition);
        self.0.lag.records.remove(&labels);
        self.0.lag.seconds.remove(&labels);
    }

    fn partition(&self, topic: &str, partition: i32) -> PartitionLabels {
        PartitionLabels { stage: self.0.stage.clone(), topic: topic.to_owned(), partition }
    }
}
