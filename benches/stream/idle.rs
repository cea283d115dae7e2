//! Many stages that have nothing to do, beside as many bare consumers, and a record's first way through a
//! chain of stages from the start of the engine.

use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, Producer};

use crate::engine::Engine;
use crate::kafka::{Cluster, producer, send};
use crate::process::{Measured, median};

const STAGES: usize = 200;
const CHAIN: usize = 20;
/// How long all have to join their groups.
const SETTLE: Duration = Duration::from_secs(40);
/// How long their CPU time is counted.
const WATCH: Duration = Duration::from_secs(30);

/// What one process costs while nothing happens.
#[derive(Debug, Clone, Copy)]
struct Cost {
    cpu_millis_a_second: f64,
    resident_megabytes: f64,
    threads: f64,
}

pub(crate) fn run(cluster: &Cluster) {
    let run = format!("bench-{}-idle", std::process::id());
    let input = format!("{run}-in");
    cluster.create(&input, &[]);
    println!("idle: {STAGES} stages of one engine, {STAGES} consumers of one process, {WATCH:?}");
    println!("{:<8} {:>10} {:>8} {:>8}", "", "CPU ms/s", "MB", "threads");
    let this = std::env::current_exe().expect("the bench's own path");
    let floor = cost(Measured::start(Command::new(this).args(["consumers", &input])));
    let engine = cost(Engine::start_root(cluster, &stages(&run, &input), &run).process);
    cluster.delete(&[&input]);
    for (what, Cost { cpu_millis_a_second, resident_megabytes, threads }) in
        [("bare", floor), ("engine", engine)]
    {
        println!("{what:<8} {cpu_millis_a_second:>10.1} {resident_megabytes:>8.0} {threads:>8.0}");
    }
    println!(
        "{:<8} {:>10.2} {:>8.2} {:>8.2}\n",
        "ratio",
        engine.cpu_millis_a_second / floor.cpu_millis_a_second,
        engine.resident_megabytes / floor.resident_megabytes,
        engine.threads / floor.threads
    );
}

fn cost(mut process: Measured) -> Cost {
    wait(SETTLE);
    let (before, began) = (process.cpu_seconds(), Instant::now());
    wait(WATCH);
    let spent = process.cpu_seconds() - before;
    assert!(process.runs(), "the measured process ended early");
    Cost {
        cpu_millis_a_second: spent * 1_000.0 / began.elapsed().as_secs_f64(),
        resident_megabytes: process.resident_megabytes(),
        threads: process.threads(),
    }
}

fn wait(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// The bare consumers: a group and a thread each, polled as rarely as the client allows.
pub(crate) fn consumers(input: &str) {
    let brokers = std::env::var("BIPLANE_TEST_KAFKA_BROKERS").expect("the brokers");
    let threads: Vec<_> = (0..STAGES)
        .map(|number| {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", &brokers)
                .set("group.id", format!("{input}-{number}"))
                .set("enable.auto.commit", "false")
                .set("auto.offset.reset", "earliest")
                .set("session.timeout.ms", "10000")
                .set("fetch.queue.backoff.ms", "5")
                .create()
                .expect("a consumer");
            consumer.subscribe(&[input]).expect("subscribed");
            std::thread::spawn(move || {
                loop {
                    let _ = consumer.poll(Duration::from_millis(500));
                }
            })
        })
        .collect();
    for thread in threads {
        let _ = thread.join();
    }
}

fn stages(run: &str, input: &str) -> String {
    let mut text = format!("[topics.\"{input}\"]\nexternal = true\n\n[dlqs.bench]\ntopic = \"{run}.dlq\"\n");
    for number in 0..STAGES {
        text += &format!(
            "\n[stages.s{number}]\nfrom = \"{input}\"\ndlq = \"bench\"\n\n[[stages.s{number}.steps]]\n\
             filter = \"value.quantity > 0\"\n"
        );
    }
    text
}

/// From the start of the process until a record that waits is behind the last of the stages.
pub(crate) fn chain(cluster: &Cluster, rounds: usize) {
    println!("chain: {CHAIN} stages, from the start of the engine to the first record behind the last");
    let mut seconds = Vec::new();
    for round in 0..rounds {
        let run = format!("bench-{}-chain-{round}", std::process::id());
        let topics: Vec<_> = (0..=CHAIN).map(|number| format!("{run}-{number}")).collect();
        topics.iter().for_each(|topic| cluster.create(topic, &[]));
        let producer = producer(cluster.brokers());
        send(&producer, BaseRecord::to(&topics[0]).key(&b"k"[..]).payload(&b"{\"id\":\"first\"}"[..]));
        producer.flush(Duration::from_secs(10)).expect("written");
        let began = Instant::now();
        let mut engine = Engine::start_root(cluster, &linked(&run, &topics), &run);
        while cluster.written(&topics[CHAIN]).unwrap_or(0) == 0 {
            assert!(engine.process.runs() && began.elapsed() < Duration::from_secs(60), "nothing came out");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        seconds.push(began.elapsed().as_secs_f64());
        drop(engine);
        cluster.delete(&topics.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let all: Vec<_> = seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
    println!("{} s, median {:.2} s\n", all.join(" s, "), median(seconds));
}

fn linked(run: &str, topics: &[String]) -> String {
    let mut text = format!("[dlqs.bench]\ntopic = \"{run}.dlq\"\n");
    for topic in topics {
        text += &format!("\n[topics.\"{topic}\"]\nexternal = true\n");
    }
    for (number, pair) in topics.windows(2).enumerate() {
        text +=
            &format!("\n[stages.s{number}]\nfrom = \"{}\"\nto = \"{}\"\ndlq = \"bench\"\n", pair[0], pair[1]);
    }
    text
}
