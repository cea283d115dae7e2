//! `biplane check` over a large config root: 1,000 files with 10,000 definitions, the whole process.
//!
//! `benches/run check`, or `cargo bench --bench check`; needs no broker.

#![allow(clippy::print_stdout, missing_docs)]

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const FILES: usize = 1_000;
const ROUNDS: usize = 15;

const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["id"],
  "properties": { "id": { "type": "string" }, "amount": { "type": "number" } }
}"#;

fn main() {
    let root = tempfile::Builder::new().prefix("biplane-check-").tempdir().expect("a config root");
    fill(root.path());
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| check(root.path())).collect();
    times.sort();
    println!("check: {FILES} files, {} definitions, {ROUNDS} runs", FILES * 10);
    for (what, time) in [("fastest", times[0]), ("median", times[ROUNDS / 2]), ("slowest", times[ROUNDS - 1])]
    {
        println!("{what:<8} {:>6.1} ms", time.as_secs_f64() * 1_000.0);
    }
}

fn check(root: &Path) -> Duration {
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_biplane"))
        .args(["check", "--config"])
        .arg(root)
        .output()
        .expect("the binary runs");
    let took = began.elapsed();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("10000 definitions"), "{said}");
    took
}

fn fill(root: &Path) {
    std::fs::create_dir_all(root.join("pipelines")).expect("a folder");
    std::fs::create_dir_all(root.join("schemas")).expect("a folder");
    std::fs::write(root.join("schemas/order.json"), SCHEMA).expect("a schema");
    for number in 0..FILES {
        let path = root.join(format!("pipelines/team-{number:04}.toml"));
        std::fs::write(path, file(number)).expect("a file");
    }
}

/// Ten definitions: four topics, one DLQ, one retry policy, one HTTP client and three stages.
fn file(number: usize) -> String {
    let mut text = String::new();
    for topic in ["raw", "clean", "rich", "final"] {
        let _ = writeln!(text, "[topics.\"t{number}.{topic}\"]\npartitions = 6\nretention = \"7d\"\n");
    }
    let _ = writeln!(text, "[dlqs.d{number}]\ntopic = \"t{number}.dlq\"\n");
    let _ = writeln!(
        text,
        "[retries.r{number}]\nmax_attempts = 5\n\
         backoff = {{ initial = \"200ms\", factor = 2.0, max = \"5s\", jitter = \"full\" }}\n"
    );
    let _ = writeln!(
        text,
        "[http_clients.c{number}]\nbase_url = \"http://service-{number}\"\ntimeout = \"5s\"\n"
    );
    for (index, (from, to)) in [("raw", "clean"), ("clean", "rich"), ("rich", "final")].iter().enumerate() {
        let _ = writeln!(
            text,
            "[stages.s{number}-{index}]\nfrom = \"t{number}.{from}\"\nto = \"t{number}.{to}\"\n\
             retry = \"r{number}\"\ndlq = \"d{number}\"\n"
        );
        let steps = match index {
            0 => "validate = \"order.json\"".to_owned(),
            1 => format!(
                "http.client = \"c{number}\"\nhttp.path = \"/things/{{{{ value.id }}}}\"\nhttp.into = \"thing\""
            ),
            _ => "map.id = \"{{ value.id }}\"\nmap.total = \"{{ value.amount * 2 }}\"".to_owned(),
        };
        let _ = writeln!(text, "[[stages.s{number}-{index}.steps]]\n{steps}\n");
        let _ = writeln!(
            text,
            "[[stages.s{number}-{index}.steps]]\nfilter = \"value.id != 'x' and value.id is defined\"\n"
        );
    }
    text
}
