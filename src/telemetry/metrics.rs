//! The registry of metrics and the handles through which stages count.
//!
//! A [`StageMetrics`] resolves its series once; counting is then an atomic addition. Series are
//! bounded by stages, partitions and [`MAX_CODES`](super::MAX_CODES), never by what records hold.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::codes::{CodeCounters, Families, Fate};
use super::histogram::Seconds;
use super::names::{self, Named};
use super::process::Process;

type FloatGauge = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StageLabels {
    stage: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    stage: String,
    state: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StepLabels {
    stage: String,
    step: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PartitionLabels {
    stage: String,
    topic: String,
    partition: i32,
}

/// All metrics of one engine.
pub struct Telemetry {
    registry: Registry,
    stages: StageFamilies,
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
        registry.register_collector(Box::new(Process));
        Self { registry, stages }
    }

    /// The handles of `stage`. Asked twice, both count into the same series.
    pub fn stage(&self, stage: &str) -> StageMetrics {
        self.stages.resolve(stage)
    }

    /// What `/metrics` answers: OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

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

/// The series of one stage, resolved once; cheap to clone, clones count together.
#[derive(Debug, Clone)]
pub struct StageMetrics(Arc<Handles>);

#[derive(Debug)]
struct Handles {
    stage: String,
    records_in: Counter,
    bytes_in: Counter,
    records_out: Counter,
    bytes_out: Counter,
    filtered: Counter,
    repeated: Counter,
    rebalances: Counter,
    codes: CodeCounters,
    latency: Seconds,
    steps: Family<StepLabels, Seconds>,
    commit: Seconds,
    in_flight: Gauge,
    in_flight_bytes: Gauge,
    lanes: Gauge,
    waiting: Gauge,
    paused: Gauge,
    state: Mutex<Option<&'static str>>,
    states: Family<StateLabels, Gauge>,
    lag_records: Family<PartitionLabels, Gauge>,
    lag_seconds: Family<PartitionLabels, FloatGauge>,
}

impl StageMetrics {
    /// `count` records were read.
    pub fn records_in(&self, count: u64) {
        self.0.records_in.inc_by(count);
    }

    /// `bytes` of records were read.
    pub fn bytes_in(&self, bytes: u64) {
        self.0.bytes_in.inc_by(bytes);
    }

    /// `count` records were written and acknowledged.
    pub fn records_out(&self, count: u64) {
        self.0.records_out.inc_by(count);
    }

    /// `bytes` of records were written and acknowledged.
    pub fn bytes_out(&self, bytes: u64) {
        self.0.bytes_out.inc_by(bytes);
    }

    /// `count` records were filtered out by a step.
    pub fn filtered(&self, count: u64) {
        self.0.filtered.inc_by(count);
    }

    /// `count` records that failed with `code` were let go by policy.
    pub fn dropped(&self, code: &str, count: u64) {
        self.0.codes.add(Fate::Dropped, code, count);
    }

    /// `count` attempts failed with `code` and will be tried again.
    pub fn retried(&self, code: &str, count: u64) {
        self.0.codes.add(Fate::Retried, code, count);
    }

    /// `count` records that failed with `code` lie in the DLQ.
    pub fn dead_lettered(&self, code: &str, count: u64) {
        self.0.codes.add(Fate::DeadLettered, code, count);
    }

    /// `count` records were read that an earlier run may have finished.
    pub fn repeated(&self, count: u64) {
        self.0.repeated.inc_by(count);
    }

    /// A record was finished `seconds` after its timestamp.
    pub fn latency_seconds(&self, seconds: f64) {
        self.0.latency.observe(seconds);
    }

    /// The handle for the time that `step` takes.
    pub fn step(&self, step: &str) -> StepTimer {
        let labels = StepLabels { stage: self.0.stage.clone(), step: step.to_owned() };
        StepTimer(self.0.steps.get_or_create_owned(&labels))
    }

    /// A commit of offsets took `seconds`.
    pub fn commit_seconds(&self, seconds: f64) {
        self.0.commit.observe(seconds);
    }

    /// `count` rebalances were seen.
    pub fn rebalances(&self, count: u64) {
        self.0.rebalances.inc_by(count);
    }

    /// So much lies between poll and acknowledgement now.
    pub fn set_in_flight(&self, records: usize, bytes: usize) {
        self.0.in_flight.set(saturated(records));
        self.0.in_flight_bytes.set(saturated(bytes));
    }

    /// So many lanes hold records now.
    pub fn set_lanes(&self, count: usize) {
        self.0.lanes.set(saturated(count));
    }

    /// So many records wait in place for their next try now.
    pub fn set_waiting(&self, count: usize) {
        self.0.waiting.set(saturated(count));
    }

    /// Whether the stage takes no new records now.
    pub fn set_paused(&self, paused: bool) {
        self.0.paused.set(i64::from(paused));
    }

    /// The stage is in the state `word` now; `word` comes from a fixed vocabulary.
    pub fn set_state(&self, word: &'static str) {
        let mut state = self.0.state.lock();
        let labels = |state| StateLabels { stage: self.0.stage.clone(), state };
        if let Some(before) = state.replace(word).filter(|before| *before != word) {
            self.0.states.remove(&labels(before));
        }
        self.0.states.get_or_create(&labels(word)).set(1);
    }

    /// How far an assigned partition is behind its end; `None`: that is not known in seconds.
    pub fn set_lag(&self, topic: &str, partition: i32, records: i64, seconds: Option<f64>) {
        let labels = self.partition(topic, partition);
        self.0.lag_records.get_or_create(&labels).set(records);
        match seconds {
            Some(seconds) => {
                self.0.lag_seconds.get_or_create(&labels).set(seconds);
            }
            None => {
                self.0.lag_seconds.remove(&labels);
            }
        }
    }

    /// The partition is another's now.
    pub fn clear_lag(&self, topic: &str, partition: i32) {
        let labels = self.partition(topic, partition);
        self.0.lag_records.remove(&labels);
        self.0.lag_seconds.remove(&labels);
    }

    /// The counts so far, for the status page.
    pub fn counts(&self) -> StageCounts {
        let (_, [dropped, retried, dead_lettered]) = self.0.codes.totals();
        StageCounts {
            records_in: self.0.records_in.get(),
            records_out: self.0.records_out.get(),
            filtered: self.0.filtered.get(),
            retried,
            dead_lettered,
            dropped,
        }
    }

    /// Failed attempts so far by code, whatever became of them; as bounded as the metrics.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        self.0.codes.totals().0
    }

    fn partition(&self, topic: &str, partition: i32) -> PartitionLabels {
        PartitionLabels { stage: self.0.stage.clone(), topic: topic.to_owned(), partition }
    }
}

/// The series of one step, resolved once; cheap to clone, clones count together.
#[derive(Debug, Clone)]
pub struct StepTimer(Seconds);

impl StepTimer {
    /// One run took so long.
    pub fn took(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }
}

struct StageFamilies {
    records_in: Family<StageLabels, Counter>,
    bytes_in: Family<StageLabels, Counter>,
    records_out: Family<StageLabels, Counter>,
    bytes_out: Family<StageLabels, Counter>,
    filtered: Family<StageLabels, Counter>,
    repeated: Family<StageLabels, Counter>,
    rebalances: Family<StageLabels, Counter>,
    codes: Families,
    latency: Family<StageLabels, Seconds>,
    steps: Family<StepLabels, Seconds>,
    commit: Family<StageLabels, Seconds>,
    in_flight: Family<StageLabels, Gauge>,
    in_flight_bytes: Family<StageLabels, Gauge>,
    lanes: Family<StageLabels, Gauge>,
    waiting: Family<StageLabels, Gauge>,
    paused: Family<StageLabels, Gauge>,
    states: Family<StateLabels, Gauge>,
    lag_records: Family<PartitionLabels, Gauge>,
    lag_seconds: Family<PartitionLabels, FloatGauge>,
}

impl StageFamilies {
    fn register(registry: &mut Registry) -> Self {
        Self {
            records_in: add(registry, names::RECORDS_IN),
            bytes_in: add(registry, names::BYTES_IN),
            records_out: add(registry, names::RECORDS_OUT),
            bytes_out: add(registry, names::BYTES_OUT),
            filtered: add(registry, names::FILTERED),
            codes: [names::DROPPED, names::RETRIED, names::DEAD_LETTERED].map(|name| add(registry, name)),
            repeated: add(registry, names::REPEATED),
            latency: add(registry, names::LATENCY),
            steps: add(registry, names::STEP),
            commit: add(registry, names::COMMIT),
            rebalances: add(registry, names::REBALANCES),
            in_flight: add(registry, names::IN_FLIGHT),
            in_flight_bytes: add(registry, names::IN_FLIGHT_BYTES),
            lanes: add(registry, names::LANES),
            waiting: add(registry, names::WAITING),
            paused: add(registry, names::PAUSED),
            states: add(registry, names::STATE),
            lag_records: add(registry, names::LAG_RECORDS),
            lag_seconds: add(registry, names::LAG_SECONDS),
        }
    }

    fn resolve(&self, stage: &str) -> StageMetrics {
        let labels = StageLabels { stage: stage.to_owned() };
        StageMetrics(Arc::new(Handles {
            stage: stage.to_owned(),
            records_in: self.records_in.get_or_create_owned(&labels),
            bytes_in: self.bytes_in.get_or_create_owned(&labels),
            records_out: self.records_out.get_or_create_owned(&labels),
            bytes_out: self.bytes_out.get_or_create_owned(&labels),
            filtered: self.filtered.get_or_create_owned(&labels),
            repeated: self.repeated.get_or_create_owned(&labels),
            rebalances: self.rebalances.get_or_create_owned(&labels),
            codes: CodeCounters::new(stage, self.codes.clone()),
            latency: self.latency.get_or_create_owned(&labels),
            steps: self.steps.clone(),
            commit: self.commit.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            in_flight_bytes: self.in_flight_bytes.get_or_create_owned(&labels),
            lanes: self.lanes.get_or_create_owned(&labels),
            waiting: self.waiting.get_or_create_owned(&labels),
            paused: self.paused.get_or_create_owned(&labels),
            state: Mutex::new(None),
            states: self.states.clone(),
            lag_records: self.lag_records.clone(),
            lag_seconds: self.lag_seconds.clone(),
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
mod tests {
    use super::super::codes::MAX_CODES;
    use super::*;

    #[test]
    fn codes_past_the_bound_count_under_other_and_nothing_is_lost() {
        let telemetry = Telemetry::new();
        let stage = telemetry.stage("s");
        for code in 0..100_000 {
            stage.dead_lettered(&format!("made-up-{code}"), 1);
        }
        stage.retried("made-up-1", 2);
        let text = telemetry.render();
        let series: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("biplane_stage_records_dead_lettered_total{"))
            .collect();
        assert_eq!(series.len(), MAX_CODES + 1);
        assert!(text.contains(r#"dead_lettered_total{stage="s",code="other"} 99936"#), "{text}");
        assert!(text.contains(r#"retried_total{stage="s",code="made-up-1"} 2"#), "{text}");
        assert_eq!(stage.counts().dead_lettered, 100_000);
        assert_eq!(stage.failures().values().sum::<u64>(), 100_002);
    }

    #[test]
    fn a_stage_is_in_one_state_and_lag_leaves_with_its_partition() {
        let telemetry = Telemetry::new();
        let stage = telemetry.stage("s");
        stage.set_state("starting");
        stage.set_state("running");
        stage.set_lag("t", 3, 7, Some(1.5));
        let text = telemetry.render();
        assert!(text.contains(r#"biplane_stage_state{stage="s",state="running"} 1"#), "{text}");
        assert!(!text.contains("starting"), "{text}");
        assert!(text.contains(r#"lag_records{stage="s",topic="t",partition="3"} 7"#), "{text}");
        assert!(text.contains(r#"lag_seconds{stage="s",topic="t",partition="3"} 1.5"#), "{text}");
        stage.set_lag("t", 3, 7, None);
        assert!(!telemetry.render().contains("lag_seconds{"), "unknown is no number");
        stage.clear_lag("t", 3);
        assert!(!telemetry.render().contains(r#"topic="t""#));
    }

    #[test]
    fn the_text_is_whole_and_histograms_add_up() {
        let telemetry = Telemetry::new();
        let stage = telemetry.stage("s");
        stage.latency_seconds(0.003);
        stage.latency_seconds(-1.0);
        stage.latency_seconds(1e9);
        let text = telemetry.render();
        assert!(text.contains(r#"biplane_stage_latency_seconds_bucket{le="0.005",stage="s"} 2"#), "{text}");
        assert!(text.contains(r#"biplane_stage_latency_seconds_bucket{le="+Inf",stage="s"} 3"#), "{text}");
        assert!(text.contains(r#"biplane_stage_latency_seconds_count{stage="s"} 3"#), "{text}");
        assert!(text.contains("biplane_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn every_metric_has_its_line_in_the_documentation() {
        let telemetry = Telemetry::new();
        let stage = telemetry.stage("s");
        stage.set_state("running");
        stage.set_lag("t", 0, 1, Some(1.0));
        stage.step("validate").took(Duration::from_micros(3));
        [StageMetrics::dropped, StageMetrics::retried, StageMetrics::dead_lettered]
            .iter()
            .for_each(|count| count(&stage, "code", 1));
        let page = include_str!("../../docs/operating.md");
        let text = telemetry.render();
        let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
        assert!(names.len() > 20, "{text}");
        for name in names.iter().filter_map(|line| line.split(' ').next()) {
            // The text format keeps a counter's and an info's ending for the samples.
            let written =
                ["", "_total", "_info"].iter().any(|end| page.contains(&format!("| `{name}{end}` |")));
            assert!(written, "{name} is not in docs/operating.md");
        }
    }
}
