//! Records in parking topics: how many there are, why they came, and how late they were tried again.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::StageLabels;
use super::{StageMetrics, add, saturated};
use crate::telemetry::histogram::Seconds;
use crate::telemetry::names;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WhyLabels {
    stage: String,
    why: &'static str,
}

/// The series of one stage.
#[derive(Debug)]
pub(super) struct Parked {
    retries: Counter,
    followers: Counter,
    records: Gauge,
    bytes: Gauge,
    full: Gauge,
    lost: Counter,
    late: Seconds,
}

pub(super) struct Families {
    parked: Family<WhyLabels, Counter>,
    records: Family<StageLabels, Gauge>,
    bytes: Family<StageLabels, Gauge>,
    full: Family<StageLabels, Gauge>,
    lost: Family<StageLabels, Counter>,
    late: Family<StageLabels, Seconds>,
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            parked: add(registry, names::PARKED),
            records: add(registry, names::PARKED_RECORDS),
            bytes: add(registry, names::PARKED_BYTES),
            full: add(registry, names::PARKED_FULL),
            lost: add(registry, names::PARKED_LOST),
            late: add(registry, names::PARKED_LATE),
        }
    }

    pub(super) fn resolve(&self, stage: &str) -> Parked {
        let labels = StageLabels::new(stage);
        let why = |why| self.parked.get_or_create_owned(&WhyLabels { stage: stage.to_owned(), why });
        Parked {
            retries: why("retry"),
            followers: why("follow"),
            records: self.records.get_or_create_owned(&labels),
            bytes: self.bytes.get_or_create_owned(&labels),
            full: self.full.get_or_create_owned(&labels),
            lost: self.lost.get_or_create_owned(&labels),
            late: self.late.get_or_create_owned(&labels),
        }
    }
}

impl StageMetrics {
    /// A record was parked because it waits for long.
    pub fn parked(&self) {
        self.0.parked.retries.inc();
    }

    /// A record was parked because one of its key was.
    pub fn followed(&self) {
        self.0.parked.followers.inc();
    }

    /// How often a record was parked so far.
    pub fn parked_so_far(&self) -> u64 {
        self.0.parked.retries.get() + self.0.parked.followers.get()
    }

    /// So much is parked now, and whether that is as much as may be.
    pub fn set_parked(&self, records: usize, bytes: usize, full: bool) {
        self.0.parked.records.set(saturated(records));
        self.0.parked.bytes.set(saturated(bytes));
        self.0.parked.full.set(i64::from(full));
    }

    /// The stage goes on without so many parked records, which are lost.
    pub fn parked_lost(&self, records: u64) {
        self.0.parked.lost.inc_by(records);
    }

    /// A parked record was tried again so long after it was due.
    pub fn parked_late_seconds(&self, seconds: f64) {
        self.0.parked.late.observe(seconds);
    }
}
