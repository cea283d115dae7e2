//! A whole runner against the in-process cluster: order, retries, dead letters, restarts, aborts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::budget::Budget;
use super::delivery::Producers;
use super::stage::{StageHandle, StageRuntime, start};
use crate::base::{Backoff, ByteSize, Class, CodePattern, Exhausted, Failure, RetryPolicy};
use crate::broker::{
    Consumer, ConsumerOptions, DeliverySink, MockKafka, OutHeaders, Outgoing, Polled, ProducerOptions,
    SendError, StartAt, TopicPartition,
};
use crate::catalog::{
    About, Bound, Compression, Dlq, DlqHeaders, Guarantee, OnLost, Order, Output, Stage, Start, Tombstones,
    Topic, Unmatched,
};
use crate::expr::RootSet;
use crate::record::{Item, JsonCodec};
use crate::steps::{Flow, OpenError, Ports, ReadyStep, Runnable, StepBody, StepContext, StepPlan};
use crate::telemetry::Telemetry;

mod bench;
mod dedupe;
mod epochs;
#[cfg(debug_assertions)]
mod faults;
mod lost;
mod outages;
mod rebalances;
mod resets;
mod starts;
mod troubles;
mod turns;

const PATIENCE: Duration = Duration::from_secs(40);
const PARTITIONS: u32 = 2;

/// What a scripted step does to a record, by the word in its value.
pub(super) type Script = fn(&str, u32) -> Result<(), Failure>;

#[derive(Clone)]
pub(super) struct Scripted {
    pub(super) script: Script,
    pub(super) calls: Arc<Mutex<HashMap<String, u32>>>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl StepBody for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn reads(&self) -> RootSet {
        RootSet::EMPTY
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Scripted {
    fn run<'r>(&self, item: &mut Item<'r>, _: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let word = item.value()?.as_str().unwrap_or_default().to_owned();
        *self.calls.lock().entry(word.clone()).or_default() += 1;
        (self.script)(&word, item.attempt)?;
        Ok(Flow::Next)
    }
}

pub(super) fn topic(name: &str) -> Arc<Topic> {
    Arc::new(Topic {
        name: Arc::from(name),
        physical: Arc::from(name),
        about: About::default(),
        partitions: Some(PARTITIONS),
        replication: None,
        settings: Default::default(),
        max_message_bytes: None,
        compression: Compression::None,
        linger: None,
        schema: None,
        external: false,
    })
}

pub(super) fn stage(step: &Scripted) -> Stage {
    Stage {
        name: Arc::from("s"),
        about: About::default(),
        inputs: vec![topic("in")],
        order: Order::Key,
        concurrency: 4,
        window: Bound { records: 1_000, bytes: ByteSize(1 << 20) },
        span: Bound { records: 10_000, bytes: ByteSize(1 << 24) },
        max_parked: Bound { records: 1_000, bytes: ByteSize(1 << 20) },
        start: Start::Earliest,
        on_lost: OnLost::Halt,
        codec: Arc::new(JsonCodec),
        tombstones: Tombstones::DeadLetter,
        was: None,
        steps: vec![StepPlan {
            name: Arc::from("scripted"),
            kind: "scripted",
            when: None,
            timeout: None,
            retry: None,
            body: Arc::new(step.clone()),
        }],
        outputs: vec![Output {
            topic: topic("out"),
            when: None,
            key: None,
            headers: Vec::new(),
            codec: Arc::new(JsonCodec),
        }],
        match_all: false,
        unmatched: Unmatched::DeadLetter,
        retry: Arc::new(RetryPolicy {
            name: Arc::from("r"),
            max_attempts: 3,
            backoff: Backoff::Delays(vec![Duration::from_millis(300)]),
            on: vec![CodePattern::Class(Class::Transient)],
            not_on: Vec::new(),
            in_place_up_to: None,
            on_exhausted: Exhausted::DeadLetter,
        }),
        dlq: Some(Arc::new(Dlq {
            name: Arc::from("d"),
            about: About::default(),
            topic: topic("dead"),
            headers: vec![DlqHeaders::Biplane, DlqHeaders::Connect],
        })),
        breakers: Default::default(),
        rate_limit: Default::default(),
        dedupe: None,
        deadline: Duration::from_secs(60),
        commit_interval: Duration::from_millis(100),
        drain: Duration::from_secs(5),
        watchdog: None,
        max_hops: None,
        delivery: Guarantee::AtLeastOnce,
        env: Arc::new(serde_json::json!({})),
    }
}

pub(super) struct World {
    pub(super) kafka: MockKafka,
    runtime: tokio::runtime::Runtime,
    pub(super) step: Scripted,
}

/// One record read from a topic.
#[derive(Debug, Clone)]
pub(super) struct Got {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) timestamp: Option<i64>,
    pub(super) headers: BTreeMap<String, String>,
    /// All headers in their order.
    pub(super) all: Vec<(String, Vec<u8>)>,
}

#[derive(Default)]
struct Acks(AtomicU32);

