//! A replay of dead letters with a filter, beside a pass-through of as many records.

use std::process::Command;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use crate::engine::{Engine, config_root};
use crate::kafka::{Cluster, PARTITIONS, order, producer, send};
use crate::process::Measured;
use crate::throughput::{Figures, measure, middle, print};

/// One dead letter in so many is of another code, and is left out.
const OTHERS: u64 = 10;

pub(crate) fn run(cluster: &Cluster, records: u64, rounds: usize) {
    let run = format!("bench-{}-replay", std::process::id());
    let (input, dead) = (format!("{run}-in"), format!("{run}.dlq"));
    cluster.create(&input, &[]);
    cluster.create(&dead, &[]);
    cluster.fill(&input, records);
    fill(cluster, &dead, &input, records);
    let selected = records - records / OTHERS;
    println!("replay: {records} dead letters, {selected} of them by their code, {rounds} rounds");
    println!("{:<8} {:>12} {:>8} {:>8}", "", "records/s", "CPU s/M", "peak MB");
    let (mut pass, mut replay) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let output = format!("{run}-pass-{round}");
        pass.push(measure(cluster, records, &output, || {
            Engine::start(cluster, "pass", &input, &output).process
        }));
        let namespace = format!("{run}-{round}");
        let output = format!("{namespace}.bench.replay");
        let figures = measure(cluster, selected, &output, || start(cluster, &input, &run, &namespace));
        // What counts is what was looked at.
        let all = records as f64 / selected as f64;
        replay.push(Figures { rate: figures.rate * all, cpu_seconds: figures.cpu_seconds / all, ..figures });
    }
    cluster.delete(&[&input, &dead]);
    let (pass, replay) = (middle(&pass), middle(&replay));
    print("pass", &pass);
    print("replay", &replay);
    println!(
        "{:<8} {:>12.2} {:>8.2}\n",
        "ratio",
        replay.rate / pass.rate,
        replay.cpu_seconds / pass.cpu_seconds
    );
}

fn start(cluster: &Cluster, input: &str, output: &str, namespace: &str) -> Measured {
    let root = config_root("pass", input, output);
    let mut command = Command::new(env!("CARGO_BIN_EXE_biplane"));
    command
        .args(["replays", "start", "--dlq", "bench", "--code", "http-5xx", "--yes"])
        .env("BIPLANE_CONFIG", &root)
        .env("BIPLANE_KAFKA_BROKERS", cluster.brokers())
        .env("BIPLANE_NAMESPACE", namespace)
        .env("BIPLANE_LOG", "warn");
    Measured::start(&mut command)
}

/// Orders as a stage dead-letters them.
fn fill(cluster: &Cluster, topic: &str, input: &str, records: u64) {
    let producer = producer(cluster.brokers());
    let padding = "x".repeat(80);
    for number in 0..records {
        let key = format!("customer-{}", number.wrapping_mul(0x9e37_79b9) % 2_000);
        let value = order(number, &key, &padding);
        let partition = number % u64::from(PARTITIONS.unsigned_abs());
        let code = if number % OTHERS == 0 { "schema" } else { "http-503" };
        let mut headers = OwnedHeaders::new_with_capacity(16);
        for (key, value) in [
            ("biplane-error-class", "transient"),
            ("biplane-error-code", code),
            ("biplane-error-message", "http-503: the service at http://crm/tenants/17 answered 503"),
            ("biplane-stage", "bench"),
            ("biplane-step", "tenant"),
            ("biplane-attempts", "3"),
            ("biplane-first-failed-at", "2026-01-01T00:00:00.000Z"),
            ("biplane-failed-at", "2026-01-01T00:00:01.000Z"),
            ("biplane-topic", input),
            ("biplane-partition", &partition.to_string()),
            ("biplane-offset", &number.to_string()),
            ("biplane-timestamp", "2026-01-01T00:00:00.000Z"),
            ("biplane-fingerprint", "0123456789abcdef"),
            ("biplane-generation", "0123456789ab"),
            ("biplane-replays", "0"),
            ("biplane-dlq-id", "bench/input/0/0/dlq"),
        ] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let record = BaseRecord::<[u8], [u8]>::to(topic)
            .key(key.as_bytes())
            .payload(value.as_bytes())
            .headers(headers);
        send(&producer, record);
    }
    producer.flush(std::time::Duration::from_secs(60)).expect("the dead letters are written");
}
