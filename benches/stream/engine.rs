//! The engine with order by key, commits, retries and a DLQ on.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kafka::Cluster;
use crate::process::Measured;

/// What both the loop and the engine validate with.
pub(crate) const SCHEMA: &str = r#"{
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

const STEPS: &str = r#"
[[stages.bench.steps]]
validate = "order.json"

[[stages.bench.steps]]
[stages.bench.steps.map]
order_id = "{{ value.id }}"
customer = "{{ value.customer }}"
currency = "{{ value.currency }}"
amount   = "{{ value.amount }}"
quantity = "{{ value.quantity }}"
"#;

const HTTP: &str = r#"
[[stages.bench.steps]]
http.client = "service"
http.path   = "/{{ 'slow' if key == 'slow' else 'order' }}"

[http_clients.service]
base_url        = "BASE"
max_connections = 256
"#;

/// A running engine and where it answers.
pub(crate) struct Engine {
    pub(crate) process: Measured,
    pub(crate) address: String,
}

impl Engine {
    /// Starts `biplane run` with one stage from `input` to `output`; `case` picks its steps. `http BASE`
    /// asks the service there, 256 records at one time.
    pub(crate) fn start(cluster: &Cluster, case: &str, input: &str, output: &str) -> Self {
        Self::start_in(cluster, &config_root(case, input, output), output)
    }

    /// Starts `biplane run` with one file as its whole config root.
    pub(crate) fn start_root(cluster: &Cluster, pipeline: &str, namespace: &str) -> Self {
        let root = std::env::temp_dir().join(namespace);
        std::fs::create_dir_all(root.join("pipelines")).expect("a config root");
        std::fs::write(root.join("pipelines/bench.toml"), pipeline).expect("a pipeline");
        Self::start_in(cluster, &root, namespace)
    }

    fn start_in(cluster: &Cluster, root: &Path, namespace: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port").to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_biplane"));
        command
            .arg("run")
            .env("BIPLANE_CONFIG", root)
            .env("BIPLANE_KAFKA_BROKERS", cluster.brokers())
            .env("BIPLANE_LISTEN", &address)
            .env("BIPLANE_NAMESPACE", namespace)
            .env("BIPLANE_LOG", "warn");
        Self { process: Measured::start(&mut command), address }
    }
}

pub(crate) fn config_root(case: &str, input: &str, output: &str) -> PathBuf {
    let root = std::env::temp_dir().join(output);
    std::fs::create_dir_all(root.join("pipelines")).expect("a config root");
    std::fs::create_dir_all(root.join("schemas")).expect("a config root");
    std::fs::write(root.join("schemas/order.json"), SCHEMA).expect("a schema");
    let steps = match case.strip_prefix("http ") {
        Some(base) => HTTP.replace("BASE", base),
        None if case == "json" => STEPS.to_owned(),
        None => String::new(),
    };
    let places = if case.starts_with("http ") { "concurrency = 256" } else { "" };
    let window = if case == "stall" { "window = { records = 100_000, bytes = \"4MiB\" }" } else { "" };
    let delivery = if case == "exactly-once" { "delivery = \"exactly-once\"" } else { "" };
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
{window}
{places}
{delivery}
{steps}"#
    );
    std::fs::write(root.join("pipelines/bench.toml"), pipeline).expect("a pipeline");
    root
}
