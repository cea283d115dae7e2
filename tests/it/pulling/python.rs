//! `docs/worker.py` as it stands there.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::{LONG, Pulling, code};
use crate::support::wait_until;

struct Worker(Child);

impl Worker {
    fn start(pulling: &Pulling, token: &str) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/worker.py");
        let started = Command::new("python3")
            .arg(program)
            .arg("counting")
            .env("BIPLANE_URL", format!("http://{}", pulling.engine.address()))
            .env("BIPLANE_TOKEN", token)
            .stdin(Stdio::null())
            .spawn();
        Self(started.expect("python3 runs: it is a package of that name"))
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Jobs are done, fail, nap and are taken over from a worker that is killed. Most of its time goes by until the second
/// worker hears of a cancel, with its next heartbeat.
#[test]
fn a_worker_in_python_does_jobs_and_another_takes_over_where_it_is_killed() {
    let pulling = Pulling::new();
    let scene = &pulling.scene;
    let made = scene.command(&["tokens", "create", "python", "--scope", "work", "--once"]);
    let token = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let done = scene.enqueue("count", r#"{"to": 3}"#);
    let failed = scene.enqueue("count", r#"{"to": -1}"#);
    let napped = scene.enqueue("count", r#"{"to": 1, "nap": 1}"#);
    let note = scene.enqueue("note", "{}");
    wait_until("the engine works its own queue", LONG, || pulling.state(&note) == "succeeded");
    assert_eq!(pulling.state(&done), "queued", "and no other");

    let mut first = Worker::start(&pulling, &token);
    wait_until("one is done", LONG, || pulling.state(&done) == "succeeded");
    assert_eq!(scene.shown(&done)["detail"], r#"{"counted": 3}"#);
    wait_until("one fails for good", LONG, || pulling.state(&failed) == "failed");
    let shown = scene.shown(&failed);
    assert_eq!((&shown["code"], &shown["attempt"]), (&json!("bad-args"), &json!(1)), "{shown}");
    wait_until("one is done after a nap", LONG, || pulling.state(&napped) == "succeeded");
    assert_eq!(scene.shown(&napped)["attempt"], 1, "a nap spends none");

    let long = scene.enqueue("count", r#"{"to": 100000, "pause": 0.05}"#);
    let progress = || {
        let told = scene.shown(&long)["progress"].as_str().map(str::to_owned).unwrap_or_default();
        serde_json::from_str::<serde_json::Value>(&told).map_or(0, |told| told["done"].as_i64().unwrap_or(0))
    };
    wait_until("it has come some way", LONG, || progress() >= 5);
    first.kill();
    let came_to = progress();
    let lease = scene
        .database
        .value("select replace(batch_id::text, '-', '') || '.' || epoch || '.30' from biplane.lease");
    let batch = scene.shown(&long)["batch"].clone();
    let listed = String::from_utf8_lossy(&scene.command(&["workers", "list"]).stdout).into_owned();
    assert!(
        listed.lines().any(|line| line.contains(" pull ") && line.trim_end().ends_with(" 1")),
        "{listed}"
    );
    pulling.expire_leases();

    let _second = Worker::start(&pulling, &token);
    wait_until("another has it", LONG, || {
        let now = scene.shown(&long)["batch"].clone();
        now.is_string() && now != batch
    });
    wait_until("and goes on with it", LONG, || progress() > came_to);
    assert_eq!(scene.shown(&long)["attempt"], 1, "a death spends none");
    let late = json!({ "result": { "counted": "by the dead" } });
    assert_eq!(code(&pulling.say("complete", &lease, late, &long)), (409, "stale-lease"));
    assert_eq!(code(&pulling.ask("heartbeat", &json!({ "lease": lease }))), (409, "stale-lease"));
    assert_eq!(pulling.state(&long), "running");

    let cancelled = scene.command(&["jobs", "cancel", &long, "--yes"]);
    assert!(cancelled.status.success(), "{cancelled:?}");
    wait_until("its worker hears of it and ends it", LONG, || pulling.state(&long) == "cancelled");
    assert_eq!(scene.shown(&long)["code"], "asked");
}
