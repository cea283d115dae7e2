//! Records a second, CPU and memory of the loop and the engine, in turns.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::kafka::Cluster;
use crate::process::{Measured, median};

pub(crate) struct Figures {
    pub(crate) rate: f64,
    /// A million records.
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_megabytes: f64,
}

pub(crate) fn run(cluster: &Cluster, case: &str, records: u64, rounds: usize) {
    let run = format!("bench-{}-{case}", std::process::id());
    let input = format!("{run}-in");
    cluster.create(&input, &[]);
    cluster.fill(&input, records);
    println!("{case}: {records} records, {rounds} rounds");
    println!("{:<8} {:>12} {:>8} {:>8}", "", "records/s", "CPU s/M", "peak MB");
    let (mut floor, mut engine) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let output = format!("{run}-loop-{round}");
        floor.push(measure(cluster, records, &output, || start_loop(case, &input, &output)));
        let output = format!("{run}-engine-{round}");
        engine.push(measure(cluster, records, &output, || {
            Engine::start(cluster, case, &input, &output).process
        }));
    }
    cluster.delete(&[&input]);
    let (floor, engine) = (middle(&floor), middle(&engine));
    print("loop", &floor);
    print("engine", &engine);
    println!(
        "{:<8} {:>12.2} {:>8.2}\n",
        "ratio",
        engine.rate / floor.rate,
        engine.cpu_seconds / floor.cpu_seconds
    );
}

/// The pass-through with `delivery = "exactly-once"` beside the same at least once. Markers of
/// transactions count as records of the output: four an epoch.
pub(crate) fn exactly_once(cluster: &Cluster, records: u64, rounds: usize) {
    let run = format!("bench-{}-exactly-once", std::process::id());
    let input = format!("{run}-in");
    cluster.create(&input, &[]);
    cluster.fill(&input, records);
    println!("exactly-once: {records} records, {rounds} rounds");
    println!("{:<14} {:>12} {:>8} {:>8}", "", "records/s", "CPU s/M", "peak MB");
    let cases = ["pass", "exactly-once"];
    let mut found = cases.map(|_| Vec::new());
    for round in 0..rounds {
        for (case, figures) in cases.iter().zip(&mut found) {
            let output = format!("{run}-{case}-{round}");
            figures.push(measure(cluster, records, &output, || {
                Engine::start(cluster, case, &input, &output).process
            }));
        }
    }
    cluster.delete(&[&input]);
    let [floor, engine] = found.map(|figures| middle(&figures));
    for (what, figures) in [("at-least-once", &floor), ("exactly-once", &engine)] {
        let Figures { rate, cpu_seconds, peak_megabytes } = figures;
        println!("{what:<14} {rate:>12.0} {cpu_seconds:>8.2} {peak_megabytes:>8.0}");
    }
    let cpu = engine.cpu_seconds / floor.cpu_seconds;
    println!("{:<14} {:>12.2} {cpu:>8.2}\n", "ratio", engine.rate / floor.rate);
}

/// Starts a bare loop of this case.
pub(crate) fn start_loop(case: &str, input: &str, output: &str) -> Measured {
    let this = std::env::current_exe().expect("the bench's own path");
    Measured::start(Command::new(this).args(["loop", case, input, output]))
}

pub(crate) fn print(what: &str, figures: &Figures) {
    println!("{what:<8} {:>12.0} {:>8.2} {:>8.0}", figures.rate, figures.cpu_seconds, figures.peak_megabytes);
}

pub(crate) fn middle(all: &[Figures]) -> Figures {
    let of = |part: fn(&Figures) -> f64| median(all.iter().map(part).collect());
    Figures {
        rate: of(|figures| figures.rate),
        cpu_seconds: of(|figures| figures.cpu_seconds),
        peak_megabytes: of(|figures| figures.peak_megabytes),
    }
}

/// How long the count of a process that has ended may take to be right.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// Starts a process that fills `output` and waits until it has.
pub(crate) fn measure(
    cluster: &Cluster,
    records: u64,
    output: &str,
    start: impl FnOnce() -> Measured,
) -> Figures {
    cluster.create(output, &[]);
    let mut process = start();
    let (mut began, mut last, mut ended) = (None, 0, None);
    let limit = Instant::now() + Duration::from_secs(600);
    loop {
        let count = cluster.written(output).unwrap_or(last);
        if count > 0 {
            began.get_or_insert((Instant::now(), count));
        }
        if count >= records {
            break;
        }
        last = count;
        // One that ends by itself may be done before a look-up says so.
        if !process.runs() {
            let since = *ended.get_or_insert_with(Instant::now);
            assert!(since.elapsed() < LAST_LOOK, "the measured process ended early");
        }
        assert!(Instant::now() < limit, "only {count} of {records} records came out");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let (since, first) = began.expect("records came out");
    let seconds = since.elapsed().as_secs_f64();
    let figures = Figures {
        rate: (records - first) as f64 / seconds,
        cpu_seconds: process.cpu_seconds() * 1_000_000.0 / records as f64,
        peak_megabytes: process.peak_megabytes(),
    };
    drop(process);
    cluster.delete(&[output]);
    figures
}
