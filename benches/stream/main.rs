//! The engine against bare loops on the same client, broker and input.
//!
//! `benches/run [CASE …] [--records N] [--rounds N]` starts a broker and runs the cases; without it,
//! `cargo bench --bench stream` needs a broker in `BIPLANE_TEST_KAFKA_BROKERS`. Cases:
//!
//! * `pass` and `json`: records a second, CPU seconds a million records and peak memory of a pass-through
//!   and of `validate` + `map`, with order by key, commits, retries and a DLQ on;
//! * `exactly-once`: the same of the pass-through in transactions of 100 ms, beside it at least once;
//! * `latency`: from produce to output at 5,000 records a second;
//! * `memory`: resident memory by million over ten million records;
//! * `http`: requests a second of a step of 10 ms with 256 records in flight beside the bare client, and
//!   from produce to output with one key whose requests take a second;
//! * `idle`: CPU, memory and threads of 200 stages without records, beside 200 bare consumers;
//! * `chain`: from the start of the engine to the first record behind the last of 20 stages;
//! * `replay`: dead letters a second, CPU and peak memory of a replay with a filter, beside a pass-through;
//! * `stall`: resident memory and bytes in flight while the output takes nothing.
//!
//! Loop and engine are each a process of their own, watched from outside in the same way: time runs
//! from the first to the last record of the output topic, CPU and memory are the process's own as the
//! system accounts them. Each round runs both; a ratio is of the medians of one run.

#![allow(clippy::print_stdout, missing_docs)]

mod bare;
mod engine;
mod http;
mod idle;
mod kafka;
mod latency;
mod memory;
mod process;
mod replay;
mod service;
mod throughput;

/// The loop must not lose to the engine by its allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CASES: [&str; 10] =
    ["pass", "json", "exactly-once", "replay", "http", "idle", "chain", "latency", "memory", "stall"];

/// What the user asked for.
pub(crate) struct Wanted {
    cases: Vec<String>,
    records: Option<u64>,
    rounds: usize,
}

impl Wanted {
    fn has(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|named| named == case)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["loop", case, input, output] => return bare::run(*case == "json", input, output),
        ["consumers", input] => return idle::consumers(input),
        ["serve", address] => return service::serve(address),
        ["ask", base, requests, places] => {
            let number = |text: &str| text.parse().expect("a number");
            return service::ask(base, number(requests), number(places));
        }
        _ => {}
    }
    let wanted = read(arguments);
    let cluster = kafka::Cluster::from_environment();
    for case in ["pass", "json"].into_iter().filter(|case| wanted.has(case)) {
        throughput::run(&cluster, case, wanted.records.unwrap_or(1_000_000), wanted.rounds);
    }
    if wanted.has("replay") {
        replay::run(&cluster, wanted.records.unwrap_or(1_000_000), wanted.rounds);
    }
    if wanted.has("exactly-once") {
        throughput::exactly_once(&cluster, wanted.records.unwrap_or(1_000_000), wanted.rounds);
    }
    if wanted.has("http") {
        http::run(&cluster, wanted.records.unwrap_or(200_000), wanted.rounds);
    }
    if wanted.has("idle") {
        idle::run(&cluster);
    }
    if wanted.has("chain") {
        idle::chain(&cluster, wanted.rounds);
    }
    if wanted.has("latency") {
        latency::run(&cluster, wanted.rounds);
    }
    if wanted.has("memory") {
        memory::by_million(&cluster, wanted.records.unwrap_or(10_000_000));
    }
    if wanted.has("stall") {
        memory::stalled();
    }
}

fn read(arguments: Vec<String>) -> Wanted {
    let mut wanted = Wanted { cases: Vec::new(), records: None, rounds: 3 };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok()).expect("a number follows");
        match argument.as_str() {
            "--records" => wanted.records = Some(number()),
            "--rounds" => wanted.rounds = number() as usize,
            case if CASES.contains(&case) => wanted.cases.push(argument),
            other => panic!("no such case: {other}"),
        }
    }
    wanted
}
