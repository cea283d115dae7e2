//! Metrics of durable jobs, labelled by queues and kinds of the config alone.

use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::add;
use crate::telemetry::histogram::Seconds;
use crate::telemetry::names;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    queue: String,
    kind: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    queue: String,
    kind: String,
    outcome: &'static str,
}

/// In the order that `/metrics` shows them; clones count together.
#[derive(Debug, Clone)]
pub(super) struct JobFamilies {
    attempts: Family<OutcomeLabels, Counter>,
    running: Family<KindLabels, Gauge>,
    seconds: Family<KindLabels, Seconds>,
    latency: Family<KindLabels, Seconds>,
    unknown: UnknownKinds,
    outcomes: OutcomeCounts,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// What came of outcomes that were sent to the database. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct OutcomeCounts {
    /// They stand there.
    pub written: Counter,
    /// They came too late: their leases had been taken back.
    pub stale: Counter,
    /// The database refused them, or did not take them before their leases ended.
    pub dropped: Counter,
}

/// Jobs of kinds that no config here has.
#[derive(Debug, Clone)]
pub struct UnknownKinds(Counter);

impl UnknownKinds {
    /// One was met and put off.
    pub fn put_off(&self) {
        self.0.inc();
    }
}

impl JobFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let outcomes: Family<ResultLabels, Counter> = add(registry, names::JOB_OUTCOMES);
        let of = |result| outcomes.get_or_create_owned(&ResultLabels { result });
        Self {
            outcomes: OutcomeCounts { written: of("written"), stale: of("stale"), dropped: of("dropped") },
            attempts: add(registry, names::JOB_ATTEMPTS),
            running: add(registry, names::JOBS_RUNNING),
            seconds: add(registry, names::JOB_SECONDS),
            latency: add(registry, names::JOB_LATENCY),
            unknown: UnknownKinds(add(registry, names::JOBS_UNKNOWN)),
        }
    }

    pub(super) fn outcomes(&self) -> &OutcomeCounts {
        &self.outcomes
    }

    pub(super) fn unknown(&self) -> &UnknownKinds {
        &self.unknown
    }

    pub(super) fn of(&self, queue: &str, kind: &str) -> JobMetrics {
        let labels = KindLabels { queue: queue.to_owned(), kind: kind.to_owned() };
        JobMetrics {
            running: self.running.get_or_create_owned(&labels),
            seconds: self.seconds.get_or_create_owned(&labels),
            latency: self.latency.get_or_create_owned(&labels),
            attempts: self.attempts.clone(),
            labels,
        }
    }
}

/// The series of one kind of jobs in its queue.
#[derive(Debug, Clone)]
pub struct JobMetrics {
    labels: KindLabels,
    attempts: Family<OutcomeLabels, Counter>,
    running: Gauge,
    seconds: Seconds,
    latency: Seconds,
}

impl JobMetrics {
    /// A job that never ran before had been due for so long when it was claimed.
    pub fn claimed_after(&self, due_for: Duration) {
        self.latency.observe(due_for.as_secs_f64());
    }

    /// An attempt ended so, which did not run here; the word comes from a fixed vocabulary.
    pub fn ended(&self, outcome: &'static str, took: Duration) {
        let KindLabels { queue, kind } = self.labels.clone();
        self.attempts.get_or_create(&OutcomeLabels { queue, kind, outcome }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// An attempt begins.
    pub fn started(&self) -> JobTimer<'_> {
        self.running.inc();
        JobTimer { metrics: self, began: Instant::now() }
    }
}

/// An attempt that runs; dropped, it runs no more.
#[derive(Debug)]
pub struct JobTimer<'a> {
    metrics: &'a JobMetrics,
    began: Instant,
}

impl JobTimer<'_> {
    /// It has ended so; the word comes from a fixed vocabulary.
    pub fn ended(self, outcome: &'static str) {
        self.metrics.ended(outcome, self.began.elapsed());
    }
}

impl Drop for JobTimer<'_> {
    fn drop(&mut self) {
        self.metrics.running.dec();
    }
}
