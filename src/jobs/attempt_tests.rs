//! Attempts against a small server on the loopback, from the TOML on.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::kept::Checkpoint;
use super::state::{Attempts, State, claim, enqueue};
use super::*;
use crate::base::{Class, Failure};
use crate::catalog::{CheckOptions, Job, Nothing, Tree, check};
use crate::expr::RootSet;
use crate::record::{Item, JOB_FIELDS, JobFacts};
use crate::steps::{Flow, OpenError, Ports, ReadyStep, Runnable, StepBody, StepContext, StepPlan};

type Hits = Arc<AtomicUsize>;

/// Answers by path; counts what it was asked.
async fn answer(extract::State(hits): extract::State<Hits>, uri: Uri, body: String) -> Response {
    let hit = hits.fetch_add(1, Ordering::SeqCst);
    let body: Json = serde_json::from_str(&body).unwrap_or_default();
    match uri.path() {
        "/echo" => axum::Json(json!({ "hit": hit, "sent": body })).into_response(),
        "/busy" => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7")]).into_response(),
        "/down" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "/gone" => (StatusCode::NOT_FOUND, [("retry-after", "7")]).into_response(),
        "/later" => (StatusCode::ACCEPTED, "we shall call you").into_response(),
        // Fails once, for whoever comes second.
        "/flaky" if hit == 1 => StatusCode::BAD_GATEWAY.into_response(),
        "/flaky" => axum::Json(json!({ "hit": hit })).into_response(),
        _ => std::future::pending().await,
    }
}

/// Runs `test` beside a server; gives what it gave and how often the server was asked.
async fn with_server<T, F: Future<Output = T>>(test: impl FnOnce(String) -> F) -> (T, usize) {
    let hits = Hits::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(answer).with_state(Arc::clone(&hits));
    let result = tokio::select! {
        result = test(url) => result,
        ended = axum::serve(listener, app) => panic!("the server ended: {ended:?}"),
    };
    (result, hits.load(Ordering::SeqCst))
}

/// A job from the keys and steps behind its queue; `URL` stands for the server.
fn job(text: &str, url: &str) -> Arc<Job> {
    let mut tree = Tree::default();
    let text = format!("[queues.q]\n[jobs.j]\nqueue = \"q\"\n{}", text.replace("URL", url));
    tree.insert("pipelines/case.toml", text.as_bytes());
    tree.insert("schemas/args.json", br#"{"required": ["tenant"]}"#.as_slice());
    let checked = check(&tree, &CheckOptions { environment: None, require_env: true, outside: &Nothing });
    let catalog = checked.catalog.unwrap_or_else(|| panic!("{:?}", checked.findings));
    Arc::clone(&catalog.jobs()["j"])
}

fn program(text: &str, url: &str) -> Program {
    Program::open(job(text, url), &Ports::default()).unwrap()
}

fn facts() -> JobFacts {
    JobFacts {
        args: json!({ "tenant": "t1" }),
        job: json!({
            "id": "7", "kind": "j", "queue": "q", "attempt": 2, "priority": 5, "run_at": "x", "callback": "http://b/t",
        }),
        fire_at: "2026-01-01T00:00:00.000Z".to_owned(),
        window: Json::Null,
    }
}

#[test]
fn expressions_see_of_a_job_what_check_knows_of_it() {
    let program = program("[[jobs.j.steps]]\nlog = \"x\"\n", "");
    let about = Known {
        id: 1 << 60,
        attempt: 2,
        priority: 5,
        run_at: 1_767_225_600_123,
        fire_at: None,
        callback: None,
    };
    let facts = program.facts(about, json!([1]));
    let mut names: Vec<_> = facts.job.as_object().unwrap().keys().map(String::as_str).collect();
    let mut known = JOB_FIELDS.to_vec();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known);
    assert_eq!((&facts.job["id"], &facts.job["kind"]), (&json!("1152921504606846976"), &json!("j")));
    assert_eq!((&*facts.fire_at, &facts.job["run_at"]), ("2026-01-01T00:00:00.123Z", &json!(facts.fire_at)));
    assert_eq!(
        program.facts(Known { fire_at: Some(1_000), ..about }, json!({})).fire_at,
        "1970-01-01T00:00:01.000Z"
    );
}

async fn run_with(program: &Program, kept: &[Checkpoint], callback: Option<Callback>) -> Run {
    let call = Call { facts: &facts(), attempt: 2, kept: kept.to_vec(), callback };
    program.run(call, &CancellationToken::new()).await
}

async fn outcome(text: &str) -> Outcome {
    with_server(|url| async move { run_with(&program(text, &url), &[], None).await.outcome }).await.0
}

