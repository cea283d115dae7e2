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
//! * `replay`: dead letters a second, CPU and peak memory of a replay with a filter, beside a pass-through;
//! * `stall`: resident memory and bytes in flight while the output takes nothing.
//!
//! Loop and engine are each a process of their own, watched from outside in the same way: time runs
//! from the first to the last record of the output topic, CPU and memory are the process's own as the
//! system accounts them. Each round runs both; a ratio is of the medians of one run.

#![allow(clippy::print_stdout, missing_docs)]

mod bare;
mod engine;
mod kafka;
mod latency;
mod memory;
mod process;
mod replay;
mod throughput;

/// The loop must not lose to the engine by its allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    if let [role, case, input, output] = arguments.as_slice()
        && role == "loop"
    {
        return bare::run(case == "json", input, output);
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
            "pass" | "json" | "exactly-once" | "replay" | "latency" | "memory" | "stall" => {
                wanted.cases.push(argument)
            }
            other => panic!("no such case: {other}"),
        }
    }
    wanted
}
