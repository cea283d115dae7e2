//! A config root with a DLQ, dead letters as an engine writes them, and the commands over it.

use std::process::Output;
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::{Cluster, ConfigRoot, Engine, Message, unique};

pub(super) const DEADLINE: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
[topics.input]
topic      = "NAME.input"
partitions = 3

[topics.other]
topic      = "NAME.other"
partitions = 3

[dlqs.dead]
topic   = "NAME.dead"
headers = ["biplane", "connect"]

[stages.good]
from = "input"
dlq  = "dead"
[[stages.good.steps]]
filter = "value.ok"

[stages.wordy]
from   = "input"
dlq    = "dead"
decode = "text"
[[stages.wordy.steps]]
filter = "value == 'ok'"
"#;

/// One namespace with its topics.
pub(super) struct Scene {
    pub(super) name: String,
    pub(super) cluster: Cluster,
    pub(super) root: ConfigRoot,
}

impl Scene {
    /// Topics `input`, `other` and `dead` of three partitions each.
    pub(super) fn new() -> Self {
        Self::with(CONFIG)
    }

    pub(super) fn with(config: &str) -> Self {
        let (name, cluster) = (unique("replays"), Cluster::shared());
        let root = ConfigRoot::new(&[("pipelines/a.toml", &config.replace("NAME", &name))]);
        for topic in ["input", "other", "dead"] {
            cluster.create_topic(&format!("{name}.{topic}"), 3, &[]);
        }
        Self { name, cluster, root }
    }

    pub(super) fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    pub(super) fn variables(&self) -> [(&str, &str); 2] {
        [("BIPLANE_KAFKA_BROKERS", self.cluster.brokers()), ("BIPLANE_NAMESPACE", &self.name)]
    }

    /// Runs a command to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Output {
        Engine::command(self.root.path(), arguments, &self.variables())
    }

    /// Runs a command that ends well, and reads the JSON that it writes.
    pub(super) fn json(&self, arguments: &[&str]) -> Json {
        let output = self.run(&[arguments, &["--format", "json"]].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
    }

    /// How many dead letters are listed with these filters.
    pub(super) fn listed(&self, filters: &[&str]) -> u64 {
        let groups = self.json(&[&["dlqs", "list"], filters].concat());
        groups.as_array().expect("a list").iter().map(|group| group["count"].as_u64().expect("a count")).sum()
    }

    /// Replays and returns how many records were sent.
    pub(super) fn sent(&self, arguments: &[&str]) -> u64 {
        let ended = self.json(&[&["replays", "start", "--yes"], arguments].concat());
        ended["counts"]["sent"].as_u64().expect("a count")
    }
}

/// What an engine's process wrote to standard error.
pub(super) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A dead letter of record `number` as an engine writes it.
pub(super) fn letter(scene: &Scene, stage: &str, code: &str, number: i64) -> Message {
    let class = if code.starts_with("http") { "transient" } else { "permanent" };
    let value = format!("{{\"number\": {number}, \"ok\": true}}");
    Message::new(format!("key-{number}"), value)
        .header("trace", format!("trace-{number}"))
        .header("biplane-id", format!("before/{number}"))
        .header("biplane-error-class", class)
        .header("biplane-error-code", code)
        .header("biplane-error-message", "it went wrong")
        .header("biplane-stage", stage)
        .header("biplane-step", "step")
        .header("biplane-attempts", "3")
        .header("biplane-first-failed-at", "2026-01-01T00:00:00.000Z")
        .header("biplane-failed-at", format!("2026-01-{:02}T00:00:00.000Z", number % 28 + 1))
        .header("biplane-topic", scene.topic("input"))
        .header("biplane-partition", (number % 3).to_string())
        .header("biplane-offset", number.to_string())
        .header("biplane-timestamp", "2025-12-31T00:00:00.000Z")
        .header("biplane-fingerprint", format!("print-{code}"))
        .header("biplane-generation", "0")
        .header("biplane-replays", "0")
        .header("__connect.errors.topic", scene.topic("input"))
        .header("biplane-dlq-id", format!("{stage}/{number}/dlq"))
}