async fn failure(text: &str) -> Failure {
    match outcome(text).await {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

const TWO: &str = r#"
[[jobs.j.steps]]
name      = "first"
http.url  = "URL/echo"
http.json = { tenant = "{{ args.tenant }}", id = "{{ job.id }}", at = "{{ fire_at }}", value = "{{ value }}" }
http.into = "first"

[[jobs.j.steps]]
set.note = "{{ steps.first.status }}"

[[jobs.j.steps]]
name      = "second"
http.url  = "URL/flaky"
http.json = { before = "{{ value.first.hit }}" }
"#;

#[tokio::test]
async fn steps_see_the_job_and_each_other_and_the_value_behind_the_last_is_the_result() {
    let steps = r#"
[[jobs.j.steps]]
http.url  = "URL/echo"
http.json = { tenant = "{{ args.tenant }}", job = "{{ job }}", at = "{{ fire_at }}", value = "{{ value }}" }

[[jobs.j.steps]]
map.sent = "{{ steps.http.body.sent }}"
"#;
    let sent = json!({
        "tenant": "t1", "job": facts().job, "at": "2026-01-01T00:00:00.000Z", "value": {},
    });
    assert_eq!(outcome(steps).await, Outcome::Succeeded { result: Some(json!({ "sent": sent })) });
}

#[tokio::test]
async fn a_retry_goes_on_at_the_step_that_failed_with_what_those_before_it_gave() {
    let ((failed, done), hits) = with_server(|url| async move {
        let program = program(TWO, &url);
        let failed = run_with(&program, &[], None).await;
        let done = run_with(&program, &failed.kept, None).await;
        (failed, done.outcome)
    })
    .await;
    let Outcome::Failed(failure) = &failed.outcome else { panic!("{failed:?}") };
    assert_eq!((&*failure.code, failure.step.as_deref()), ("http-502", Some("second")));
    let names: Vec<_> = failed.kept.iter().map(|checkpoint| &*checkpoint.step).collect();
    assert_eq!(names, ["first", "set"]);
    assert_eq!(failed.kept[1].result, None, "`set` has no result, only a value");
    let Outcome::Succeeded { result: Some(result) } = done else { panic!("{done:?}") };
    assert_eq!((&result["first"]["hit"], &result["note"]), (&json!(0), &json!(200)));
    assert_eq!(hits, 3, "the first step is done once, the second twice");
}

#[tokio::test]
async fn without_checkpoints_and_behind_an_edit_the_steps_are_done_anew() {
    let steps = "[[jobs.j.steps]]\nset.a = 1\n[[jobs.j.steps]]\nhttp.url = \"URL/echo\"\n\
                 [[jobs.j.steps]]\nname = \"last\"\nhttp.url = \"URL/down\"\n";
    let hits = async |edited: &str| {
        let run = |url: String| async move {
            let kept = run_with(&program(steps, &url), &[], None).await.kept;
            assert_eq!(kept.len(), 2);
            run_with(&program(edited, &url), &kept, None).await
        };
        let (run, hits) = with_server(run).await;
        (run.kept.len(), hits - 2)
    };
    assert_eq!(hits(steps).await, (2, 1), "the last step alone");
    assert_eq!(hits(&steps.replace("URL/down", "URL/gone")).await, (2, 1), "the one that failed may change");
    assert_eq!(hits(&steps.replace("set.a = 1", "set.a = 2")).await, (2, 2), "a step before it may not");
    let between =
        steps.replace("[[jobs.j.steps]]\nname", "[[jobs.j.steps]]\nlog = \"x\"\n[[jobs.j.steps]]\nname");
    assert_eq!(hits(&between).await, (3, 1), "what stands before the edit still counts");
    assert_eq!(hits(&format!("checkpoint = false\n{steps}")).await, (0, 2));
}

#[tokio::test]
async fn a_busy_side_that_says_when_snoozes_the_job_and_any_other_failure_is_for_the_policy() {
    let step = |path: &str| format!("[[jobs.j.steps]]\nhttp.url = \"URL/{path}\"\n");
    let Outcome::Snoozed { wait, why } = outcome(&step("busy")).await else { panic!("not snoozed") };
    assert_eq!((wait.as_secs(), &*why.code), (7, "http-503"));
    assert_eq!(failure(&step("down")).await.code, "http-503");
    assert_eq!(failure(&step("gone")).await.code, "http-404", "a wait does not mend what is not there");
    let given_up = format!("{}http.on_status.503 = \"dead-letter\"\n", step("busy"));
    assert_eq!(failure(&given_up).await.class, Class::Permanent);
}

#[tokio::test]
async fn an_accepted_request_waits_for_its_callback_and_goes_on_with_what_that_brings() {
    let steps = r#"
[[jobs.j.steps]]
name                 = "start"
http.url             = "URL/later"
http.into            = "report"
http.callback_within = "2h"

[[jobs.j.steps]]
set.pages = "{{ steps.start.body.pages + value.report.pages }}"
"#;
    let ((waits, done, again), hits) = with_server(|url| async move {
        let program = program(steps, &url);
        let waits = run_with(&program, &[], None).await;
        let done = run_with(&program, &waits.kept, Some(Callback::Answer(json!({ "pages": 4 })))).await;
        let again = run_with(&program, &waits.kept, None).await;
        (waits.outcome, done.outcome, again.outcome)
    })
    .await;
    let expected = Outcome::Waiting { step: Arc::from("start"), within: Duration::from_secs(7_200) };
    assert_eq!((&waits, &again), (&expected, &expected));
    assert_eq!(done, Outcome::Succeeded { result: Some(json!({ "report": { "pages": 4 }, "pages": 8 })) });
    assert_eq!(hits, 2, "the callback's attempt does not ask again");
    let at_once = steps.replace("/later", "/echo").replace("body.pages + value.report.pages", "body.hit");
    let Outcome::Succeeded { result: Some(result) } = outcome(&at_once).await else { panic!("not done") };
    assert_eq!(result["pages"], 0, "who answers at once calls nobody back");
}

#[tokio::test]
async fn a_step_waits_by_itself_and_behind_it_its_result_is_what_came() {
    let steps = "checkpoint = false\n[[jobs.j.steps]]\nname = \"told\"\nhttp.url = \"URL/echo\"\n\
                 http.json = \"{{ job.callback }}\"\n[[jobs.j.steps]]\nwhen = \"steps.told.status == 200\"\n\
                 wait.within = \"5m\"\n[[jobs.j.steps]]\nmap.all = [\"{{ steps.wait }}\", \"{{ steps.told.body.sent }}\"]\n";
    let ((waits, done, missed, edited), hits) = with_server(|url| async move {
        let program = program(steps, &url);
        let waits = run_with(&program, &[], None).await;
        let answer = || Some(Callback::Answer(json!([1])));
        let done = run_with(&program, &waits.kept, answer()).await;
        let missed = run_with(&program, &waits.kept, Some(Callback::Missed)).await;
        let another = self::program(&steps.replace("job.callback", "job.id"), &url);
        let edited = run_with(&another, &waits.kept, answer()).await;
        (waits, done.outcome, missed, edited.outcome)
    })
    .await;
    let expected = Outcome::Waiting { step: Arc::from("wait"), within: Duration::from_secs(300) };
    assert_eq!(
        (&waits.outcome, waits.kept.len()),
        (&expected, 1),
        "what a wait goes on behind is kept always"
    );
    assert_eq!(done, Outcome::Succeeded { result: Some(json!({ "all": [[1], "http://b/t"] })) });
    let Outcome::Failed(failure) = missed.outcome else { panic!("{missed:?}") };
    assert_eq!((&*failure.code, failure.class), ("callback-timeout", Class::Transient));
    assert_eq!((failure.step.as_deref(), missed.kept.len()), (Some("wait"), 1));
    assert_eq!((edited, hits), (expected, 2), "an edit before the wait does the steps anew, and waits");
    let skipped = outcome(&steps.replace("== 200", "== 404").replace("{{ steps.wait }}", "x")).await;
    assert!(matches!(skipped, Outcome::Succeeded { .. }), "{skipped:?}");
}

#[tokio::test]
async fn neither_a_step_nor_an_attempt_takes_longer_than_it_may() {
    let endless = "[[jobs.j.steps]]\nhttp.url = \"URL/endless\"\n";
    let whole = failure(&format!("timeout = \"60ms\"\n{endless}")).await;
    assert_eq!((&*whole.code, whole.class, whole.step), ("timeout", Class::Transient, None));
    let one = failure(&format!("{endless}timeout = \"60ms\"\n")).await;
    assert_eq!((&*one.code, one.step.as_deref()), ("timeout", Some("http")));
}

#[tokio::test]
async fn a_step_waits_for_its_own_retry_only_while_the_attempt_has_time() {
    let policy = "[retries.slow]\ndelays = [\"1h\"]\n";
    let step = "[[jobs.j.steps]]\nretry = \"slow\"\nhttp.url = \"URL/down\"\n";
    assert_eq!(failure(&format!("{step}{policy}")).await.code, "http-503", "and not an hour later");
    let quick = "[retries.quick]\ndelays = [\"1ms\"]\n";
    let step = "[[jobs.j.steps]]\nhttp.url = \"URL/echo\"\n[[jobs.j.steps]]\nname = \"again\"\n\
                retry = \"quick\"\nhttp.url = \"URL/flaky\"\n";
    assert_eq!(
        outcome(&format!("{step}{quick}")).await,
        Outcome::Succeeded { result: Some(json!({})) },
        "the failure of one try is the step's own affair"
    );
}

#[tokio::test]
async fn args_that_are_not_what_they_should_be_fail_before_the_first_step_and_for_good() {
    let text = "args_schema = \"args.json\"\n[[jobs.j.steps]]\nhttp.url = \"URL/echo\"\n";
    let (run, hits) = with_server(|url| async move {
        let wrong = JobFacts { args: json!({}), ..facts() };
        let call = Call { facts: &wrong, attempt: 1, kept: Vec::new(), callback: None };
        let run = program(text, &url).run(call, &CancellationToken::new()).await;
        (run, outcome(text).await)
    })
    .await;
    let Outcome::Failed(failure) = run.0.outcome else { panic!("{run:?}") };
    assert_eq!((&*failure.code, hits), ("args-invalid", 0));
    assert!(!job("[[jobs.j.steps]]\nlog = \"x\"\n", "").retry.covers(&failure));
    assert!(matches!(run.1, Outcome::Succeeded { .. }));
}

#[tokio::test]
async fn a_filter_ends_the_job_as_done_and_a_large_result_is_not_handed_on() {
    let end = "[[jobs.j.steps]]\nfilter = \"args.tenant == 'other'\"\n[[jobs.j.steps]]\nhttp.url = \"URL/endless\"\n";
    assert_eq!(outcome(end).await, Outcome::Succeeded { result: None });
    let large = format!("[[jobs.j.steps]]\nmap.a = \"{}\"\n", "x".repeat(MAX_RESULT));
    assert_eq!(outcome(&large).await, Outcome::Succeeded { result: None });
}

#[tokio::test]
async fn a_job_that_is_told_to_stop_stops_and_keeps_what_it_has() {
    let steps = "[[jobs.j.steps]]\nset.a = 1\n[[jobs.j.steps]]\nhttp.url = \"URL/endless\"\n";
    let (run, hits) = with_server(|url| async move {
        let (program, cancel, facts) = (program(steps, &url), CancellationToken::new(), facts());
        let call = Call { facts: &facts, attempt: 1, kept: Vec::new(), callback: None };
        let mut run = std::pin::pin!(program.run(call, &cancel));
        // The step waits for an answer that never comes.
        assert!(tokio::time::timeout(Duration::from_millis(100), run.as_mut()).await.is_err());
        cancel.cancel();
        run.await
    })
    .await;
    assert_eq!((run.outcome, run.kept.len(), hits), (Outcome::Cancelled, 1, 1));
}

/// A step that panics.
#[derive(Debug, Clone)]
struct Panics;

impl StepBody for Panics {
    fn kind(&self) -> &'static str {
        "panics"
    }

    fn reads(&self) -> RootSet {
        RootSet::EMPTY
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Panics {
    fn run<'r>(&self, _: &mut Item<'r>, _: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        panic!("boom")
    }
}

#[tokio::test]
async fn a_panic_is_a_failure_of_this_job_alone() {
    let text = "[[jobs.j.steps]]\nset.a = 1\n[[jobs.j.steps]]\nlog = \"x\"\n";
    let mut job = Arc::try_unwrap(job(text, "")).expect("nobody else has the job");
    let panics = StepPlan { body: Arc::new(Panics), ..job.steps[1].clone() };
    job.steps[1] = panics;
    let run = run_with(&Program::open(Arc::new(job), &Ports::default()).unwrap(), &[], None).await;
    let Outcome::Failed(failure) = run.outcome else { panic!("{run:?}") };
    assert_eq!((&*failure.code, &*failure.message, run.kept.len()), ("panic", "a step panicked: boom", 1));
}

#[tokio::test]
async fn an_outcome_leads_to_where_the_job_stands_then() {
    let job = job("[[jobs.j.steps]]\nlog = \"x\"\n", "");
    let attempts = Attempts { policy: &job.retry, max_attempts: None };
    let running = claim(enqueue(None, 0)).unwrap();
    let busy = Failure::transient("http-503", "busy");
    let second = Duration::from_secs(1);
    for (outcome, state, spent) in [
        (Outcome::Succeeded { result: None }, State::Succeeded, 0),
        (Outcome::Failed(busy.clone()), State::Retrying, 1),
        (Outcome::Failed(busy.clone().given_up()), State::Failed, 1),
        (Outcome::Snoozed { wait: second, why: busy }, State::Scheduled, 0),
        (Outcome::Waiting { step: Arc::from("s"), within: second }, State::Waiting, 0),
        (Outcome::Cancelled, State::Cancelled, 0),
    ] {
        let job = outcome.settle(running, attempts, 0.5).unwrap();
        assert_eq!((job.state, job.attempts), (state, spent), "{outcome:?}");
        assert!(outcome.settle(job, attempts, 0.5).is_err(), "nothing ends twice");
    }
}
