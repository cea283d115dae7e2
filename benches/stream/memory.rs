//! Resident memory over a long run, and while the output takes nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::engine::Engine;
use crate::kafka::{Cluster, PARTITIONS};

const MILLION: u64 = 1_000_000;
/// Near what the cluster in the process keeps.
const STALL_RECORDS: u64 = 60_000;

/// Prints the engine's memory at each million records of `validate` + `map`.
pub(crate) fn by_million(cluster: &Cluster, records: u64) {
    let run = format!("bench-{}-memory", std::process::id());
    let (input, output) = (format!("{run}-in"), format!("{run}-out"));
    cluster.create(&input, &[]);
    cluster.create(&output, &[]);
    cluster.fill(&input, records);
    println!("memory: {records} records through `validate` + `map`");
    println!("{:<10} {:>12} {:>8}", "millions", "resident MB", "peak MB");
    let mut engine = Engine::start(cluster, "json", &input, &output);
    let limit = Instant::now() + Duration::from_secs(1_200);
    let (mut next, mut count) = (MILLION.min(records), 0);
    while next <= records {
        count = cluster.written(&output).unwrap_or(count);
        if count >= next {
            println!(
                "{:<10} {:>12.0} {:>8.0}",
                next / MILLION,
                engine.process.resident_megabytes(),
                engine.process.peak_megabytes()
            );
            next += MILLION;
        }
        assert!(engine.process.runs() && Instant::now() < limit, "stuck at {count}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    println!();
    drop(engine);
    cluster.delete(&[&input, &output]);
}

/// Seconds after the start at which the figures are taken while the output has no leader.
const STALLED: [u64; 4] = [5, 10, 20, 30];

/// An output whose partitions have no leader takes nothing, while the input goes on. A real broker
/// cannot be made to do that to one topic, so this runs on the client's cluster inside the process.
pub(crate) fn stalled() {
    let mock = MockCluster::new(1).expect("a cluster in the process");
    let cluster = Cluster::new(&mock.bootstrap_servers());
    let (input, output) = ("stall-in", "stall-out");
    for topic in [input, output] {
        mock.create_topic(topic, PARTITIONS, 1).expect("a topic");
    }
    cluster.fill(input, STALL_RECORDS);
    lead(&mock, output, None);
    println!(
        "stall: {STALL_RECORDS} records wait, window of 100,000 records and 4 MiB, no leader for the output"
    );
    println!(
        "{:<8} {:>12} {:>10} {:>12} {:>10}",
        "second", "resident MB", "in flight", "bytes held", "written"
    );
    let engine = Engine::start(&cluster, "stall", input, output);
    let began = Instant::now();
    let mut show = |second: u64| {
        while began.elapsed() < Duration::from_secs(second) {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        println!(
            "{second:<8} {:>12.0} {:>10} {:>12} {:>10}",
            engine.process.resident_megabytes(),
            metric(&engine.address, "biplane_stage_in_flight_records{"),
            metric(&engine.address, "biplane_stage_in_flight_bytes{"),
            metric(&engine.address, "biplane_stage_records_out_total{")
        );
    };
    STALLED.into_iter().for_each(&mut show);
    lead(&mock, output, Some(1));
    println!("the output has its leader again");
    show(40);
    println!();
}

fn lead(mock: &MockCluster<'_, DefaultProducerContext>, topic: &str, leader: Option<i32>) {
    for partition in 0..PARTITIONS {
        mock.partition_leader(topic, partition, leader).expect("a leader");
    }
}

/// The first series of that name, as text.
fn metric(address: &str, name: &str) -> String {
    let mut answer = String::new();
    let asked = TcpStream::connect(address).and_then(|mut stream| {
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    });
    asked.expect("the engine answers");
    let line = answer.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}
