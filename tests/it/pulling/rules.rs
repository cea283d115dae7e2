//! What workers get, and what they may not ask for.

use serde_json::json;

use super::{LONG, Pulling, code};
use crate::support::wait_until;

#[test]
fn limits_hold_for_workers_as_they_do_for_engines() {
    let pulling = Pulling::new();
    let ids =
        ["a", "a", "b", "c"].map(|firm| pulling.scene.enqueue("turn", &format!(r#"{{"firm": "{firm}"}}"#)));
    let (lease, given) = pulling.claim("one", "tight", 4);
    assert_eq!(given.len(), 2, "no more than two at one time");
    assert!(!(given.contains(&ids[0]) && given.contains(&ids[1])), "one of a key");
    let asked = json!({ "worker": "two", "queue": "tight", "count": 4, "wait_seconds": 1 });
    let (status, none) = pulling.ask("claim", &asked);
    assert_eq!((status, &none["lease"], &none["jobs"]), (200, &json!(null), &json!([])), "{none}");
    assert_eq!(pulling.say("complete", &lease, json!({}), &given[0]).0, 200);
    let (_, next) = pulling.claim("two", "tight", 4);
    assert_eq!(next.len(), 1, "a place was given back");
    let paused = pulling.scene.command(&["queues", "pause", "tight"]);
    assert!(paused.status.success(), "{paused:?}");
    assert_eq!(pulling.say("complete", &lease, json!({}), &given[1]).0, 200);
    assert_eq!(pulling.ask("claim", &asked).1["jobs"], json!([]), "it is paused");
}

#[test]
fn a_worker_that_waits_gets_what_comes() {
    let pulling = Pulling::new();
    let given = std::thread::scope(|scope| {
        let claim = scope.spawn(|| pulling.claim("one", "counting", 1));
        let here = "select count(*) from biplane.worker where name = 'one'";
        wait_until("it asks", LONG, || pulling.scene.database.value(here) == "1");
        let id = pulling.scene.enqueue("count", r#"{"to": 1}"#);
        let (_, ids) = claim.join().expect("no panic");
        (id, ids)
    });
    assert_eq!(given.1, [given.0]);
}

#[test]
fn jobs_that_no_worker_should_see_are_settled_before_one_does() {
    let pulling = Pulling::new();
    let scene = &pulling.scene;
    let bad = scene.enqueue("count", r#"{"to": "seven"}"#);
    scene.database.execute(
        "insert into biplane.kind (name, queue_id, max_attempts) select 'gone', id, 1 from biplane.queue where name = 'counting'",
    );
    let gone = scene.enqueue("gone", "{}");
    let good = scene.enqueue("count", r#"{"to": 7}"#);
    let (_, given) = pulling.claim("one", "counting", 9);
    assert_eq!(given, [good]);
    let shown = scene.shown(&bad);
    assert_eq!((&shown["state"], &shown["code"]), (&json!("failed"), &json!("args-invalid")), "{shown}");
    let shown = scene.shown(&gone);
    assert_eq!((&shown["state"], &shown["attempt"]), (&json!("scheduled"), &json!(1)), "{shown}");
    // A kind of theirs that lies in a queue of the engine's has no steps to run.
    scene.database.execute(
        "update biplane.kind set queue_id = (select id from biplane.queue where name = 'engine') where name = 'turn'",
    );
    let astray = scene.enqueue("turn", r#"{"firm": "a"}"#);
    wait_until("it is put off", LONG, || pulling.state(&astray) == "scheduled");
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let pulling = Pulling::new();
    let id = pulling.scene.enqueue("count", r#"{"to": 1}"#);
    let claim = |with: serde_json::Value| {
        let mut body = json!({ "worker": "one", "queue": "counting" });
        let with = with.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(with);
        pulling.ask("claim", &body)
    };
    for (with, expected) in [
        (json!({ "queue": "engine" }), (404, "not-found")),
        (json!({ "queue": "unheard-of" }), (404, "not-found")),
        (json!({ "worker": "" }), (400, "bad-request")),
        (json!({ "worker": "a\nb" }), (400, "bad-request")),
        (json!({ "count": 0 }), (400, "bad-request")),
        (json!({ "count": 101 }), (400, "bad-request")),
        (json!({ "wait_seconds": 61 }), (400, "bad-request")),
        (json!({ "lease_seconds": 1 }), (400, "bad-request")),
        (json!({ "surprise": 1 }), (400, "bad-request")),
    ] {
        assert_eq!(code(&claim(with.clone())), expected, "{with}");
    }
    assert_eq!(pulling.state(&id), "queued");
    let (lease, _) = pulling.claim("one", "counting", 1);
    let large = "x".repeat(70_000);
    for (verb, job, expected) in [
        ("complete", json!({ "result": large }), (422, "result-too-large")),
        ("fail", json!({ "code": "No Code", "message": "" }), (400, "bad-request")),
        ("fail", json!({ "code": "busy", "message": "", "class": "odd" }), (400, "bad-request")),
        ("fail", json!({ "code": "busy" }), (400, "bad-request")),
        ("snooze", json!({ "seconds": u64::MAX }), (400, "bad-request")),
        ("snooze", json!({ "seconds": -1 }), (400, "bad-request")),
        ("release", json!({ "result": 1 }), (400, "bad-request")),
    ] {
        assert_eq!(code(&pulling.say(verb, &lease, job.clone(), &id)), expected, "{verb} {job}");
    }
    let so_far = json!({ "lease": lease, "id": id, "progress": large });
    assert_eq!(code(&pulling.ask("progress", &so_far)), (400, "bad-request"));
    for wrong in ["", "nonsense", &lease.replace(".30", ".3000"), &lease.replace('.', "")] {
        assert_eq!(
            code(&pulling.ask("heartbeat", &json!({ "lease": wrong }))),
            (400, "bad-request"),
            "{wrong}"
        );
    }
    let forged = format!("{}{}", if lease.starts_with('f') { "e" } else { "f" }, &lease[1..]);
    assert_eq!(code(&pulling.say("complete", &forged, json!({}), &id)), (409, "stale-lease"));
    assert_eq!(code(&pulling.ask("complete", &json!({ "lease": lease, "jobs": [] }))), (400, "bad-request"));
    let text = format!("{}é{}", "m".repeat(4_095), "m".repeat(5_000));
    assert_eq!(pulling.say("fail", &lease, json!({ "code": "bad-args", "message": text }), &id).0, 200);
    let kept = pulling.scene.database.value("select length(error->>'message') from biplane.failed");
    assert_eq!(kept, "4096");
}
