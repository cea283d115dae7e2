//! An `http` step of 10 ms with 256 records in flight: beside the bare client, and with one slow key.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseRecord, Producer};

use crate::engine::Engine;
use crate::kafka::{Cluster, order, producer, send};
use crate::latency::{self, Load};
use crate::process::{Measured, median};
use crate::throughput::{Figures, measure, middle, print};

/// At most so many requests are under way.
const PLACES: u64 = 256;
/// What that allows with 10 ms each.
const MOST: f64 = 25_600.0;

/// The service, in a process of its own.
struct Service {
    _process: Measured,
    base: String,
}

impl Service {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port").to_string();
        let this = std::env::current_exe().expect("the bench's own path");
        let process = Measured::start(Command::new(this).args(["serve", &address]));
        let limit = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < limit, "the service does not answer");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Self { _process: process, base: format!("http://{address}") }
    }
}

pub(crate) fn run(cluster: &Cluster, records: u64, rounds: usize) {
    let run = format!("bench-{}-http", std::process::id());
    let service = Service::start();
    let input = format!("{run}-in");
    cluster.create(&input, &[]);
    fill(cluster, &input, records);
    println!("http: {records} requests of 10 ms, {PLACES} at one time, uniform keys, {rounds} rounds");
    println!("{:<8} {:>12} {:>8} {:>8}", "", "requests/s", "CPU s/M", "peak MB");
    let (mut bare, mut engine) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        bare.push(ask(&service.base, records));
        let output = format!("{run}-{round}");
        engine.push(measure(cluster, records, &output, || {
            Engine::start(cluster, &format!("http {}", service.base), &input, &output).process
        }));
    }
    cluster.delete(&[&input]);
    let (bare, engine) = (middle(&bare), middle(&engine));
    print("client", &bare);
    print("engine", &engine);
    let floor = bare.rate.min(MOST);
    let cpu = engine.cpu_seconds / bare.cpu_seconds;
    println!("{:<8} {:>12.2} {cpu:>8.2}\n", "ratio", engine.rate / floor);
    slow_key(cluster, &service, rounds);
}

/// The others' time from produce to output, without a slow key and with one.
fn slow_key(cluster: &Cluster, service: &Service, rounds: usize) {
    let quiet = Load { rate: 2_000, records: 40_000, slow_every: None };
    // One every two seconds, each of which takes one.
    let slow = Load { slow_every: Some(4_000), ..quiet };
    println!("http: {} records/s, milliseconds of all keys but the slow one, {rounds} rounds", quiet.rate);
    println!("{:<12} {:>8} {:>8} {:>8}", "", "p50", "p99", "p99.9");
    let run = format!("bench-{}-slow", std::process::id());
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for (name, load, found) in [("quiet", quiet, &mut without), ("slow", slow, &mut with)] {
            let (input, output) = (format!("{run}-{name}-in-{round}"), format!("{run}-{name}-{round}"));
            found.push(latency::measure(cluster, load, &input, &output, || {
                Engine::start(cluster, &format!("http {}", service.base), &input, &output).process
            }));
        }
    }
    let (without, with) = (latency::middle(&without), latency::middle(&with));
    for (what, [p50, p99, p999]) in [("uniform", without), ("a slow key", with)] {
        println!("{what:<12} {p50:>8.1} {p99:>8.1} {p999:>8.1}");
    }
    println!("{:<12} {:>8} {:>8.2}\n", "ratio", "", with[1] / without[1]);
}

/// The bare client, as many times as there are records.
fn ask(base: &str, requests: u64) -> Figures {
    let this = std::env::current_exe().expect("the bench's own path");
    let began = Instant::now();
    let arguments = ["ask", base, &requests.to_string(), &PLACES.to_string()];
    let mut process = Measured::start(Command::new(this).args(arguments));
    let (mut cpu, mut peak) = (Vec::new(), 0.0_f64);
    while process.runs() {
        cpu.push(process.cpu_seconds());
        peak = peak.max(process.peak_megabytes());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let seconds = began.elapsed().as_secs_f64();
    let spent = cpu.into_iter().fold(0.0, f64::max);
    Figures {
        rate: requests as f64 / seconds,
        cpu_seconds: spent * 1_000_000.0 / requests as f64,
        peak_megabytes: median(vec![peak]),
    }
}

/// Orders with a key each.
fn fill(cluster: &Cluster, topic: &str, records: u64) {
    let producer = producer(cluster.brokers());
    let padding = "x".repeat(80);
    for number in 0..records {
        let key = format!("customer-{number}");
        let value = order(number, &key, &padding);
        send(&producer, BaseRecord::to(topic).key(key.as_bytes()).payload(value.as_bytes()));
    }
    producer.flush(Duration::from_secs(60)).expect("the input is written");
}
