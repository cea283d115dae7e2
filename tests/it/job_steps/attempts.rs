//! A retry goes on where the attempt before it failed; jobs that nobody starts; what comes where attempts are spent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::stub::{Stub, reply};
use crate::support::wait_until;
use crate::working::Scene;

const LONG: Duration = Duration::from_secs(60);

/// A service that says no to `/second` until it was asked so many times.
fn service(refusals: usize) -> Stub {
    let asked = Arc::new(AtomicUsize::new(0));
    Stub::start(move |path, stream| match path {
        "/second" if asked.fetch_add(1, Ordering::SeqCst) < refusals => {
            reply(stream, "500 Internal Server Error", "no");
        }
        "/second" => reply(stream, "200 OK", r#"{"done": true}"#),
        _ => reply(stream, "200 OK", r#"{"page": 3}"#),
    })
}

fn jobs(url: &str, delay: &str) -> String {
    format!(
        r#"
[queues.work]

[queues.left]

[retries.thrice]
max_attempts = 3
backoff      = {{ delays = ["{delay}"] }}

[jobs.two]
queue        = "work"
retry        = "thrice"
on_exhausted = {{ enqueue = "tell" }}

[[jobs.two.steps]]
name     = "first"
http.url = "{url}/first"

[[jobs.two.steps]]
set.seen = "{{{{ steps.first.body.page }}}}"

[[jobs.two.steps]]
name     = "second"
http.url = "{url}/second"

[[jobs.two.steps]]
name     = "last"
set.page = "{{{{ steps.first.body.page + value.seen }}}}"

[jobs.tell]
queue = "work"

[[jobs.tell.steps]]
map.told = "{{{{ args.error.code }}}} {{{{ args.args.n }}}} {{{{ args.job.kind }}}}"

[jobs.brief]
queue   = "left"
expires = "1ms"

[[jobs.brief.steps]]
http.url = "{url}/brief"

[jobs.timed]
queue = "work"

[[jobs.timed.steps]]
map = {{ run_at = "{{{{ job.run_at }}}}", fire_at = "{{{{ fire_at }}}}" }}
"#
    )
}

fn scene(refusals: usize) -> Scene {
    waiting(refusals, "50ms")
}

/// The same with so long a wait between attempts.
fn waiting(refusals: usize, delay: &str) -> Scene {
    let service = service(refusals);
    let text = jobs(&service.url(), delay);
    Scene::of(service, &text)
}

#[test]
fn a_retry_goes_on_at_the_step_that_failed_and_leaves_nothing_behind() {
    let scene = scene(2);
    let _engine = scene.start();
    scene.enqueue("two", "{}");
    scene.wait_count("done", "1");
    let asked = scene.service.by_path();
    assert_eq!((asked["/first"], asked["/second"]), (1, 3));
    assert_eq!(scene.database.value("select detail from biplane.done"), r#"{"page": 6, "seen": 3}"#);
    assert_eq!(scene.count("progress"), "0");
}

#[test]
fn a_killed_engine_takes_nothing_from_what_earlier_attempts_came_to() {
    let scene = waiting(1, "1h");
    let mut killed = scene.start();
    scene.enqueue("two", "{}");
    scene.wait_count("deferred", "1");
    killed.kill();
    let _other = scene.start();
    scene.database.execute("update biplane.deferred set run_at = now()");
    scene.wait_count("done", "1");
    let asked = scene.service.by_path();
    assert_eq!((asked["/first"], asked["/second"]), (1, 2));
}

#[test]
fn where_attempts_are_spent_the_job_is_kept_and_the_other_is_told() {
    let scene = scene(9);
    let _engine = scene.start();
    let id = scene.enqueue("two", r#"{"n": 5}"#);
    scene.wait_count("done", "1");
    assert_eq!(scene.shown(&id)["state"], "failed");
    assert_eq!(scene.service.by_path()["/first"], 1);
    assert_eq!(scene.database.value("select detail from biplane.done"), r#"{"told": "http-500 5 two"}"#);
}

#[test]
fn a_job_that_nobody_starts_in_time_is_cancelled_and_does_nothing() {
    let scene = scene(0);
    let engine = scene.start();
    scene.database.execute("update biplane.queue set paused_at = now() where name = 'left'");
    let id = scene.enqueue("brief", "{}");
    scene.database.execute("update biplane.queue set paused_at = null where name = 'left'");
    scene.wait_count("done", "1");
    let shown = scene.shown(&id);
    assert_eq!((&shown["state"], &shown["code"]), (&"cancelled".into(), &"expired".into()), "{shown}");
    assert!(!scene.service.by_path().contains_key("/brief"));
    wait_until("it is counted", LONG, || {
        engine.metric("biplane_job_attempts_total", &["kind=\"brief\"", "cancelled"]) == 1.0
    });
}

#[test]
fn a_job_knows_when_it_was_to_run() {
    let scene = scene(0);
    let _engine = scene.start();
    scene.database.execute("select biplane.enqueue('timed', '{}', run_at => now() + interval '1 hour')");
    scene.database.execute("update biplane.deferred set run_at = '2026-01-02T03:04:05.678Z'");
    scene.wait_count("done", "1");
    let time = "2026-01-02T03:04:05.678Z";
    assert_eq!(
        scene.database.value("select detail from biplane.done"),
        format!(r#"{{"run_at": "{time}", "fire_at": "{time}"}}"#)
    );
}
