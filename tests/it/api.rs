//! `/v1` over real HTTP: who may ask for what, and what jobs, queues and the audit answer.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use biplane::http::{Needs, ROUTES};
use biplane::store::Scope;
use serde_json::{Value, json};

use crate::support::{
    Cluster, ConfigRoot, Engine, Http, TestDatabase, block_on, brokers, request, unique, wait_for, wait_until,
};

const CONFIG: &str = r#"
[queues.work]
[jobs.note]
queue       = "work"
args_schema = "note.json"
[[jobs.note.steps]]
set.seen = "{{ args.n }}"
[queues.still]
[jobs.later]
queue = "still"
[[jobs.later.steps]]
set.seen = "yes"
"#;

const SCHEMA: &str = r#"{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}"#;

const ADMIN: &str = "an-admin-token-of-the-environment-0123456789";

/// The routes whose credential is in their path; each has tests of its own.
const OWN_CREDENTIAL: &[&str] = &["/v1/callbacks/{token}"];

struct Scene {
    engine: Engine,
    root: ConfigRoot,
    database: TestDatabase,
}

impl Scene {
    fn new() -> Self {
        let root = ConfigRoot::new(&[("pipelines/jobs.toml", CONFIG), ("schemas/note.json", SCHEMA)]);
        let database = TestDatabase::new();
        let url = database.url();
        let migrated = Engine::command(root.path(), &["migrate"], &[("DATABASE_URL", &url)]);
        assert!(migrated.status.success(), "{migrated:?}");
        let namespace = unique("api");
        let variables =
            [("DATABASE_URL", &*url), ("BIPLANE_NAMESPACE", &namespace), ("BIPLANE_ADMIN_TOKEN", ADMIN)];
        let engine = Engine::start(&root, &brokers(), &variables);
        Self { engine, root, database }
    }

    fn command(&self, arguments: &[&str]) -> std::process::Output {
        let (url, address) = (self.database.url(), self.engine.address());
        let variables = [("DATABASE_URL", &*url), ("BIPLANE_LISTEN", address), ("BIPLANE_TOKEN", ADMIN)];
        Engine::command(self.root.path(), arguments, &variables)
    }

    fn token(&self, name: &str, scopes: &str) -> String {
        let made = self.command(&["tokens", "create", name, "--scope", scopes, "--once"]);
        assert!(made.status.success(), "{made:?}");
        assert!(made.stderr.is_empty(), "nothing beside the token: {made:?}");
        String::from_utf8_lossy(&made.stdout).trim().to_owned()
    }

    fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> Http {
        let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let headers = format!("{bearer}Content-Type: application/json\r\n");
        request(self.engine.address(), method, path, &headers, &body.to_string()).expect("an answer")
    }

    fn get(&self, path: &str, token: &str) -> (u16, Value) {
        parsed(&self.ask("GET", path, Some(token), &json!({})))
    }

    fn post(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        parsed(&self.ask("POST", path, Some(token), body))
    }
}

fn parsed(answer: &Http) -> (u16, Value) {
    let body = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    (answer.status, body)
}

