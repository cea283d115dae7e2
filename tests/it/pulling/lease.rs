//! What a lease gives its worker, and what one that is over does not.

use std::io::Write;
use std::net::TcpStream;

use serde_json::{Value, json};

use super::{ADMIN, LONG, Pulling, code};
use crate::support::wait_until;

#[test]
fn what_a_worker_says_counts_while_its_lease_holds_the_job_and_not_afterwards() {
    let pulling = Pulling::new();
    let (status, written) = taken_over(&pulling);
    assert_eq!((status, &written["error"]["code"]), (409, &json!("stale-lease")));
    assert_eq!(pulling.scene.count("done"), "0", "it is another's");
}

#[test]
fn without_the_lease_in_the_way_the_late_outcome_of_a_dead_worker_counts() {
    let pulling = Pulling::with(&[("BIPLANE_TEST_WITHOUT", "lease")]);
    let (status, written) = taken_over(&pulling);
    assert_eq!(status, 200, "{written}");
    assert_eq!(pulling.scene.count("done"), "1");
}

/// A job is taken over from a worker that is silent, which then says that it is done.
fn taken_over(pulling: &Pulling) -> (u16, Value) {
    let id = pulling.scene.enqueue("count", r#"{"to": 1}"#);
    let (first, ids) = pulling.claim("first", "counting", 1);
    assert_eq!(ids, [id.as_str()]);
    pulling.expire_leases();
    assert_eq!(code(&pulling.ask("heartbeat", &json!({ "lease": first }))), (409, "stale-lease"));
    let (second, ids) = pulling.claim("second", "counting", 1);
    assert_eq!(ids, [id.as_str()]);
    assert_ne!(first, second);
    pulling.say("complete", &first, json!({ "result": 1 }), &id)
}

#[test]
fn jobs_of_a_batch_end_one_by_one_or_several_at_once_each_as_its_worker_says() {
    let pulling = Pulling::new();
    let scene = &pulling.scene;
    let ids: Vec<String> = (0..6).map(|nth| scene.enqueue("count", &format!(r#"{{"to": {nth}}}"#))).collect();
    let given = pulling.claimed("one", "counting", 6);
    let (lease, jobs) = (given["lease"].as_str().expect("a lease"), &given["jobs"]);
    assert_eq!((&jobs[5]["args"], &jobs[5]["kind"]), (&json!({ "to": 5 }), &json!("count")), "{given}");
    assert_eq!(
        (&jobs[0]["attempt"], &jobs[0]["max_attempts"], &jobs[0]["timeout_seconds"]),
        (&json!(1), &json!(2), &json!(600.0))
    );

    let several = json!([{ "id": ids[0], "result": { "n": 0 } }, { "id": ids[1] }]);
    let (status, told) = pulling.ask("complete", &json!({ "lease": lease, "jobs": several }));
    assert_eq!((status, &told["written"], &told["stale"]), (200, &json!([ids[0], ids[1]]), &json!([])));
    let again = json!([{ "id": ids[0] }, { "id": ids[2] }]);
    let (status, told) = pulling.ask("complete", &json!({ "lease": lease, "jobs": again }));
    assert_eq!((status, &told["written"], &told["stale"]), (200, &json!([ids[2]]), &json!([ids[0]])));
    assert_eq!(scene.shown(&ids[0])["detail"], r#"{"n": 0}"#, "the first word counts");

    let busy = json!({ "code": "too-busy", "message": "x\u{0}", "retry_after_seconds": 3600 });
    assert_eq!(pulling.say("fail", lease, busy, &ids[3]).0, 200);
    let shown = scene.shown(&ids[3]);
    assert_eq!((&shown["state"], &shown["attempt"]), (&json!("retrying"), &json!(2)), "{shown}");
    assert!(shown["until_seconds"].as_f64().is_some_and(|wait| wait > 3000.0), "{shown}");
    assert_eq!(pulling.say("snooze", lease, json!({ "seconds": 3600 }), &ids[4]).0, 200);
    let shown = scene.shown(&ids[4]);
    assert_eq!((&shown["state"], &shown["attempt"]), (&json!("scheduled"), &json!(1)), "{shown}");

    let (status, told) = pulling.ask("heartbeat", &json!({ "lease": lease }));
    assert_eq!((status, told), (200, json!({ "jobs": [ids[5]], "cancel": [] })));
    let so_far = json!({ "lease": lease, "id": ids[5], "progress": { "done": 4 } });
    assert_eq!(pulling.ask("progress", &so_far).0, 200);
    let far_away = json!({ "lease": lease, "id": ids[0], "progress": 1 });
    assert_eq!(code(&pulling.ask("progress", &far_away)), (409, "stale-lease"));
    assert_eq!(pulling.say("release", lease, json!({}), &ids[5]).0, 200);
    assert_eq!(pulling.state(&ids[5]), "queued");
    assert_eq!(scene.count("lease"), "0", "whoever says the last word of a batch ends it");
    let given = pulling.claimed("two", "counting", 1);
    assert_eq!(
        (&given["jobs"][0]["progress"], &given["jobs"][0]["attempt"]),
        (&json!({ "done": 4 }), &json!(1))
    );
    let second = given["lease"].as_str().expect("a lease");
    assert_eq!(pulling.say("complete", second, json!({}), &ids[5]).0, 200);
    assert_eq!(scene.count("progress where told is not null"), "0", "nothing is left of what has ended");

    let labels = ["kind=\"count\"", "outcome=\"succeeded\""];
    assert_eq!(pulling.engine.metric("biplane_job_attempts_total", &labels), 4.0);
}

#[test]
fn what_an_operator_wants_ended_is_told_with_the_heartbeat_and_does_not_come_back() {
    let pulling = Pulling::new();
    let id = pulling.scene.enqueue("count", r#"{"to": 1}"#);
    let (lease, _) = pulling.claim("one", "counting", 1);
    let cancelled = pulling.scene.command(&["jobs", "cancel", &id, "--yes"]);
    assert!(cancelled.status.success(), "{cancelled:?}");
    let (_, told) = pulling.ask("heartbeat", &json!({ "lease": lease }));
    assert_eq!(told["cancel"], json!([id]), "{told}");
    assert_eq!(pulling.say("release", &lease, json!({}), &id).0, 200);
    let shown = pulling.scene.shown(&id);
    assert_eq!((&shown["state"], &shown["code"]), (&json!("cancelled"), &json!("asked")), "{shown}");
}

#[test]
fn an_attempt_that_takes_longer_than_its_kind_may_is_ended_though_its_worker_beats() {
    let pulling = Pulling::new();
    let id = pulling.scene.enqueue("short", "{}");
    let (lease, _) = pulling.claim("one", "counting", 1);
    wait_until("the lease is over", LONG, || pulling.ask("heartbeat", &json!({ "lease": lease })).0 == 409);
    let (again, ids) = pulling.claim("one", "counting", 1);
    assert_eq!(ids, [id.as_str()], "its policy gives it another attempt");
    assert_eq!(code(&pulling.say("complete", &lease, json!({}), &id)), (409, "stale-lease"));
    wait_until("that one is ended as well", LONG, || {
        pulling.ask("heartbeat", &json!({ "lease": again })).0 == 409
    });
    let shown = pulling.scene.shown(&id);
    assert_eq!((&shown["state"], &shown["code"]), (&json!("failed"), &json!("timeout")), "{shown}");
    assert_eq!(shown["attempt"], 2);
}

#[test]
fn who_hangs_up_while_it_waits_takes_no_job_with_it() {
    let pulling = Pulling::new();
    for nth in 0..3 {
        let body =
            json!({ "worker": format!("gone-{nth}"), "queue": "counting", "wait_seconds": 60 }).to_string();
        let mut gone = TcpStream::connect(pulling.engine.address()).expect("a connection");
        let head = format!(
            "POST /v1/work/claim HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        gone.write_all(head.as_bytes()).expect("it is sent");
        let here = format!("select count(*) from biplane.worker where name = 'gone-{nth}'");
        wait_until("it asks", LONG, || pulling.scene.database.value(&here) == "1");
    }
    // The engine has read what came before these.
    (0..9).for_each(|_| drop(pulling.engine.get("/live")));
    let id = pulling.scene.enqueue("count", r#"{"to": 1}"#);
    let given = pulling.claimed("here", "counting", 1);
    assert_eq!((&given["jobs"][0]["id"], &given["jobs"][0]["attempt"]), (&json!(id), &json!(1)), "{given}");
    let rescues = pulling.scene.database.value("select rescues[1] from biplane.lease");
    assert_eq!(rescues, "0", "it had to be rescued from nobody");
}
