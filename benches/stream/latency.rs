//! From produce to output at a steady rate, the loop and the engine in turns.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, Producer};

use crate::engine::Engine;
use crate::kafka::{Cluster, order, producer, send};
use crate::process::{Measured, median};
use crate::throughput::start_loop;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Records a second.
    pub(crate) rate: u64,
    pub(crate) records: u64,
    /// One record in so many bears the key `slow`, and is not measured.
    pub(crate) slow_every: Option<u64>,
}

impl Load {
    fn is_slow(self, number: u64) -> bool {
        self.slow_every.is_some_and(|every| number.is_multiple_of(every))
    }
}

const LOAD: Load = Load { rate: 5_000, records: 50_000, slow_every: None };
/// Records that only warm up.
const WARM: u64 = 5_000;

pub(crate) fn run(cluster: &Cluster, rounds: usize) {
    let Load { rate, records, .. } = LOAD;
    println!("latency: {rate} records/s, {records} records, {rounds} rounds, milliseconds");
    println!("{:<8} {:>8} {:>8} {:>8}", "", "p50", "p99", "p99.9");
    let run = format!("bench-{}-latency", std::process::id());
    let (mut floor, mut engine) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (input, output) = (format!("{run}-loop-in-{round}"), format!("{run}-loop-{round}"));
        floor.push(measure(cluster, LOAD, &input, &output, || start_loop("pass", &input, &output)));
        let (input, output) = (format!("{run}-engine-in-{round}"), format!("{run}-engine-{round}"));
        engine.push(measure(cluster, LOAD, &input, &output, || {
            Engine::start(cluster, "pass", &input, &output).process
        }));
    }
    let (floor, engine) = (middle(&floor), middle(&engine));
    for (what, [p50, p99, p999]) in [("loop", floor), ("engine", engine)] {
        println!("{what:<8} {p50:>8.1} {p99:>8.1} {p999:>8.1}");
    }
    println!(
        "{:<8} {:>8.2} {:>8.2} {:>8.2}\n",
        "ratio",
        engine[0] / floor[0],
        engine[1] / floor[1],
        engine[2] / floor[2]
    );
}

pub(crate) fn middle(all: &[[f64; 3]]) -> [f64; 3] {
    [0, 1, 2].map(|index| median(all.iter().map(|figures| figures[index]).collect()))
}

/// Produces at the rate and watches the output, on one clock.
pub(crate) fn measure(
    cluster: &Cluster,
    load: Load,
    input: &str,
    output: &str,
    start: impl FnOnce() -> Measured,
) -> [f64; 3] {
    let records = load.records;
    cluster.create(input, &[]);
    cluster.create(output, &[]);
    let _process = start();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.brokers())
        .set("group.id", format!("{output}-watcher"))
        .set("auto.offset.reset", "earliest")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .expect("a watcher");
    consumer.subscribe(&[output]).expect("subscribed");
    warm_up(cluster, input, &consumer);
    let sender = {
        let (brokers, input) = (cluster.brokers().to_owned(), input.to_owned());
        std::thread::spawn(move || produce(&brokers, &input, load))
    };
    let mut seen: HashMap<u64, Instant> = HashMap::new();
    let limit = Instant::now() + Duration::from_secs(60);
    while (seen.len() as u64) < records {
        assert!(Instant::now() < limit, "only {} of {records} records came out", seen.len());
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        if let Some(number) = number(message.payload().unwrap_or_default()) {
            seen.insert(number, Instant::now());
        }
    }
    let sent = sender.join().expect("the sender");
    let mut waits: Vec<f64> = (WARM..records)
        .filter(|number| !load.is_slow(*number))
        .map(|number| seen[&number].duration_since(sent[number as usize]).as_secs_f64() * 1_000.0)
        .collect();
    waits.sort_by(f64::total_cmp);
    cluster.delete(&[input, output]);
    [0.5, 0.99, 0.999].map(|share| waits[(waits.len() as f64 * share) as usize])
}

/// Sends one record at a time until one comes out, so that all have joined their groups.
fn warm_up(cluster: &Cluster, input: &str, consumer: &BaseConsumer) {
    let producer = producer(cluster.brokers());
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        send(&producer, BaseRecord::to(input).key(&b"warm"[..]).payload(&b"{\"id\":\"warm\"}"[..]));
        producer.flush(Duration::from_secs(10)).expect("written");
        if consumer.poll(Duration::from_millis(200)).is_some_and(|polled| polled.is_ok()) {
            return;
        }
        assert!(Instant::now() < limit, "nothing came out");
    }
}

/// Sends each record when it is due; when that was.
fn produce(brokers: &str, input: &str, load: Load) -> Vec<Instant> {
    let producer = rdkafka::config::ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("linger.ms", "1")
        .create::<rdkafka::producer::BaseProducer>()
        .expect("a producer");
    let padding = "x".repeat(80);
    let began = Instant::now();
    let mut sent = Vec::with_capacity(load.records as usize);
    for number in 0..load.records {
        let due = began + Duration::from_micros(number * 1_000_000 / load.rate);
        while let Some(wait) = due.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero()) {
            producer.poll(Duration::ZERO);
            std::thread::park_timeout(wait);
        }
        let key = if load.is_slow(number) { "slow".to_owned() } else { format!("customer-{}", number % 997) };
        let value = order(number, &key, &padding);
        sent.push(Instant::now());
        send(&producer, BaseRecord::to(input).key(key.as_bytes()).payload(value.as_bytes()));
    }
    producer.flush(Duration::from_secs(60)).expect("written");
    sent
}

/// The number in `{"id":"order-000000000042",…`.
fn number(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    text.strip_prefix(r#"{"id":"order-"#)?.get(..12)?.parse().ok()
}
