//! Resident memory over a long run, and while the output takes nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::kafka::Cluster;

const MILLION: u64 = 1_000_000;

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
    let mut next = MILLION.min(records);
    while next <= records {
        let count = cluster.written(&output);
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

/// An output whose topic wants more replicas than there are: the broker refuses every batch for now,
/// so that nothing is ever acknowledged while the input goes on.
pub(crate) fn stalled(cluster: &Cluster) {
    let run = format!("bench-{}-stall", std::process::id());
    let (input, output) = (format!("{run}-in"), format!("{run}-out"));
    cluster.create(&input, &[]);
    cluster.create(&output, &[("min.insync.replicas", "2")]);
    cluster.fill(&input, 2 * MILLION);
    println!(
        "stall: an output that takes nothing, 2,000,000 records waiting, window of 10,000 records and 64 MiB"
    );
    println!("{:<8} {:>12} {:>10} {:>12}", "second", "resident MB", "in flight", "bytes held");
    let engine = Engine::start(cluster, "pass", &input, &output);
    let began = Instant::now();
    for second in [5, 10, 20, 30] {
        while began.elapsed() < Duration::from_secs(second) {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        println!(
            "{second:<8} {:>12.0} {:>10} {:>12}",
            engine.process.resident_megabytes(),
            metric(&engine.address, "biplane_stage_in_flight_records"),
            metric(&engine.address, "biplane_stage_in_flight_bytes")
        );
    }
    println!();
    drop(engine);
    cluster.delete(&[&input, &output]);
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
