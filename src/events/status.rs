//! What a stage says of itself: metrics, log lines and the status that operators read.
//!
//! The runner writes, everyone else reads a copy. Errors that repeat are logged once an interval.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use super::lag::Sight;
use super::partitions::Partition;
use super::watchdog::Suspicion;
use crate::base::Failure;
use crate::broker::{SendError, TopicPartition};
use crate::record::RawRecord;
use crate::telemetry::{RateLimit, StageCounts, StageMetrics};

/// A stage as its operators see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageStatus {
    /// The stage.
    pub stage: String,
    /// `starting`, `running`, `paused`, `halted`, `draining` or `stopped`.
    pub state: String,
    /// Why it is halted, or what troubles it.
    pub reason: Option<String>,
    /// Records between poll and acknowledgement.
    pub in_flight: usize,
    /// The bytes they hold.
    pub in_flight_bytes: usize,
    /// Keys or partitions that something waits in.
    pub lanes: usize,
    /// Records that wait for their next attempt.
    pub waiting: usize,
    /// What this engine has parked of it.
    #[serde(default)]
    pub parked: ParkedStatus,
    /// The breakers of its steps that ask another system.
    #[serde(default)]
    pub breakers: Vec<BreakerStatus>,
    /// What it knows of equal records, where it tells them.
    #[serde(default)]
    pub dedupe: Option<DedupeStatus>,
    /// The partitions this engine owns.
    pub partitions: Vec<PartitionStatus>,
    /// Failed attempts by code.
    pub failures: std::collections::BTreeMap<String, u64>,
    /// How often the watchdog replaced its consumer since the engine started.
    #[serde(default)]
    pub watchdog_rebuilds: u64,
    /// How often each thing happened since the engine started.
    pub counts: StageCounts,
}

/// What one engine has parked of a stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedStatus {
    /// Records, those behind a parked one of their key included.
    pub records: usize,
    /// The bytes they hold.
    pub bytes: usize,
    /// When the next of them is due, in milliseconds since the Unix epoch.
    pub next_due: Option<i64>,
    /// Whether it is as much as `max_parked` allows, so that the inputs wait.
    pub full: bool,
    /// Partitions whose parked records are not all known yet, so that their inputs wait.
    pub scanning: usize,
}

/// The breaker of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerStatus {
    /// The step.
    pub step: String,
    /// Whether the system that it asks is taken for down: the stage pauses.
    pub open: bool,
    /// How often it opened since the stage started or was edited.
    pub opened: u64,
}

/// What a stage knows of equal records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupeStatus {
    /// Marks of finished records.
    pub marks: usize,
    /// Duplicates dropped since the stage started.
    pub duplicates: u64,
    /// Marks forgotten before their window was over, as there were too many, since the stage started.
    pub forgotten: u64,
    /// Records that wait for an equal one that is in flight.
    pub waiting: usize,
    /// Whether marks are still being read.
    pub loading: bool,
}

/// One owned partition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The topic on the broker.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// All before this offset is finished.
    pub position: Option<i64>,
    /// The offset committed last.
    pub committed: Option<i64>,
    /// The offset behind the newest record on the broker, as last seen.
    pub end: Option<i64>,
    /// Records between the position and the end.
    pub lag_records: Option<i64>,
    /// The age of the oldest unfinished record by its timestamp, as far as it is known; 0 without lag.
    pub lag_seconds: Option<f64>,
}

/// Counters of one turn of the loop, flushed at its end, so that a record costs no atomic.
#[derive(Debug, Default)]
pub(super) struct Counts {
    records_in: u64,
    bytes_in: u64,
    sent: u64,
    bytes_out: u64,
    filtered: u64,
}

impl Counts {
    pub(super) fn took(&mut self, bytes: usize) {
        self.records_in += 1;
        self.bytes_in += bytes as u64;
    }

    /// So many outputs of a finished record, of so many bytes, are acknowledged.
    pub(super) fn sent(&mut self, (outputs, bytes): (u32, u64)) {
        self.sent += u64::from(outputs);
        self.bytes_out += bytes;
    }