impl DeliverySink for Acks {
    fn delivered(&self, _: u64, result: Result<(), SendError>) {
        assert_eq!(result, Ok(()));
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl World {
    pub(super) fn new(script: Script) -> Self {
        let kafka = MockKafka::start(1).unwrap();
        for topic in ["in", "out", "dead"] {
            kafka.create_topic(topic, PARTITIONS).unwrap();
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
        Self { kafka, runtime, step: Scripted { script, calls: Arc::default() } }
    }

    pub(super) fn stage_runtime(&self) -> StageRuntime {
        let client = self.kafka.settings("test");
        StageRuntime {
            producers: Arc::new(Producers::open(client.clone(), ProducerOptions::default()).unwrap()),
            client,
            budget: Budget::new(Bound { records: 100_000, bytes: ByteSize(1 << 28) }),
            holds: Arc::new(super::Holds::none()),
            namespace: "t".to_owned(),
            engine_id: None,
            runtime: self.runtime.handle().clone(),
            telemetry: Arc::new(Telemetry::new()),
            tracer: None,
            ports: Ports::default(),
            generation: "g".to_owned(),
        }
    }

    pub(super) fn start(&self) -> StageHandle {
        start(Arc::new(stage(&self.step)), &self.stage_runtime()).unwrap()
    }

    pub(super) fn produce(&self, records: &[(&str, String)]) {
        self.produce_with(records, &[]);
    }

    /// As `produce`, each record with these headers.
    pub(super) fn produce_with(&self, records: &[(&str, String)], headers: &[(&str, &[u8])]) {
        self.produce_at(None, records, headers);
    }

    /// As `produce_with`, each record with this timestamp.
    pub(super) fn produce_at(
        &self,
        timestamp: Option<i64>,
        records: &[(&str, String)],
        headers: &[(&str, &[u8])],
    ) {
        let producer =
            crate::broker::Producer::open(&self.kafka.settings("producer"), ProducerOptions::default())
                .unwrap();
        let acks = Arc::new(Acks::default());
        let sink = producer.register(Arc::clone(&acks) as _);
        for (key, value) in records {
            let mut out = OutHeaders::new(headers.len());
            headers.iter().for_each(|(name, value)| out.push(name, Some(value)));
            let outgoing = Outgoing {
                topic: "in",
                partition: None,
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                timestamp,
                headers: out,
            };
            producer.send(outgoing, &sink, 0).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        assert_eq!(acks.0.load(Ordering::Acquire) as usize, records.len());
    }

    /// Reads a topic from its start until `enough` says so.
    pub(super) fn read_until(&self, topic: &str, enough: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        // No member of a group: joining one takes seconds here.
        let options = ConsumerOptions::new("reader", Vec::new());
        let consumer = Consumer::open(&self.kafka.settings("reader"), options, || {}).unwrap();
        let partitions = (0..PARTITIONS).map(|partition| TopicPartition::new(topic, partition as i32));
        let starts: Vec<_> = partitions.map(|partition| (partition, StartAt::Earliest)).collect();
        consumer.assign(&starts).unwrap();
        let mut got = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while !enough(&got) {
            assert!(Instant::now() < deadline, "{topic} has only {got:#?}");
            match consumer.poll(Duration::from_millis(100)) {
                Polled::Record(fetched) => got.push(read(&fetched.raw())),
                Polled::Rebalance(_) | Polled::Error(_) | Polled::End(_) | Polled::Nothing => {}
            }
        }
        assert!(consumer.close(Duration::from_secs(10)));
        got
    }

    pub(super) fn read(&self, topic: &str, count: usize) -> Vec<Got> {
        self.read_until(topic, |got| got.len() >= count)
    }
}

fn read(raw: &crate::record::RawRecord<'_>) -> Got {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let headers = (0..raw.headers.len()).map(|index| raw.headers.get(index));
    let bytes = |value: Option<&[u8]>| value.unwrap_or_default().to_vec();
    Got {
        key: text(raw.key),
        value: raw.value.unwrap_or_default().to_vec(),
        timestamp: raw.timestamp,
        headers: headers.clone().map(|(name, value)| (name.to_owned(), text(value))).collect(),
        all: headers.map(|(name, value)| (name.to_owned(), bytes(value))).collect(),
    }
}

fn words(count: usize, keys: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("k{}", n % keys), format!("\"w{n}\""))).collect()
}

fn borrowed(records: &[(String, String)]) -> Vec<(&str, String)> {
    records.iter().map(|(key, value)| (key.as_str(), value.clone())).collect()
}

fn by_key(got: &[Got]) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in got {
        let values = keys.entry(record.key.clone()).or_default();
        let value = String::from_utf8_lossy(&record.value).into_owned();
        // First occurrences only: a restart may repeat.
        if !values.contains(&value) {
            values.push(value);
        }
    }
    keys
}

pub(super) fn stop(handle: &StageHandle) {
    handle.stop();
    assert!(handle.join(Duration::from_secs(20)), "{:?}", handle.status());
}

#[test]
fn records_pass_in_order_with_an_id_and_a_restart_repeats_nothing() {
    let world = World::new(|_, _| Ok(()));
    let sent = words(200, 7);
    world.produce(&borrowed(&sent));
    let handle = world.start();
    let got = world.read("out", 200);
    stop(&handle);
    let expected: Vec<Got> = sent
        .iter()
        .map(|(key, value)| Got {
            key: key.clone(),
            value: value.clone().into(),
            timestamp: None,
            headers: BTreeMap::new(),
            all: Vec::new(),
        })
        .collect();
    assert_eq!(by_key(&got), by_key(&expected));
    assert!(got.iter().all(|record| record.headers["biplane-id"].starts_with("s/in/")));
    let handle = world.start();
    world.produce(&[("k0", "\"last\"".to_owned())]);
    world.read_until("out", |got| got.iter().any(|record| record.value == b"\"last\""));
    stop(&handle);
    assert_eq!(world.read("out", 201).len(), 201);
    assert!(world.step.calls.lock().values().all(|calls| *calls == 1));
}

#[test]
fn a_failing_key_is_tried_again_holds_only_itself_and_ends_in_the_dlq() {
    let world = World::new(|word, attempt| match word {
        "twice" if attempt < 3 => Err(Failure::transient("busy", "try later")),
        "never" => Err(Failure::transient("busy", "try later")),
        "wrong" => Err(Failure::permanent("wrong", "no use")),
        _ => Ok(()),
    });
    let input = [
        ("a", "twice"),
        ("a", "behind"),
        ("b", "never"),
        ("b", "after"),
        ("c", "wrong"),
        ("c", "fine"),
        ("d", "ok"),
    ];
    world.produce(&input.map(|(key, word)| (key, format!("\"{word}\""))));
    world.produce(&[("e", "not json".to_owned())]);
    let handle = world.start();
    let out = by_key(&world.read("out", 5));
    assert_eq!(out["a"], ["\"twice\"", "\"behind\""]);
    assert_eq!(
        (out["b"].as_slice(), out["c"].as_slice()),
        (&["\"after\"".to_owned()][..], &["\"fine\"".to_owned()][..])
    );
    let dead = world.read("dead", 3);
    stop(&handle);
    let find = |value: &[u8]| dead.iter().find(|record| record.value == value).unwrap();
    let never = find(b"\"never\"");
    assert_eq!((never.key.as_str(), never.headers["biplane-attempts"].as_str()), ("b", "3"));
    assert_eq!(never.headers["biplane-error-code"], "busy");
    assert_eq!(never.headers["biplane-step"], "scripted");
    assert_eq!(never.headers["__connect.errors.topic"], "in");
    assert_eq!(find(b"\"wrong\"").headers["biplane-attempts"], "1");
    let poison = find(b"not json");
    assert_eq!(
        (poison.headers["biplane-error-class"].as_str(), poison.headers["biplane-error-code"].as_str()),
        ("poison", "json")
    );
    let status = handle.status();
    assert_eq!((status.failures["busy"], status.counts.dead_lettered), (5, 3));
}

#[test]
fn a_partition_pauses_that_is_too_many_bytes_ahead_of_a_waiting_record() {
    let world = World::new(|word, _| match word {
        "stuck" => Err(Failure::transient("busy", "try later")),
        _ => Ok(()),
    });
    let mut stage = stage(&world.step);
    stage.span.bytes = ByteSize(10_000);
    let mut retry = RetryPolicy::clone(&stage.retry);
    retry.backoff = Backoff::Delays(vec![Duration::from_secs(50)]);
    stage.retry = Arc::new(retry);
    let mut sent = vec![("stuck".to_owned(), "\"stuck\"".to_owned())];
    sent.extend((0..2_000).map(|n| (format!("k{n}"), format!("\"{n:0>1000}\""))));
    world.produce(&borrowed(&sent));
    let handle = start(Arc::new(stage), &world.stage_runtime()).unwrap();
    // The other partition is not held up.
    world.read_until("out", |_| {
        let partitions = handle.status().partitions;
        partitions.iter().any(|partition| partition.end > Some(500) && partition.lag_records == Some(0))
    });
    stop(&handle);
    let done = world.step.calls.lock().len();
    assert!(done < 1_500, "{done} records of 2000 were taken, half of them behind one that waits");
}

#[test]
fn a_stage_holds_no_more_than_the_engine_may_though_its_own_window_is_larger() {
    let world = World::new(|_, _| Err(Failure::transient("busy", "try later")));
    let mut stage = stage(&world.step);
    let mut retry = RetryPolicy::clone(&stage.retry);
    retry.backoff = Backoff::Delays(vec![Duration::from_secs(50)]);
    stage.retry = Arc::new(retry);
    world.produce(&borrowed(&words(500, 500)));
    let mut runtime = world.stage_runtime();
    runtime.budget = Budget::new(Bound { records: 40, bytes: ByteSize(1 << 20) });
    let handle = start(Arc::new(stage), &runtime).unwrap();
    world.read_until("out", |_| handle.status().state == "paused");
    assert_eq!(handle.status().in_flight, 40);
    stop(&handle);
}