#[test]
fn every_route_refuses_whoever_shows_no_token_too_small_a_one_or_one_that_is_no_more() {
    let scene = Scene::new();
    // Good for nothing by itself: every route that looks needs `read` as well.
    let small = scene.token("small", "payload");
    let read = scene.token("reader", "read,payload");
    let revoked = scene.token("revoked", "admin");
    let out = scene.command(&["tokens", "revoke", "revoked", "--yes"]);
    assert!(out.status.success(), "{out:?}");
    let expired = scene.token("expired", "admin");
    scene.database.execute("update biplane.token set expires_at = now() where name = 'expired'");
    let (stem, _) = read.rsplit_once(|c: char| c.is_ascii_alphanumeric()).expect("a token");
    let forged = format!("{stem}{}", if read.ends_with('A') { 'B' } else { 'A' });
    assert!(ROUTES.len() >= 15, "the table has them all");
    for route in ROUTES {
        let path = route.path.replace("{id}", "1").replace("{name}", "work");
        let path = path.replace("/tail", "/tail?for_seconds=0");
        let status = |token: Option<&str>| scene.ask(route.method, &path, token, &json!({})).status;
        let named = format!("{} {path}", route.method);
        let Needs::All(needs) = route.needs else {
            assert!(OWN_CREDENTIAL.contains(&route.path), "{named} is none of those that need no token");
            continue;
        };
        assert_eq!(status(None), 401, "{named} without a token");
        assert_eq!(status(Some("nonsense")), 401, "{named} with nonsense");
        assert_eq!(status(Some(&forged)), 401, "{named} with another secret");
        assert_eq!(status(Some(&revoked)), 401, "{named} with a revoked token");
        assert_eq!(status(Some(&expired)), 401, "{named} with an expired token");
        assert_eq!(status(Some(&small)), 403, "{named} with too small a scope");
        let reads = needs.iter().all(|scope| matches!(scope, Scope::Read | Scope::Payload));
        assert_eq!(status(Some(&read)) == 403, !reads, "{named} with a reader's token");
        let admitted = status(Some(ADMIN));
        assert!(![401, 403].contains(&admitted), "{named} with the admin's: {admitted}");
    }
    for open in ["/live", "/ready", "/metrics"] {
        assert_eq!(scene.ask("GET", open, None, &json!({})).status, 200, "{open}");
    }
    assert_eq!(scene.ask("GET", "/v1/unheard-of", Some(ADMIN), &json!({})).status, 404);
    assert_eq!(scene.ask("DELETE", "/v1/jobs", Some(ADMIN), &json!({})).status, 404);

    let listed = scene.command(&["tokens", "list", "--format", "json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let states: Vec<_> = listed.as_array().expect("a list").iter().map(|token| &token["state"]).collect();
    assert_eq!(states, ["valid", "valid", "revoked", "expired"]);
    for (_, secret) in [&small, &read, &revoked].map(|token| token.rsplit_once('_').expect("a secret")) {
        assert!(!scene.engine.log().contains(secret), "a secret is logged");
        assert!(!listed.to_string().contains(secret), "a secret is listed");
    }
}

#[test]
fn hosts_origins_and_bodies_that_are_not_ours_are_refused_before_a_token_is_looked_at() {
    let scene = Scene::new();
    let ask = |headers: &str, body: &str| {
        let headers = format!("Authorization: Bearer {ADMIN}\r\n{headers}");
        let answer = request(scene.engine.address(), "POST", "/v1/queues/work/resume", &headers, body);
        parsed(&answer.expect("an answer"))
    };
    let json = "Content-Type: application/json\r\n";
    let code = |answer: (u16, Value)| (answer.0, answer.1["error"]["code"].as_str().unwrap_or("").to_owned());
    assert_eq!(ask(json, "{}").0, 200);
    assert_eq!(code(ask("Content-Type: text/plain\r\n", "{}")), (415, "not-json".to_owned()));
    assert_eq!(
        code(ask(&format!("{json}Origin: https://evil.example\r\n"), "{}")),
        (403, "origin".to_owned())
    );
    assert_eq!(code(ask(json, "{")), (400, "bad-request".to_owned()));
    assert_eq!(code(ask(json, r#"{"reason": 1}"#)), (400, "bad-request".to_owned()));
    let large = format!("\"{}\"", "x".repeat(9 << 20));
    assert_eq!(code(ask(json, &large)), (413, "too-large".to_owned()));
    let elsewhere = format!("Host: evil.example\r\nAuthorization: Bearer {ADMIN}\r\n");
    let answer = request(scene.engine.address(), "GET", "/v1/queues", &elsewhere, "").expect("an answer");
    assert_eq!(code(parsed(&answer)), (403, "host".to_owned()));
}

#[test]
fn jobs_come_in_are_looked_at_and_operated_over_http() {
    let scene = Scene::new();
    let operator = scene.token("operator", "operate");
    let payload = scene.token("viewer", "read,payload");
    let (code, paused) = scene.post("/v1/queues/still/pause", &operator, &json!({ "reason": "upgrade" }));
    assert_eq!((code, &paused["changed"]), (200, &json!(true)), "{paused}");

    let (code, made) = scene.post("/v1/jobs", &operator, &json!({ "kind": "note", "args": { "n": 7 } }));
    assert_eq!(code, 201, "{made}");
    let id = made["id"].as_str().expect("an id").to_owned();
    wait_until("it succeeds", Duration::from_secs(60), || {
        scene.get(&format!("/v1/jobs/{id}"), &operator).1["state"] == "succeeded"
    });
    let (_, hidden) = scene.get(&format!("/v1/jobs/{id}"), &operator);
    assert_eq!(
        (&hidden["args"], &hidden["detail"], &hidden["payload_hidden"]),
        (&Value::Null, &Value::Null, &json!(true))
    );
    let (_, shown) = scene.get(&format!("/v1/jobs/{id}"), &payload);
    assert_eq!((&shown["args"], &shown["id"]), (&json!(r#"{"n": 7}"#), &json!(id)), "{shown}");
    assert_eq!(
        scene.get("/v1/jobs?args=%7B%22n%22%3A7%7D&state=succeeded", &operator).0,
        403,
        "asking is looking"
    );
    let (_, found) = scene.get("/v1/jobs?args=%7B%22n%22%3A7%7D&state=succeeded", &payload);
    assert_eq!(found["jobs"][0]["id"], json!(id), "{found}");

    let refusals = [
        (json!({ "kind": "note", "args": { "n": "x" } }), 422, "args-invalid"),
        (json!({ "kind": "unheard-of" }), 422, "BP001"),
        (json!({ "kind": "later", "priority": 10 }), 422, "BP003"),
        (json!({ "kind": "later", "run_at": "tomorrow" }), 400, "bad-request"),
        (json!({ "kind": "later", "surprise": 1 }), 400, "bad-request"),
    ];
    for (body, status, code) in refusals {
        let (found, told) = scene.post("/v1/jobs", &operator, &body);
        assert_eq!((found, &told["error"]["code"]), (status, &json!(code)), "{body}: {told}");
        assert!(told["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    let batch =
        |jobs: Value| scene.post("/v1/jobs/batch", &operator, &json!({ "kind": "note", "jobs": jobs }));
    let (code, told) = batch(json!([{ "args": { "n": 1 } }, { "args": {} }]));
    assert_eq!(code, 422);
    assert!(told["error"]["message"].as_str().is_some_and(|text| text.contains("jobs[1]")), "{told}");
    let many: Vec<Value> = (0..5).map(|nth| json!({ "args": { "n": nth } })).collect();
    let later = json!({ "kind": "later", "jobs": many, "priority": 2 });
    let (code, made) = scene.post("/v1/jobs/batch", &operator, &later);
    assert_eq!((code, made["ids"].as_array().map(Vec::len)), (201, Some(5)), "{made}");

    let filter = json!({ "filter": { "kind": "later", "states": ["queued"] }, "dry_run": true });
    let (_, dry) = scene.post("/v1/jobs/cancel", &operator, &filter);
    assert_eq!((&dry["count"], &dry["done"]), (&json!(5), &json!(0)), "{dry}");
    let two = json!({ "ids": [made["ids"][0], made["ids"][1]], "seconds": 3600 });
    assert_eq!(scene.post("/v1/jobs/snooze", &operator, &two).1["done"], 2);
    let (_, cancelled) = scene.post("/v1/jobs/cancel", &operator, &json!({ "filter": { "kind": "later" } }));
    assert_eq!(cancelled["counts"], json!({ "queued": 3, "scheduled": 2 }), "{cancelled}");
    assert_eq!(cancelled["done"], 5);
    assert_eq!(
        scene.post("/v1/jobs/cancel", &operator, &json!({ "filter": {} })).0,
        400,
        "not all by mistake"
    );
    assert_eq!(scene.post("/v1/jobs/retry", &operator, &json!({ "ids": [made["ids"][0]] })).1["done"], 1);

    let (_, queues) = scene.get("/v1/queues", &operator);
    assert!(queues["queues"].to_string().contains(r#""paused_by":"token:operator""#), "{queues}");
    assert_eq!(scene.get("/v1/workers", &operator).1["workers"].as_array().map(Vec::len), Some(1));
    assert_eq!(scene.get("/v1/audit", &operator).0, 403);
    let (_, audit) = scene.get("/v1/audit?action=jobs.cancel", &payload);
    assert_eq!(audit["audit"][0]["actor"], "token:operator", "{audit}");
    assert_eq!(audit["audit"][0]["detail"]["count"], 5);
    let (_, status) = scene.get("/v1/status", &operator);
    assert_eq!(
        (&status["jobs"]["state"], &status["jobs"]["kinds"]),
        (&json!("running"), &json!(["note", "later"]))
    );
}

#[test]
fn without_a_database_the_status_is_read_on_the_same_machine_and_nothing_else() {
    let root = ConfigRoot::new(&[("pipelines/none.toml", "")]);
    let namespace = unique("api");
    let engine = Engine::start(&root, &brokers(), &[("BIPLANE_NAMESPACE", &namespace)]);
    let ask = |engine: &Engine, path: &str, headers: &str| {
        request(engine.address(), "GET", path, headers, "").expect("an answer").status
    };
    assert_eq!(ask(&engine, "/v1/status", ""), 200);
    for path in ["/v1/jobs", "/v1/queues", "/v1/audit"] {
        assert_eq!(ask(&engine, path, ""), 401, "{path}");
    }
    drop(engine);
    // A database that nobody answers for, and the one token that needs none.
    let variables = [
        ("BIPLANE_NAMESPACE", &*namespace),
        ("BIPLANE_ADMIN_TOKEN", ADMIN),
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing"),
    ];
    let engine = Engine::start(&root, &brokers(), &variables);
    let bearer = format!("Authorization: Bearer {ADMIN}\r\n");
    assert_eq!((ask(&engine, "/v1/status", ""), ask(&engine, "/v1/status", &bearer)), (401, 200));
    let away = request(engine.address(), "GET", "/v1/queues", &bearer, "").expect("an answer");
    assert_eq!(away.status, 503, "{away:?}");
    assert!(away.headers.to_ascii_lowercase().contains("retry-after: "), "{}", away.headers);
}

#[test]
fn a_request_with_a_key_is_carried_out_once_however_often_it_is_sent() {
    let scene = Scene::new();
    let [one, other] = ["one", "other"].map(|name| scene.token(name, "operate"));
    let send = |path: &str, token: &str, key: &str, body: &str| {
        let headers = format!(
            "Authorization: Bearer {token}\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n"
        );
        parsed(&request(scene.engine.address(), "POST", path, &headers, body).expect("an answer"))
    };
    let count = || scene.database.value("select count(*) from biplane.job");
    let body = r#"{"kind": "later", "args": {"n": 1}}"#;
    let first = std::thread::scope(|scope| {
        let sent: Vec<_> = (0..8).map(|_| scope.spawn(|| send("/v1/jobs", &one, "k", body))).collect();
        let mut answers: Vec<_> = sent.into_iter().map(|sent| sent.join().expect("no panic")).collect();
        answers.dedup();
        answers
    });
    assert_eq!((first.len(), first[0].0, &*count()), (1, 201, "1"), "{first:?}");
    assert!(first[0].1["id"].is_string(), "{first:?}");
    let differs = send("/v1/jobs", &one, "k", r#"{"kind": "later", "args": {"n": 2}}"#);
    assert_eq!((differs.0, &differs.1["error"]["code"]), (422, &json!("idempotency-key")), "{differs:?}");
    assert_eq!(count(), "1");
    assert_ne!(send("/v1/jobs", &other, "k", body), first[0], "keys are those of a token");

    let many = r#"{"kind": "later", "jobs": [{"unique_key": "a"}, {"unique_key": "a"}]}"#;
    let batch = send("/v1/jobs/batch", &one, "k", many);
    assert_eq!((batch.0, &batch.1["ids"][1]), (201, &json!(null)), "keys are those of a path: {batch:?}");
    assert_eq!(send("/v1/jobs/batch", &one, "k", many), batch);
    let refused = r#"{"kind": "note", "args": {"n": "x"}}"#;
    assert_eq!(send("/v1/jobs", &one, "r", refused).0, 422);
    assert_eq!(
        send("/v1/jobs", &one, "r", r#"{"kind": "note", "args": {"n": 1}}"#).0,
        201,
        "a refusal is no use"
    );
    for wrong in [String::new(), "x".repeat(256)] {
        assert_eq!(send("/v1/jobs", &one, &wrong, body).0, 400);
    }
    let before = count();
    scene.database.execute("update biplane.request set made_at = now() - interval '24 hours'");
    assert_ne!(send("/v1/jobs", &one, "k", body), first[0], "a day later it is another");
    assert_eq!(count().parse::<u32>().ok(), before.parse::<u32>().ok().map(|before| before + 1));
    let forgotten = block_on(async {
        let settings = biplane::store::DatabaseSettings::new(&scene.database.url(), None, Default::default());
        biplane::store::Database::new(settings.expect("a URL"), 1).forget_requests().await
    });
    assert_eq!(forgotten, Ok(3), "those of the day before");
    assert_eq!(scene.database.value("select count(*) from biplane.request"), "1");
}

#[test]
fn jobs_that_end_are_followed_tokens_are_made_and_revoked_and_stages_stand_still_over_http() {
    let scene = Scene::new();
    let operator = scene.token("operator", "operate");
    let ended = std::thread::scope(|scope_of_threads| {
        let tail = scope_of_threads.spawn(|| first_of_tail(&scene, &operator));
        // One that ends before anybody follows is no news, so some end for as long as nobody has told of one.
        wait_until("a job's end is told of", Duration::from_secs(60), || {
            let note = json!({ "kind": "note", "args": { "n": 1 } });
            for job in [note, json!({ "kind": "later" })] {
                let (status, told) = scene.post("/v1/jobs", &operator, &job);
                assert_eq!(status, 201, "{told}");
            }
            tail.is_finished()
        });
        tail.join().expect("no panic")
    });
    assert_eq!((&ended["kind"], &ended["state"]), (&json!("note"), &json!("succeeded")), "{ended}");
    assert_eq!(scene.get("/v1/jobs/tail?state=odd", &operator).0, 400);

    let new = json!({ "name": "made", "scopes": ["read"], "expires_in_seconds": 3600 });
    assert_eq!(scene.post("/v1/tokens", &operator, &new).0, 403, "nobody makes more than there is");
    let (code, made) = scene.post("/v1/tokens", ADMIN, &new);
    assert_eq!(code, 201, "{made}");
    let token = made["token"].as_str().expect("a token").to_owned();
    assert_eq!(scene.get("/v1/queues", &token).0, 200);
    let (_, listed) = scene.get("/v1/tokens", ADMIN);
    assert_eq!(listed["tokens"][1]["created_by"], "admin", "{listed}");
    assert!(!listed.to_string().contains(&token[token.len() - 20..]), "the end of its secret");
    for (body, refused) in [
        (new, (422, "23505")),
        (json!({ "name": "Not A Name", "scopes": ["read"] }), (422, "23514")),
        (json!({ "name": "none", "scopes": [] }), (422, "23514")),
        (json!({ "name": "odd", "scopes": ["everything"] }), (400, "bad-request")),
    ] {
        let (status, told) = scene.post("/v1/tokens", ADMIN, &body);
        assert_eq!((status, told["error"]["code"].as_str().unwrap_or("")), refused, "{body}: {told}");
    }
    assert_eq!(scene.post("/v1/tokens/made/revoke", ADMIN, &json!({})).0, 200);
    assert_eq!(scene.get("/v1/queues", &token).0, 401);
    assert_eq!(scene.post("/v1/tokens/made/revoke", ADMIN, &json!({})).0, 404);

    let (_, seen) = scene.get("/v1/audit?actor=admin", ADMIN);
    assert_eq!(seen["audit"].as_array().map(Vec::len), Some(2), "{seen}");
    assert_eq!(scene.post("/v1/stages/unheard-of/pause", &operator, &json!({})).0, 404);
}

#[test]
fn a_stage_is_paused_and_resumed_over_http() {
    let topic = unique("held");
    let text = format!(
        "[topics.\"{topic}\"]\npartitions = 1\n[dlqs.\"{topic}.failed\"]\n[stages.copy]\nfrom = \"{topic}\"\ndlq = \"{topic}.failed\"\n\n[[stages.copy.steps]]\nfilter = \"false\"\n"
    );
    let root = ConfigRoot::new(&[("pipelines/copy.toml", &text)]);
    let namespace = unique("api");
    let brokers = brokers();
    for topic in [topic.clone(), format!("{topic}.failed")] {
        Cluster::shared().create_topic(&topic, 1, &[]);
    }
    let variables = [("BIPLANE_NAMESPACE", &*namespace), ("BIPLANE_ADMIN_TOKEN", ADMIN)];
    let engine = Engine::start(&root, &brokers, &variables);
    let headers = format!("Authorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n");
    // A broker that has much to do may take longer than a request waits: it is said again then.
    let ask = |method: &str, path: &str, body: &str| {
        wait_for("an answer", Duration::from_secs(60), || {
            let answer = request(engine.address(), method, path, &headers, body).ok()?;
            (answer.status != 503).then(|| parsed(&answer))
        })
    };
    let state = || ask("GET", "/v1/status", "").1["stages"][0]["state"].clone();
    let paused = ask("POST", "/v1/stages/copy/pause", r#"{"reason": "upgrade"}"#);
    assert_eq!(paused, (200, json!({ "stage": "copy", "paused": true })));
    wait_until("it is paused", Duration::from_secs(60), || state() == "paused");
    let (_, status) = ask("GET", "/v1/status", "");
    assert!(
        status["stages"][0]["reason"]
            .as_str()
            .is_some_and(|why| why.contains("admin") && why.contains("upgrade")),
        "{status}"
    );
    assert_eq!(ask("POST", "/v1/stages/copy/resume", "{}").0, 200);
    wait_until("it goes on", Duration::from_secs(60), || state() == "running");
    assert_eq!(ask("POST", "/v1/stages/cpy/pause", "{}").0, 404);
}

/// The first job that the tail of notes tells of.
fn first_of_tail(scene: &Scene, token: &str) -> Value {
    let mut stream = TcpStream::connect(scene.engine.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a deadline");
    let head = format!(
        "GET /v1/jobs/tail?kind=note&for_seconds=120 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it is sent");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line in time"));
    assert!(lines.next().is_some_and(|status| status.contains(" 200 ")));
    lines.find_map(|line| serde_json::from_str::<Value>(&line).ok().filter(Value::is_object)).expect("a job")
}
