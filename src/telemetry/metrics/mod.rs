//! The registry of metrics and the handles through which stages count.
//!
//! A [`StageMetrics`] resolves its series once; counting is then an atomic addition. Series are
//! bounded by stages, partitions and [`MAX_CODES`](super::MAX_CODES), never by what records hold.
//! One file a group of metrics: its families, the series of one stage, and the methods that count.

mod consumer;
mod dedupe;
mod jobs;
mod labels;
mod lag;
mod levels;
mod outbox;
mod parked;
mod records;
mod reloads;
mod safeguards;
mod times;
mod traces;

use std::fmt;
use std::sync::Arc;

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

pub use self::dedupe::DedupeMetrics;
pub use self::jobs::{JobMetrics, JobTimer, OutcomeCounts, UnknownKinds};
pub use self::outbox::OutboxMetrics;
pub use self::records::StageCounts;
pub use self::reloads::ReloadMetrics;
pub use self::safeguards::SafeguardMetrics;
pub use self::times::StepTimer;
pub use self::traces::TraceMetrics;
use super::names::{self, Named};
use super::process::Process;

/// All metrics of one engine.
pub struct Telemetry {
    registry: Registry,
    stages: StageFamilies,
    jobs: jobs::JobFamilies,
    reloads: ReloadMetrics,
    outbox: OutboxMetrics,
    traces: TraceMetrics,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Telemetry {
    /// A registry with every metric of the engine and none counted yet.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let info = vec![("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
        let (name, help) = names::BUILD_INFO;
        registry.register(name.trim_end_matches("_info"), help, Info::new(info));
        let stages = StageFamilies::register(&mut registry);
        let jobs = jobs::JobFamilies::register(&mut registry);
        let outbox = OutboxMetrics::register(&mut registry);
        let reloads = ReloadMetrics::register(&mut registry);
        let traces = TraceMetrics::register(&mut registry);
        registry.register_collector(Box::new(Process));
        Self { registry, stages, jobs, outbox, reloads, traces }
    }

    /// The handles of `stage`. Asked twice, both count into the same series.
    pub fn stage(&self, stage: &str) -> StageMetrics {
        self.stages.resolve(stage)
    }

    /// The handles of a kind of jobs in its queue. Asked twice, both count into the same series.
    pub fn job(&self, queue: &str, kind: &str) -> JobMetrics {
        self.jobs.of(queue, kind)
    }

    /// The counts of outcomes that were sent to the database.
    pub fn job_outcomes(&self) -> &OutcomeCounts {
        self.jobs.outcomes()
    }

    /// The count of jobs that no config here has a kind for.
    pub fn unknown_kinds(&self) -> &UnknownKinds {
        self.jobs.unknown()
    }

    /// The metrics of edits of the config root.
    pub fn reloads(&self) -> &ReloadMetrics {
        &self.reloads
    }

    /// The metrics of events that jobs publish.
    pub fn outbox(&self) -> &OutboxMetrics {
        &self.outbox
    }

    /// The metrics of exported spans.
    pub fn traces(&self) -> &TraceMetrics {
        &self.traces
    }

    /// What `/metrics` answers: OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// The series of one stage, resolved once; cheap to clone, clones count together.
#[derive(Debug, Clone)]
pub struct StageMetrics(Arc<Handles>);

#[derive(Debug)]
struct Handles {
    stage: String,
    records: records::Records,
    times: times::Times,
    consumer: consumer::Consumer,
    levels: levels::Levels,
    parked: parked::Parked,
    lag: lag::Lag,
    safeguards: safeguards::SafeguardMetrics,
    dedupe: dedupe::DedupeMetrics,
}

/// In the order that `/metrics` shows them.
struct StageFamilies {
    records: records::Families,
    times: times::Families,
    consumer: consumer::Families,
    levels: levels::Families,
    parked: parked::Families,
    lag: lag::Lag,
    safeguards: safeguards::SafeguardFamilies,
    dedupe: dedupe::DedupeFamilies,
}

impl StageFamilies {
    fn register(registry: &mut Registry) -> Self {
        Self {
            records: records::Families::register(registry),
            times: times::Families::register(registry),
            consumer: consumer::Families::register(registry),
            levels: levels::Families::register(registry),
            parked: parked::Families::register(registry),
            lag: lag::Lag::register(registry),
            safeguards: safeguards::SafeguardFamilies::register(registry),
            dedupe: dedupe::DedupeFamilies::register(registry),
        }
    }

    fn resolve(&self, stage: &str) -> StageMetrics {
        StageMetrics(Arc::new(Handles {
            stage: stage.to_owned(),
            records: self.records.resolve(stage),
            times: self.times.resolve(stage),
            consumer: self.consumer.resolve(stage),
            levels: self.levels.resolve(stage),
            parked: self.parked.resolve(stage),
            lag: self.lag.clone(),
            safeguards: self.safeguards.of(stage),
            dedupe: self.dedupe.of(stage),
        }))
    }
}

fn add<M: Metric + Clone + Default>(registry: &mut Registry, (name, help): Named) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn saturated(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