    pub(super) fn filtered(&mut self) {
        self.filtered += 1;
    }

    /// Adds what was counted to the metrics.
    pub(super) fn flush(&mut self, metrics: &StageMetrics) {
        let counts = std::mem::take(self);
        let add = |count: u64, metric: fn(&StageMetrics, u64)| {
            if count > 0 {
                metric(metrics, count);
            }
        };
        add(counts.records_in, StageMetrics::records_in);
        add(counts.bytes_in, StageMetrics::bytes_in);
        add(counts.sent, StageMetrics::records_out);
        add(counts.bytes_out, StageMetrics::bytes_out);
        add(counts.filtered, StageMetrics::filtered);
    }
}

/// What the runner's thread shares with those who watch it.
pub(super) struct Shared {
    stage: String,
    pub(super) metrics: StageMetrics,
    status: Mutex<StageStatus>,
    /// When the reason in the status was last given, unless it is why the stage is halted.
    troubled: Mutex<Option<Instant>>,
    pub(super) suspicion: Suspicion,
    /// Partitions beside those that are read whose ends are of interest, and these where they are known.
    beside: Mutex<BTreeMap<TopicPartition, Option<i64>>>,
    assigned: AtomicBool,
    stopped: Mutex<bool>,
    stop: Condvar,
    limit: RateLimit,
    failures: Mutex<std::collections::BTreeMap<String, u64>>,
}

/// What was not said again for so long does not trouble a stage any more.
const TROUBLE_MEMORY: Duration = Duration::from_secs(60);
/// How often one kind of error is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

impl Shared {
    pub(super) fn new(stage: &str, metrics: StageMetrics) -> Self {
        metrics.set_state("starting");
        let status =
            StageStatus { stage: stage.to_owned(), state: "starting".to_owned(), ..Default::default() };
        Self {
            stage: stage.to_owned(),
            metrics,
            status: Mutex::new(status),
            troubled: Mutex::default(),
            suspicion: Suspicion::default(),
            beside: Mutex::default(),
            assigned: AtomicBool::new(false),
            stopped: Mutex::new(false),
            stop: Condvar::new(),
            limit: RateLimit::new(LOG_INTERVAL),
            failures: Mutex::default(),
        }
    }

    /// A copy of the status.
    pub(super) fn status(&self) -> StageStatus {
        let mut status = self.status.lock().clone();
        status.counts = self.metrics.counts();
        status.watchdog_rebuilds = self.metrics.watchdog_rebuilt();
        status.failures = self.failures.lock().clone();
        status
    }

    /// Waits until the runner has left, at most until `deadline`.
    pub(super) fn wait_stopped(&self, deadline: Instant) -> bool {
        let mut stopped = self.stopped.lock();
        while !*stopped {
            if self.stop.wait_until(&mut stopped, deadline).timed_out() {
                return *stopped;
            }
        }
        true
    }

    pub(super) fn stopped(&self) {
        self.metrics.set_state("stopped");
        let mut status = self.status.lock();
        status.state = "stopped".to_owned();
        for partition in std::mem::take(&mut status.partitions) {
            self.metrics.clear_lag(&partition.topic, partition.partition);
        }
        drop(status);
        *self.stopped.lock() = true;
        self.stop.notify_all();
        tracing::info!(stage = self.stage, "stopped");
    }

    pub(super) fn was_assigned(&self) -> bool {
        self.assigned.load(Ordering::Relaxed)
    }

    pub(super) fn assigned(&self, partitions: usize) {
        self.assigned.store(true, Ordering::Relaxed);
        self.forget_trouble();
        tracing::info!(stage = self.stage, partitions, "partitions assigned");
    }

    pub(super) fn rebalanced(&self) {
        self.metrics.rebalances(1);
    }

    pub(super) fn repeated(&self, records: usize) {
        self.metrics.repeated(records as u64);
    }

    pub(super) fn latency(&self, millis: i64) {
        self.metrics.latency_seconds(millis.max(0) as f64 / 1_000.0);
    }

