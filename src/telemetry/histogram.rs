//! A histogram of seconds that many threads may fill without a lock.
//!
//! Buckets are fixed from ten microseconds to ten minutes, which serves steps, latencies and commits
//! alike. Sums are kept in nanoseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

const BOUNDS: [f64; 19] = [
    0.00001,
    0.0001,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    15.0,
    60.0,
    600.0,
    f64::INFINITY,
];

/// Cheap to clone; clones share their counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Seconds(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    buckets: [AtomicU64; BOUNDS.len()],
    nanos: AtomicU64,
}

impl Seconds {
    /// Counts one observation; a negative one (clocks differ) counts as zero.
    pub(super) fn observe(&self, seconds: f64) {
        let seconds = if seconds > 0.0 { seconds } else { 0.0 };
        let index = BOUNDS.partition_point(|bound| *bound < seconds).min(BOUNDS.len() - 1);
        self.0.buckets[index].fetch_add(1, Ordering::Relaxed);
        self.0.nanos.fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }
}

impl TypedMetric for Seconds {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Seconds {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let mut buckets = [(0.0, 0); BOUNDS.len()];
        let mut count = 0;
        for (index, bucket) in buckets.iter_mut().enumerate() {
            let here = self.0.buckets[index].load(Ordering::Relaxed);
            count += here;
            *bucket = (BOUNDS[index], here);
        }
        let sum = self.0.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
