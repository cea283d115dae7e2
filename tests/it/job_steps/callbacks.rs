//! Jobs that wait for a callback: it comes, comes early, comes twice, comes late, or does not come.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::stub::{Stub, reply};
use crate::support::{request, wait_until};
use crate::working::Scene;

const LONG: Duration = Duration::from_secs(60);

/// A service that accepts reports and remembers where to call back.
struct Reports {
    scene: Scene,
    addresses: Arc<Mutex<Vec<String>>>,
}

impl Reports {
    /// With `early`, it calls back before it answers.
    fn new(early: bool) -> Self {
        let addresses = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&addresses);
        let service = Stub::start_with_headers(move |path, headers, stream| {
            if let Some(address) = headers.get("biplane-callback") {
                told.lock().expect("the addresses").push(address.clone());
                if early {
                    assert_eq!(call(address, r#"{"pages": 4}"#).0, 200, "{path}");
                }
            }
            let status = if path == "/order" { "200 OK" } else { "202 Accepted" };
            reply(stream, status, r#"{"accepted": true}"#);
        });
        let text = format!(
            r#"
[queues.work]

[retries.once]
max_attempts = 1

[retries.twice]
max_attempts = 2
backoff      = {{ delays = ["1ms"] }}

[jobs.report]
queue = "work"

[[jobs.report.steps]]
name     = "order"
http.url = "{0}/order"

[[jobs.report.steps]]
name                 = "make"
http.url             = "{0}/make"
http.callback_within = "2h"

[[jobs.report.steps]]
map.pages = "{{{{ steps.make.body.pages }}}}"

[jobs.hasty]
queue = "work"
retry = "twice"

[[jobs.hasty.steps]]
http.url             = "{0}/hasty"
http.callback_within = "1ms"

[jobs.asks]
queue      = "work"
retry      = "once"
checkpoint = false

[[jobs.asks.steps]]
http.method                   = "POST"
http.url                      = "{0}/order"
http.headers.biplane-callback = "{{{{ job.callback }}}}"

[[jobs.asks.steps]]
wait.within = "2h"

[[jobs.asks.steps]]
map.answer = "{{{{ steps.wait }}}}"
"#,
            service.url()
        );
        Self { scene: Scene::of(service, &text), addresses }
    }

    /// The address that came with the request of that number.
    fn address(&self, number: usize) -> String {
        wait_until("the service is asked", LONG, || self.addresses.lock().expect("them").len() > number);
        self.addresses.lock().expect("the addresses")[number].clone()
    }

    fn wait_state(&self, id: &str, state: &str) {
        wait_until(&format!("it is {state}"), LONG, || self.scene.shown(id)["state"] == state);
    }

    fn result(&self) -> String {
        self.scene.wait_count("done", "1");
        self.scene.database.value("select detail from biplane.done")
    }
}

/// Calls back; the status and the answer.
fn call(address: &str, body: &str) -> (u16, String) {
    let (host, path) = address.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let answer = request(host, "POST", &format!("/{path}"), "Content-Type: application/json\r\n", body)
        .expect("an answer");
    (answer.status, answer.body)
}

#[test]
fn a_job_waits_for_its_callback_and_goes_on_with_what_that_brings_once() {
    let reports = Reports::new(false);
    let engine = reports.scene.start();
    let id = reports.scene.enqueue("report", "{}");
    reports.wait_state(&id, "waiting");
    assert_eq!(reports.scene.count("lease"), "0", "nobody holds it while it waits");
    let address = reports.address(0);
    assert_eq!(call(&address, "{").0, 400);
    assert_eq!(call(&format!("{address}x"), "{}").0, 404);
    let (status, text) = call(&address, r#"{"pages": 4}"#);
    assert_eq!((status, text.contains(&id)), (200, true), "{text}");
    assert_eq!(reports.result(), r#"{"pages": 4}"#);
    assert_eq!(call(&address, r#"{"pages": 5}"#).0, 409, "once is enough");
    let asked = reports.scene.service.by_path();
    assert_eq!((asked["/order"], asked["/make"]), (1, 1));
    assert_eq!(engine.metric("biplane_job_attempts_total", &["kind=\"report\"", "waiting"]), 1.0);
    let token = address.rsplit('/').next().expect("a token").to_owned();
    assert!(
        !reports
            .scene
            .database
            .value("select string_agg(c::text, ' ') from biplane.callback c")
            .contains(&token)
    );
    assert_eq!(reports.scene.shown(&id)["attempt"], 1);
}

#[test]
fn a_callback_that_comes_before_the_job_waits_is_not_lost() {
    let reports = Reports::new(true);
    let _engine = reports.scene.start();
    reports.scene.enqueue("report", "{}");
    assert_eq!(reports.result(), r#"{"pages": 4}"#);
    assert_eq!(reports.scene.service.by_path()["/make"], 1);
}

#[test]
fn without_the_look_for_it_a_callback_that_comes_early_is_waited_for() {
    let reports = Reports::new(true);
    let _engine = reports.scene.start_with(&[("BIPLANE_TEST_WITHOUT", "early-callback")]);
    let id = reports.scene.enqueue("report", "{}");
    reports.wait_state(&id, "waiting");
    let left = reports.scene.shown(&id)["until_seconds"].as_f64().expect("seconds");
    assert!(left > 3_600.0, "{left}");
}

#[test]
fn a_callback_that_does_not_come_in_time_is_a_failure_and_a_late_one_is_told_so() {
    let reports = Reports::new(false);
    let _engine = reports.scene.start();
    let id = reports.scene.enqueue("hasty", "{}");
    reports.wait_state(&id, "failed");
    let shown = reports.scene.shown(&id);
    assert_eq!((&shown["code"], &shown["attempt"]), (&"callback-timeout".into(), &2.into()), "{shown}");
    assert_eq!(reports.scene.service.by_path()["/hasty"], 2, "each attempt asks");
    assert_ne!(reports.address(0), reports.address(1), "and has an address of its own");
    for number in [0, 1] {
        assert_eq!(call(&reports.address(number), "{}").0, 410);
    }
    assert_eq!(reports.scene.shown(&id)["state"], "failed");
}

#[test]
fn another_engine_takes_the_callback_of_one_that_is_gone() {
    let reports = Reports::new(false);
    let mut killed = reports.scene.start();
    let id = reports.scene.enqueue("asks", "{}");
    reports.wait_state(&id, "waiting");
    let address = reports.address(0);
    killed.kill();
    let other = reports.scene.start();
    let token = address.rsplit('/').next().expect("a token");
    assert_eq!(call(&format!("http://{}/v1/callbacks/{token}", other.address()), "[1]").0, 200);
    assert_eq!(reports.result(), r#"{"answer": [1]}"#);
    assert_eq!(reports.scene.service.by_path()["/order"], 1, "a wait goes on where it was");
}
