//! What became of a stage's records: read, written, filtered, and failed by code.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::StageLabels;
use super::{StageMetrics, add};
use crate::telemetry::codes::{self, CodeCounters, Fate};
use crate::telemetry::names;

/// How often each thing happened to a stage's records since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StageCounts {
    /// Records read.
    #[serde(rename = "in")]
    pub records_in: u64,
    /// Records written and acknowledged.
    #[serde(rename = "out")]
    pub records_out: u64,
    /// Records that a step filtered out.
    pub filtered: u64,
    /// Failed attempts that were tried again.
    pub retried: u64,
    /// Records written to the DLQ.
    pub dead_lettered: u64,
    /// Records let go by policy.
    pub dropped: u64,
}

/// The series of one stage.
#[derive(Debug)]
pub(super) struct Records {
    records_in: Counter,
    bytes_in: Counter,
    records_out: Counter,
    bytes_out: Counter,
    filtered: Counter,
    repeated: Counter,
    codes: CodeCounters,
}

pub(super) struct Families {
    records_in: Family<StageLabels, Counter>,
    bytes_in: Family<StageLabels, Counter>,
    records_out: Family<StageLabels, Counter>,
    bytes_out: Family<StageLabels, Counter>,
    filtered: Family<StageLabels, Counter>,
    codes: codes::Families,
    repeated: Family<StageLabels, Counter>,
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            records_in: add(registry, names::RECORDS_IN),
            bytes_in: add(registry, names::BYTES_IN),
            records_out: add(registry, names::RECORDS_OUT),
            bytes_out: add(registry, names::BYTES_OUT),
            filtered: add(registry, names::FILTERED),
            codes: [names::DROPPED, names::RETRIED, names::DEAD_LETTERED].map(|name| add(registry, name)),
            repeated: add(registry, names::REPEATED),
        }
    }

    pub(super) fn resolve(&self, stage: &str) -> Records {
        let labels = StageLabels::new(stage);
        Records {
            records_in: self.records_in.get_or_create_owned(&labels),
            bytes_in: self.bytes_in.get_or_create_owned(&labels),
            records_out: self.records_out.get_or_create_owned(&labels),
            bytes_out: self.bytes_out.get_or_create_owned(&labels),
            filtered: self.filtered.get_or_create_owned(&labels),
            repeated: self.repeated.get_or_create_owned(&labels),
            codes: CodeCounters::new(stage, self.codes.clone()),
        }
    }
}

impl StageMetrics {
    /// `count` records were read.
    pub fn records_in(&self, count: u64) {
        self.0.records.records_in.inc_by(count);
    }

    /// `bytes` of records were read.
    pub fn bytes_in(&self, bytes: u64) {
        self.0.records.bytes_in.inc_by(bytes);
    }

    /// `count` records were written and acknowledged.
    pub fn records_out(&self, count: u64) {
        self.0.records.records_out.inc_by(count);
    }

    /// `bytes` of records were written and acknowledged.
    pub fn bytes_out(&self, bytes: u64) {
        self.0.records.bytes_out.inc_by(bytes);
    }

    /// `count` records were filtered out by a step.
    pub fn filtered(&self, count: u64) {
        self.0.records.filtered.inc_by(count);
    }

    /// `count` records that failed with `code` were let go by policy.
    pub fn dropped(&self, code: &str, count: u64) {
        self.0.records.codes.add(Fate::Dropped, code, count);
    }

    /// `count` attempts failed with `code` and will be tried again.
    pub fn retried(&self, code: &str, count: u64) {
        self.0.records.codes.add(Fate::Retried, code, count);
    }

    /// `count` records that failed with `code` lie in the DLQ.
    pub fn dead_lettered(&self, code: &str, count: u64) {
        self.0.records.codes.add(Fate::DeadLettered, code, count);
    }

    /// `count` records were read that an earlier run may have finished.
    pub fn repeated(&self, count: u64) {
        self.0.records.repeated.inc_by(count);
    }

    /// The counts so far, for the status page.
    pub fn counts(&self) -> StageCounts {
        let records = &self.0.records;
        let (_, [dropped, retried, dead_lettered]) = records.codes.totals();
        StageCounts {
            records_in: records.records_in.get(),
            records_out: records.records_out.get(),
            filtered: records.filtered.get(),
            retried,
            dead_lettered,
            dropped,
        }
    }

    /// Failed attempts so far by code, whatever became of them; as bounded as the metrics.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        self.0.records.codes.totals().0
    }
}
