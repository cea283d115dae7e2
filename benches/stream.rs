//! The engine against bare loops on the same client, broker and input.
//!
//! `cargo bench --bench stream -- [--records N] [pass] [json]` needs a broker in
//! `BIPLANE_TEST_KAFKA_BROKERS` and prints, for each case, the bare loop's and the engine's records a
//! second, CPU seconds and peak memory, and their ratios. Loop and engine are each a process of their
//! own, watched from outside in the same way: time runs from the first to the last record of the
//! output topic, CPU and memory are the process's own as the system accounts them.

#![allow(clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::{Value, json};

const PARTITIONS: i32 = 4;
const KEYS: usize = 2_000;
const SCHEMA: &str = r#"{
  "$schema": "http://json-schema.org/draft-07/schema#",
  "type": "object",
  "required": ["id", "customer", "amount", "currency", "quantity"],
  "properties": {
    "id": { "type": "string", "minLength": 1 },
    "customer": { "type": "string" },
    "amount": { "type": "number", "minimum": 0 },
    "currency": { "enum": ["EUR", "USD", "GBP"] },
    "quantity": { "type": "integer", "minimum": 1 }
  }
}"#;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [role, case, input, output, group] = arguments.as_slice()
        && role == "loop"
    {
        return bare_loop(case == "json", input, output, group);
    }
    let brokers = brokers();
    let records = arguments
        .iter()
        .position(|argument| argument == "--records")
        .and_then(|index| arguments.get(index + 1)?.parse().ok())
        .unwrap_or(1_000_000);
    let wanted = |case: &str| {
        let named = arguments.iter().any(|argument| argument == "pass" || argument == "json");
        !named || arguments.iter().any(|argument| argument == case)
    };
    let run = format!("bench-{}", std::process::id());
    let input = format!("{run}-in");
    create(&brokers, &input);
    fill(&brokers, &input, records);
    println!("{records} records of about 200 bytes, {KEYS} Zipf keys, {PARTITIONS} partitions");
    println!("{:<6} {:<7} {:>10} {:>8} {:>8}", "case", "what", "records/s", "CPU s", "peak MB");
    for case in ["pass", "json"].into_iter().filter(|case| wanted(case)) {
        let floor = measure(&brokers, records, &format!("{run}-{case}-loop"), |output| {
            let this = std::env::current_exe().expect("the bench's own path");
            spawn(Command::new(this).args(["loop", case, &input, output, output]))
        });
        print(case, "loop", &floor, records);
        let engine = measure(&brokers, records, &format!("{run}-{case}-engine"), |output| {
            start_engine(&brokers, case, &input, output)
        });
        print(case, "engine", &engine, records);
        println!(
            "{case:<6} {:<7} {:>10.2} {:>8.2}",
            "ratio",
            floor.seconds / engine.seconds,
            engine.cpu_seconds / floor.cpu_seconds
        );
    }
}

/// What one run took.
struct Figures {
    seconds: f64,
    cpu_seconds: f64,
    peak_megabytes: f64,
}

fn print(case: &str, what: &str, figures: &Figures, records: u64) {
    println!(
        "{case:<6} {what:<7} {:>10.0} {:>8.2} {:>8.0}",
        records as f64 / figures.seconds,
        figures.cpu_seconds * 1_000_000.0 / records as f64,
        figures.peak_megabytes
    );
}

fn brokers() -> String {
    std::env::var("BIPLANE_TEST_KAFKA_BROKERS")
        .expect("set BIPLANE_TEST_KAFKA_BROKERS to a broker for the bench")
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).spawn().expect("the measured process starts")
}

/// Starts a process that fills `output`, waits until it has, and stops it.
fn measure(brokers: &str, records: u64, output: &str, start: impl FnOnce(&str) -> Child) -> Figures {
    create(brokers, output);
    let watcher: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a watcher");
    let mut child = start(output);
    let mut began = None;
    let limit = Instant::now() + Duration::from_secs(300);
    loop {
        let count = written(&watcher, output);
        if count > 0 {
            began.get_or_insert_with(Instant::now);
        }
        if count >= records {
            break;
        }
        assert!(matches!(child.try_wait(), Ok(None)), "the measured process ended early");
        assert!(Instant::now() < limit, "only {count} of {records} records came out");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let seconds = began.map_or(0.0, |began| began.elapsed().as_secs_f64());
    let figures = Figures {
        seconds,
        cpu_seconds: cpu_seconds(child.id()),
        peak_megabytes: peak_kilobytes(child.id()) / 1_024.0,
    };
    let _ = child.kill();
    let _ = child.wait();
    figures
}

fn written(watcher: &BaseConsumer, topic: &str) -> u64 {
    (0..PARTITIONS)
        .filter_map(|partition| watcher.fetch_watermarks(topic, partition, Duration::from_secs(5)).ok())
        .map(|(low, high)| high.abs_diff(low))
        .sum()
}

/// User and system time of a process, from `/proc`, at the usual 100 ticks a second.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field =
        |index: usize| after_name.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok());
    (field(11).unwrap_or(0.0) + field(12).unwrap_or(0.0)) / 100.0
}

fn peak_kilobytes(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

fn create(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("an admin client");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let results =
        runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).expect("topics are created");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

fn producer(brokers: &str) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "100000")
        .create()
        .expect("a producer")
}

