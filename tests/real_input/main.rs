//! GitHub's webhook payloads as connector events through the shipped example, on a real Kafka.
//!
//! `tests/real-input` fetches the payloads and runs this. It prints what became of each kind of event and
//! fails unless every payload was either normalised or dead-lettered with a code, once.

// The report goes to standard output.
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Cluster, ConfigRoot, Engine, Message, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(120);

/// What became of the payloads of one event.
#[derive(Default)]
struct Row {
    sent: usize,
    normalised: usize,
    dead: BTreeMap<String, usize>,
}

fn main() -> ExitCode {
    let file = std::env::var("BIPLANE_TEST_WEBHOOKS").unwrap_or_else(|_| {
        panic!("BIPLANE_TEST_WEBHOOKS is not set: run tests/real-input, which fetches the payloads")
    });
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let events = connector_events(&serde_json::from_str(&text).expect("the payloads are JSON"));
    assert!(events.len() > 100, "only {} payloads in {file}", events.len());

    let (cluster, prefix) = (Cluster::shared(), unique("real-input"));
    let root = ConfigRoot::example(&prefix);
    let variables = [("BIPLANE_NAMESPACE", prefix.as_str())];
    cluster.create_example_topics(&prefix);

    let topic = |name: &str| format!("{prefix}.{name}");
    cluster.produce(&topic("raw.connector.events"), &events);
    let mut engine = Engine::start(&root, cluster.brokers(), &variables);
    for (stage, input) in [
        ("normalize", "raw.connector.events"),
        ("enrich", "normalized.records"),
        ("extract", "intelligence.pipeline.input"),
    ] {
        wait_until_finished(&cluster, &format!("{prefix}.{stage}"), &topic(input));
    }
    let ended = engine.terminate(Duration::from_secs(30));
    assert!(ended.success(), "the engine ended with {ended}: {}", engine.log());

    let later = ["normalized.records", "intelligence.pipeline.input", "intelligence.dlq", "graph.changes"];
    let rows = table(
        &events,
        &cluster.read_all(&topic("normalized.records")),
        &cluster.read_all(&topic("ingest.dlq")),
    );
    print(&rows);
    for name in later {
        println!("{name:<30} {:>6} records", cluster.count(&topic(name)));
    }
    verdict(&rows, events.len())
}

/// One connector event a payload, keyed by its repository.
fn connector_events(definitions: &Value) -> Vec<Message> {
    let definitions = definitions.as_array().expect("a list of events");
    let mut events = Vec::new();
    for definition in definitions {
        let name = definition["name"].as_str().expect("an event's name");
        for (index, payload) in definition["examples"].as_array().into_iter().flatten().enumerate() {
            let key = payload["repository"]["full_name"].as_str().unwrap_or("no-repository");
            let event = json!({
                "id": format!("{name}/{index}"),
                "kind": "repository.event",
                "connector": "github",
                "tenant": "github",
                "received_at": "2026-01-12T08:00:00Z",
                "event": name,
                "payload": payload,
            });
            events.push(Message::json(key, &event).header("x-github-event", name));
        }
    }
    events
}

/// Waits until the group has committed all that its input holds.
fn wait_until_finished(cluster: &Cluster, group: &str, topic: &str) {
    wait_until(&format!("`{group}` has finished `{topic}`"), DEADLINE, || {
        let committed: i64 = cluster.committed(group, topic).values().map(|(offset, _)| offset).sum();
        committed >= cluster.count(topic)
    });
}

fn table(sent: &[Message], normalised: &[Message], dead: &[Message]) -> BTreeMap<String, Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for message in sent {
        rows.entry(event_of(message)).or_default().sent += 1;
    }
    for message in normalised {
        rows.entry(event_of(message)).or_default().normalised += 1;
    }
    for message in dead {
        let code = message.header_text("biplane-error-code").unwrap_or("without a code").to_owned();
        *rows.entry(event_of(message)).or_default().dead.entry(code).or_default() += 1;
    }
    rows
}

/// The header travels with the record wherever it goes.
fn event_of(message: &Message) -> String {
    message.header_text("x-github-event").unwrap_or("without the header").to_owned()
}

fn print(rows: &BTreeMap<String, Row>) {
    println!("{:<34} {:>5} {:>11}  dead-lettered", "event", "sent", "normalised");
    for (event, row) in rows {
        let dead: Vec<_> = row.dead.iter().map(|(code, count)| format!("{code}: {count}")).collect();
        println!("{event:<34} {:>5} {:>11}  {}", row.sent, row.normalised, dead.join(", "));
    }
}

fn verdict(rows: &BTreeMap<String, Row>, sent: usize) -> ExitCode {
    let normalised: usize = rows.values().map(|row| row.normalised).sum();
    let dead: usize = rows.values().flat_map(|row| row.dead.values()).sum();
    println!("{sent} sent = {normalised} normalised + {dead} dead-lettered");
    let uneven = |row: &Row| row.sent != row.normalised + row.dead.values().sum::<usize>();
    let wrong: Vec<_> = rows.iter().filter(|(_, row)| uneven(row)).map(|(event, _)| event.as_str()).collect();
    let nameless = rows.values().any(|row| row.dead.contains_key("without a code"));
    if wrong.is_empty() && !nameless && normalised > 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("the sums do not match for {wrong:?}, or a dead letter has no code");
    ExitCode::FAILURE
}
