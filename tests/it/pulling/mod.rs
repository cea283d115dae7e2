//! Workers that pull their jobs over HTTP: one in Python, and the rules that hold for any.

mod lease;
mod python;
mod rules;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::stub::{Stub, reply};
use crate::support::{Engine, request, wait_for};
use crate::working::Scene;

const LONG: Duration = Duration::from_secs(60);

const ADMIN: &str = "an-admin-token-of-the-environment-0123456789";

const CONFIG: &str = r#"
[queues.counting]
workers = "pull"

[retries.twice]
max_attempts = 2
backoff      = { delays = ["50ms"] }
not_on       = ["bad-args"]

[jobs.count]
queue       = "counting"
retry       = "twice"
args_schema = "count.json"

[jobs.short]
queue   = "counting"
retry   = "twice"
timeout = "500ms"

[queues.tight]
workers            = "pull"
global_concurrency = 2
per_key            = { key = "args.firm", concurrency = 1 }

[jobs.turn]
queue   = "tight"
expires = "1h"

[queues.engine]

[jobs.note]
queue = "engine"

[[jobs.note.steps]]
set.seen = "yes"
"#;

const SCHEMA: &str = r#"{"properties": {"to": {"type": "integer"}}, "required": ["to"]}"#;

/// A migrated database with an engine on it.
struct Pulling {
    scene: Scene,
    engine: Engine,
}

impl Pulling {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(variables: &[(&str, &str)]) -> Self {
        // No job here asks a service.
        let scene = Scene::of(Stub::start(|_, stream| reply(stream, "200 OK", "{}")), CONFIG);
        scene.write("schemas/count.json", SCHEMA);
        let variables: Vec<_> = [("BIPLANE_ADMIN_TOKEN", ADMIN)].iter().chain(variables).copied().collect();
        let engine = scene.start_with(&variables);
        Self { scene, engine }
    }

    fn ask(&self, verb: &str, body: &Value) -> (u16, Value) {
        let headers = format!("Authorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n");
        let path = format!("/v1/work/{verb}");
        let answer = request(self.engine.address(), "POST", &path, &headers, &body.to_string());
        let answer = answer.expect("an answer");
        let told = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        (answer.status, told)
    }

    /// What a worker gets: its lease, and the ids of its jobs.
    fn claim(&self, worker: &str, queue: &str, count: usize) -> (String, Vec<String>) {
        let given = self.claimed(worker, queue, count);
        let ids = given["jobs"].as_array().expect("jobs").iter();
        let ids = ids.map(|job| job["id"].as_str().expect("an id").to_owned()).collect();
        (given["lease"].as_str().unwrap_or_default().to_owned(), ids)
    }

    fn claimed(&self, worker: &str, queue: &str, count: usize) -> Value {
        let asked = json!({ "worker": worker, "queue": queue, "count": count, "wait_seconds": 5 });
        wait_for("there are jobs", LONG, || {
            let (status, given) = self.ask("claim", &asked);
            assert_eq!(status, 200, "{given}");
            given["lease"].is_string().then_some(given)
        })
    }

    /// Says something of one job.
    fn say(&self, verb: &str, lease: &str, mut job: Value, id: &str) -> (u16, Value) {
        job["id"] = json!(id);
        self.ask(verb, &json!({ "lease": lease, "jobs": [job] }))
    }

    /// Lets every lease be past its deadline by the database's clock.
    fn expire_leases(&self) {
        self.scene.database.execute("update biplane.lease set deadline_at = now() - interval '1 second'");
    }

    fn state(&self, id: &str) -> String {
        self.scene.shown(id)["state"].as_str().expect("a state").to_owned()
    }
}

fn code(told: &(u16, Value)) -> (u16, &str) {
    (told.0, told.1["error"]["code"].as_str().unwrap_or_default())
}