fn send(producer: &BaseProducer, mut record: BaseRecord<'_, [u8], [u8]>) {
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((_, back)) => {
                producer.poll(Duration::from_millis(1));
                record = back;
            }
        }
    }
}

/// Fills `topic` with orders whose keys follow Zipf's law (rank r drawn with weight 1/r).
fn fill(brokers: &str, topic: &str, records: u64) {
    let producer = producer(brokers);
    let mut sums = Vec::with_capacity(KEYS);
    let mut total = 0.0;
    for rank in 1..=KEYS {
        total += 1.0 / rank as f64;
        sums.push(total);
    }
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for number in 0..records {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let drawn = (state >> 11) as f64 / (1u64 << 53) as f64 * total;
        let key = format!("customer-{}", sums.partition_point(|sum| *sum < drawn));
        let value = format!(
            r#"{{"id":"order-{number:012}","customer":"{key}","amount":{}.25,"currency":"EUR","quantity":{},"note":"{}"}}"#,
            number % 1_000,
            number % 9 + 1,
            "x".repeat(80)
        );
        send(&producer, BaseRecord::to(topic).key(key.as_bytes()).payload(value.as_bytes()));
    }
    producer.flush(Duration::from_secs(60)).expect("the input is written");
}

/// The floor: poll, (parse, validate, rebuild,) produce with the engine's id header, commit.
fn bare_loop(json_case: bool, input: &str, output: &str, group: &str) {
    let brokers = brokers();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[input]).expect("subscribed");
    let producer = producer(&brokers);
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema compiles");
    let mut positions = vec![0; PARTITIONS as usize];
    let mut committed = Instant::now();
    loop {
        producer.poll(Duration::ZERO);
        if committed.elapsed() > Duration::from_secs(1) {
            commit(&consumer, input, &positions);
            committed = Instant::now();
        }
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(10)) else { continue };
        let id = format!("loop/{input}/{}/{}/0", message.partition(), message.offset());
        let mut headers = OwnedHeaders::new_with_capacity(1);
        if let Some(borrowed) = message.headers() {
            for header in borrowed.iter() {
                headers = headers.insert(header);
            }
        }
        let headers = headers.insert(Header { key: "biplane-id", value: Some(id.as_bytes()) });
        let built;
        let payload = if json_case {
            let value: Value = serde_json::from_slice(message.payload().unwrap_or_default()).expect("JSON");
            assert!(validator.is_valid(&value));
            built = serde_json::to_vec(&json!({
                "order_id": value["id"], "customer": value["customer"], "currency": value["currency"],
                "amount": value["amount"], "quantity": value["quantity"],
            }))
            .expect("an object");
            &built[..]
        } else {
            message.payload().unwrap_or_default()
        };
        let mut record = BaseRecord::<[u8], [u8]>::to(output).payload(payload).headers(headers);
        record.key = message.key();
        record.timestamp = message.timestamp().to_millis();
        send(&producer, record);
        positions[message.partition() as usize] = message.offset() + 1;
    }
}

fn commit(consumer: &BaseConsumer, input: &str, positions: &[i64]) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in positions.iter().enumerate().filter(|(_, offset)| **offset > 0) {
        let _ = list.add_partition_offset(input, partition as i32, Offset::Offset(*offset));
    }
    if list.count() > 0 {
        let _ = consumer.commit(&list, CommitMode::Async);
    }
}

/// The engine with order by key, commits, retries and a DLQ on.
fn start_engine(brokers: &str, case: &str, input: &str, output: &str) -> Child {
    let root = std::env::temp_dir().join(output);
    std::fs::create_dir_all(root.join("pipelines")).expect("a config root");
    std::fs::create_dir_all(root.join("schemas")).expect("a config root");
    std::fs::write(root.join("schemas/order.json"), SCHEMA).expect("a schema");
    let steps = match case {
        "json" => {
            r#"
[[stages.bench.steps]]
validate = "order.json"

[[stages.bench.steps]]
[stages.bench.steps.map]
order_id = "{{ value.id }}"
customer = "{{ value.customer }}"
currency = "{{ value.currency }}"
amount   = "{{ value.amount }}"
quantity = "{{ value.quantity }}"
"#
        }
        _ => "",
    };
    let pipeline = format!(
        r#"
[topics."{input}"]
external = true

[topics."{output}"]
external = true

[dlqs.bench]
topic = "{output}.dlq"

[retries.bench]
max_attempts = 3
backoff      = {{ initial = "100ms", factor = 2.0, max = "1s", jitter = "full" }}
on           = ["transient"]

[stages.bench]
from  = "{input}"
to    = "{output}"
order = "key"
retry = "bench"
dlq   = "bench"
{steps}"#
    );
    std::fs::write(root.join("pipelines/bench.toml"), pipeline).expect("a pipeline");
    run_engine(brokers, &root)
}

fn run_engine(brokers: &str, root: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_biplane"));
    command.arg("run").env("BIPLANE_CONFIG", root).env("BIPLANE_KAFKA_BROKERS", brokers);
    command
        .env("BIPLANE_LISTEN", "127.0.0.1:0")
        .env("BIPLANE_NAMESPACE", root.file_name().unwrap_or_default());
    spawn(&mut command)
}