    pub(super) fn committed(&self, took: Duration) {
        self.metrics.commit_seconds(took.as_secs_f64());
    }

    /// Another engine has moved a partition in the database that the stage writes.
    pub(super) fn offset_conflict(&self) {
        self.metrics.offset_conflicts(1);
        self.trouble(
            "another engine, or an operator, has moved a partition in the database that the stage writes: it is read \
             again from where it stands there",
        );
    }

    pub(super) fn retried(&self, code: &str) {
        self.metrics.retried(code, 1);
    }

    pub(super) fn dropped(&self, code: &str) {
        self.metrics.dropped(code, 1);
    }

    /// So many records or parts of records were taken by no output and let go.
    pub(super) fn unmatched(&self, count: u64) {
        self.metrics.dropped("unmatched", count);
    }

    pub(super) fn dead_lettered(&self, code: &str) {
        self.metrics.dead_lettered(code, 1);
    }

    /// An attempt failed.
    pub(super) fn failed(&self, failure: &Failure, raw: RawRecord<'_>) {
        *self.failures.lock().entry(failure.code.to_string()).or_default() += 1;
        if let Some(suppressed) = self.limit.admit(&failure.code) {
            tracing::warn!(
                stage = self.stage,
                topic = raw.topic,
                partition = raw.partition,
                offset = raw.offset,
                step = failure.step.as_deref(),
                code = &*failure.code,
                class = failure.class.as_str(),
                suppressed,
                "{}",
                failure.message
            );
        }
    }

    /// The broker refused a send for reasons that are not the record's.
    pub(super) fn send_refused(&self, error: &SendError) {
        self.trouble(&format!("a send was refused: {error}"));
    }

    /// Something is wrong and may pass; the stage goes on.
    pub(super) fn trouble(&self, reason: &str) {
        *self.troubled.lock() = Some(Instant::now());
        self.status.lock().reason = Some(reason.to_owned());
        if let Some(suppressed) = self.limit.admit(reason) {
            tracing::warn!(stage = self.stage, suppressed, "{reason}");
        }
    }

    /// What troubles the stage still does; not logged again.
    pub(super) fn remind(&self, reason: &str) {
        *self.troubled.lock() = Some(Instant::now());
        self.status.lock().reason = Some(reason.to_owned());
    }

    /// What troubled the stage has passed.
    pub(super) fn recovered(&self, how: &str) {
        self.forget_trouble();
        tracing::info!(stage = self.stage, "{how}");
    }

    /// Says what is known of equal records; gives what was said before.
    pub(super) fn set_dedupe(&self, dedupe: DedupeStatus) -> Option<DedupeStatus> {
        self.status.lock().dedupe.replace(dedupe)
    }

    pub(super) fn set_parked(&self, parked: ParkedStatus) {
        self.metrics.set_parked(parked.records, parked.bytes, parked.full);
        self.status.lock().parked = parked;
    }

    pub(super) fn set_breakers(&self, breakers: Vec<BreakerStatus>) {
        self.status.lock().breakers = breakers;
    }

    /// What troubled the stage and was not said again for a while has passed.
    pub(super) fn forget_old_trouble(&self, now: Instant) {
        let said = *self.troubled.lock();
        if said.is_some_and(|said| now.saturating_duration_since(said) >= TROUBLE_MEMORY) {
            self.forget_trouble();
        }
    }

    fn forget_trouble(&self) {
        if self.troubled.lock().take().is_some() {
            self.status.lock().reason = None;
        }
    }

    /// The stage stands still until someone acts.
    pub(super) fn halted(&self, reason: &str) {
        *self.troubled.lock() = None;
        self.status.lock().reason = Some(reason.to_owned());
        tracing::error!(stage = self.stage, "halted: {reason}");
    }

    /// The stage stands still as somebody wants it.
    pub(super) fn paused(&self, reason: &str) {
        *self.troubled.lock() = None;
        self.status.lock().reason = Some(reason.to_owned());
    }

    /// It does not stand still any more.
    pub(super) fn goes_on(&self) {
        *self.troubled.lock() = None;
        self.status.lock().reason = None;
    }

    /// A partition is another's now.
    pub(super) fn forget(&self, name: &TopicPartition) {
        self.metrics.clear_lag(&name.topic, name.partition);
    }

    /// The partitions to look up the ends of.
    pub(super) fn owned(&self) -> Vec<TopicPartition> {
        let status = self.status.lock();
        let name =
            |partition: &PartitionStatus| TopicPartition::new(partition.topic.as_str(), partition.partition);
        status.partitions.iter().map(name).chain(self.beside.lock().keys().cloned()).collect()
    }

    /// Has the ends of these partitions looked up from now on, and of no others beside those that are read;
    /// the ends that are known by now.
    pub(super) fn ends_beside(&self, names: &[TopicPartition]) -> BTreeMap<TopicPartition, i64> {
        let mut beside = self.beside.lock();
        beside.retain(|name, _| names.contains(name));
        for name in names {
            beside.entry(name.clone()).or_default();
        }
        beside.iter().filter_map(|(name, end)| Some((name.clone(), (*end)?))).collect()
    }

    /// What was looked up of a partition before is older than what is known of it now.
    pub(super) fn forget_end_beside(&self, name: &TopicPartition) {
        if let Some(end) = self.beside.lock().get_mut(name) {
            *end = None;
        }
    }

    /// The ends of partitions were looked up, its own among others.
    pub(super) fn set_ends(&self, ends: &BTreeMap<TopicPartition, i64>) {
        for (name, end) in self.beside.lock().iter_mut() {
            *end = ends.get(name).copied().or(*end);
        }
        for partition in &mut self.status.lock().partitions {
            let name = TopicPartition::new(partition.topic.as_str(), partition.partition);
            if let Some(end) = ends.get(&name) {
                self.suspicion.looked_up(&name, *end);
                partition.end = Some(*end);
            }
        }
    }

    /// The regular report of the runner; beside each partition the timestamp of its first unfinished
    /// record, where one is in flight.
    pub(super) fn report<'a>(
        &self,
        state: &'static str,
        (in_flight, bytes): (usize, usize),
        (lanes, waiting): (usize, usize),
        partitions: impl Iterator<Item = (&'a mut Partition, Option<i64>)>,
        now_millis: i64,
    ) {
        self.metrics.set_state(state);
        self.metrics.set_in_flight(in_flight, bytes);
        self.metrics.set_lanes(lanes);
        self.metrics.set_waiting(waiting);
        self.metrics.set_paused(state == "paused" || state == "halted");
        let mut status = self.status.lock();
        status.state = state.to_owned();
        (status.in_flight, status.in_flight_bytes) = (in_flight, bytes);
        (status.lanes, status.waiting) = (lanes, waiting);
        let old = std::mem::take(&mut status.partitions);
        status.partitions =
            partitions.map(|(now, oldest)| self.partition(now, oldest, &old, now_millis)).collect();
    }

    fn partition(
        &self,
        now: &mut Partition,
        oldest: Option<i64>,
        old: &[PartitionStatus],
        now_millis: i64,
    ) -> PartitionStatus {
        let name = now.name.clone();
        let known = |old: &&PartitionStatus| *old.topic == *name.topic && old.partition == name.partition;
        let end = old.iter().find(known).and_then(|old| old.end);
        let position = now.position();
        let end = end.max(now.next());
        let lag_records = end.zip(position).map(|(end, position)| (end - position).max(0));
        let lag_seconds = lag_records.zip(position).and_then(|(behind, position)| {
            let newest = now.last_timestamp;
            now.lag.look(Sight { position, behind, oldest, newest, now: now_millis })
        });
        if let Some(records) = lag_records {
            self.metrics.set_lag(&name.topic, name.partition, records, lag_seconds);
        }
        PartitionStatus {
            topic: name.topic.to_string(),
            partition: name.partition,
            position,
            committed: now.committed,
            end,
            lag_records,
            lag_seconds,
        }
    }
}
