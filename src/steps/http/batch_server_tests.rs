//! Steps with `batch` against a small server on the loopback: what goes over the wire, and what each
//! record comes to.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use super::HttpClient;
use crate::base::{Class, Failure};
use crate::steps::testing::Bench;

/// The lists that came, in their order.
type Asked = Arc<Mutex<Vec<Vec<Json>>>>;

/// What one record came to: its value, `None` where it ended in the step.
type Outcome = Result<Option<Json>, Failure>;

/// Answers by path; a list that `/list` and `/parts` get is answered element by element.
async fn answer(State(asked): State<Asked>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    assert_eq!(headers["content-type"], "application/json");
    let list: Vec<Json> = serde_json::from_str(&body).unwrap();
    let before = asked.lock().iter().flatten().filter(|element| list.contains(element)).count();
    asked.lock().push(list.clone());
    let part = |element: &Json| {
        let first = before == 0 && element["status"] == 503;
        let status = if element["status"] == 503 && !first { &json!(200) } else { &element["status"] };
        json!({ "is": { "status": status }, "body": { "of": element["id"] } })
    };
    match uri.path() {
        "/list" => axum::Json(list).into_response(),
        "/parts" => axum::Json(json!({ "all": list.iter().map(part).collect::<Vec<_>>() })).into_response(),
        "/short" => axum::Json(&list[1..]).into_response(),
        "/object" => axum::Json(json!({ "all": {} })).into_response(),
        "/busy" => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7")]).into_response(),
        "/large" => "x".repeat(5_000).into_response(),
        "/text" => "no json".into_response(),
        "/empty" => StatusCode::NO_CONTENT.into_response(),
        "/endless" => std::future::pending().await,
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn with_server<T, F: Future<Output = T>>(test: impl FnOnce(String) -> F) -> (T, Vec<Vec<Json>>) {
    let asked = Asked::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(answer).with_state(Arc::clone(&asked));
    let result = tokio::select! {
        result = test(url) => result,
        ended = axum::serve(listener, app) => panic!("the server ended: {ended:?}"),
    };
    let asked = std::mem::take(&mut *asked.lock());
    (result, asked)
}

/// Runs all of `values` at one time through a step that sends `value.element`.
async fn run(step: &str, values: &[Json]) -> (Vec<Outcome>, Vec<Vec<Json>>) {
    let step = format!(
        "http.client = \"c\"\nhttp.json = \"{{{{ value.element }}}}\"\nhttp.into = \"answer\"\n{step}"
    );
    with_server(|url| async move {
        let client = HttpClient {
            name: Arc::from("c"),
            base_url: Some(url),
            max_response_bytes: 1_000,
            timeout: Duration::from_millis(if step.contains("/endless") { 50 } else { 20_000 }),
            ..HttpClient::default()
        };
        let bench = Bench::with_client(&step, client);
        let runs = values.iter().map(|value| bench.run_waiting(value.clone()));
        let ended = join_all(runs).await.into_iter();
        ended.map(|result| Ok(result?.pop().map(|(value, _)| value["answer"].clone()))).collect()
    })
    .await
}

fn elements(elements: &[Json]) -> Vec<Json> {
    elements.iter().map(|element| json!({ "element": element })).collect()
}

fn codes(outcomes: &[Outcome]) -> Vec<(&str, Class)> {
    outcomes.iter().map(|outcome| outcome.as_ref().unwrap_err()).map(|one| (&*one.code, one.class)).collect()
}

#[tokio::test]
async fn records_share_a_request_and_each_gets_its_own_answer() {
    let step = "http.path = \"/list\"\nhttp.batch = { records = 2, linger = \"10m\" }";
    let values = elements(&[json!(1), json!({"b": [2]}), json!("c"), json!(null)]);
    let (outcomes, asked) = run(step, &values).await;
    let answers: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().unwrap()).collect();
    assert_eq!(answers, [json!(1), json!({"b": [2]}), json!("c"), json!(null)]);
    let mut asked = asked;
    asked.sort_by_key(|list| list[0] != json!(1));
    assert_eq!(json!(asked), json!([[1, {"b": [2]}], ["c", null]]));
}

/// `http.batch` with every key, the parts of `/parts` named.
const PARTS: &str = "http.path = \"/parts\"\nhttp.batch = { records = 8, bytes = \"1KiB\", linger = \"200ms\", \
                     answers = \"all\", status = \"is.status\", body = \"body\" }";

#[tokio::test]
async fn the_status_of_each_element_decides_about_its_record_alone() {
    let step = format!(
        "{PARTS}\nhttp.on_status = {{ 404 = \"null\", 410 = \"drop\", 429 = \"dead-letter\", 409 = \"accept\" }}"
    );
    let statuses = [200, 422, 503, 404, 410, 429, 409, 1_000];
    let list: Vec<_> = statuses.iter().map(|status| json!({ "id": status, "status": status })).collect();
    let (outcomes, asked) = run(&step, &elements(&list)).await;
    assert_eq!(asked, [list]);
    assert_eq!(outcomes[0], Ok(Some(json!({ "of": 200 }))));
    assert_eq!(outcomes[3], Ok(Some(json!(null))));
    assert_eq!(outcomes[4], Ok(None));
    assert_eq!(outcomes[6], Ok(Some(json!({ "of": 409 }))));
    let failed: Vec<_> = outcomes.into_iter().filter(Result::is_err).collect();
    let expected = [
        ("http-422", Class::Permanent),
        ("http-503", Class::Transient),
        ("http-429", Class::Permanent),
        ("batch-answer", Class::Transient),
    ];
    assert_eq!(codes(&failed), expected);
}

#[tokio::test]
async fn only_the_record_that_failed_is_tried_again() {
    let list = [json!({ "id": 1, "status": 200 }), json!({ "id": 2, "status": 503 })];
    let (outcomes, asked) = run(&format!("{PARTS}\nretry = \"quick\""), &elements(&list)).await;
    assert_eq!(outcomes, [Ok(Some(json!({ "of": 1 }))), Ok(Some(json!({ "of": 2 })))]);
    assert_eq!(asked, [list.to_vec(), list[1..].to_vec()]);
}

#[tokio::test]
async fn a_request_that_fails_as_a_whole_fails_for_each_of_its_records() {
    for (path, more, code, class) in [
        ("/busy", "", "http-503", Class::Transient),
        ("/busy", "http.on_status.503 = \"dead-letter\"", "http-503", Class::Permanent),
        ("/missing", "", "http-404", Class::Permanent),
        ("/large", "", "body-too-large", Class::Permanent),
        ("/text", "", "response-json", Class::Permanent),
        ("/endless", "", "timeout", Class::Transient),
        ("/short", "", "batch-answer", Class::Transient),
        ("/object", "", "batch-answer", Class::Transient),
        ("/object", "http.batch.answers = \"all\"", "batch-answer", Class::Transient),
        ("/list", "http.batch.answers = \"all\"", "batch-answer", Class::Transient),
        ("/empty", "", "batch-answer", Class::Transient),
    ] {
        let step =
            format!("http.path = \"{path}\"\nhttp.batch.records = 2\nhttp.batch.linger = \"10m\"\n{more}");
        let (outcomes, asked) = run(&step, &elements(&[json!(1), json!(2)])).await;
        assert_eq!(codes(&outcomes), [(code, class); 2], "{step}");
        assert_eq!(asked.len(), 1, "{step}");
        let wait = outcomes[0].as_ref().unwrap_err().retry_after;
        assert_eq!(wait, (path == "/busy").then_some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn nothing_to_take_apart_means_the_same_for_all() {
    let batch = "http.batch = { records = 2, linger = \"10m\" }";
    for (more, expected) in [
        ("http.path = \"/missing\"\nhttp.on_status.404 = \"null\"", Some(json!(null))),
        ("http.path = \"/missing\"\nhttp.on_status.404 = \"drop\"", None),
        ("http.path = \"/empty\"\nhttp.response = \"none\"", Some(json!(null))),
    ] {
        let (outcomes, asked) = run(&format!("{batch}\n{more}"), &elements(&[json!(1), json!(2)])).await;
        assert_eq!(outcomes, [Ok(expected.clone()), Ok(expected)], "{more}");
        assert_eq!(asked.len(), 1);
    }
}

#[tokio::test]
async fn records_with_other_headers_or_queries_go_apart() {
    let step = "http.path = \"/list\"\nhttp.headers.x-tenant = \"{{ value.tenant }}\"\nhttp.query.q = \"{{ value.q }}\"\n\
                http.batch = { records = 2, linger = \"10m\" }";
    let of = |element: u32, tenant: &str, q: u32| json!({ "element": element, "tenant": tenant, "q": q });
    let values = [of(1, "a", 1), of(2, "b", 1), of(3, "a", 2), of(4, "b", 1), of(5, "a", 1), of(6, "a", 2)];
    let (outcomes, mut asked) = run(step, &values).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    asked.sort_by_key(|list| list[0].as_u64());
    assert_eq!(json!(asked), json!([[1, 5], [2, 4], [3, 6]]));
}

#[tokio::test]
async fn equal_keys_at_one_time_are_one_element_and_answers_are_kept_one_by_one() {
    let step = "http.path = \"/list\"\nhttp.cache = { key = \"value.element\", ttl = \"1m\", max_bytes = \"1MiB\" }\n\
                http.batch = { records = 2, linger = \"10m\" }";
    let (outcomes, asked) = run(step, &elements(&[json!(1), json!(1), json!(2), json!(2), json!(1)])).await;
    let answers: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().unwrap()).collect();
    assert_eq!((json!(answers), json!(asked)), (json!([1, 1, 2, 2, 1]), json!([[1, 2]])));
}

#[test]
fn what_is_wrong_with_a_batch_is_reported() {
    let url = "http.url = \"http://h/\"\n";
    let json = "http.url = \"http://h/\"\nhttp.json = 1\n";
    let batch = "http.batch = { records = 2, linger = \"1s\" }";
    for (step, expected) in [
        (format!("{json}http.batch = 5"), "value::type"),
        (format!("{json}http.batch = {{ linger = \"1s\" }}"), "key::missing"),
        (format!("{json}http.batch = {{ records = 2 }}"), "key::missing"),
        (format!("{json}http.batch = {{ records = 0, linger = \"1s\" }}"), "value::range"),
        (format!("{json}http.batch = {{ records = 10_001, linger = \"1s\" }}"), "value::range"),
        (format!("{json}http.batch = {{ records = 2, linger = \"0s\" }}"), "value::unit"),
        (format!("{json}http.batch = {{ records = 2, linger = \"1s\", bytes = \"0B\" }}"), "value::unit"),
        (format!("{json}http.batch = {{ records = 2, linger = \"1s\", size = 1 }}"), "key::unknown"),
        (format!("{json}http.batch = {{ records = 2, linger = \"1s\", status = \"a..b\" }}"), "value::empty"),
        (format!("{url}{batch}"), "key::missing"),
        (format!("{url}http.body = \"x\"\n{batch}"), "key::conflict"),
        (format!("{json}http.response = \"text\"\n{batch}"), "key::conflict"),
        (
            format!(
                "{json}http.response = \"none\"\nhttp.batch = {{ records = 2, linger = \"1s\", status = \"s\" }}"
            ),
            "key::conflict",
        ),
        (format!("timeout = \"1s\"\n{json}{batch}"), "step::batch-linger"),
    ] {
        assert_eq!(Bench::findings(&step), [expected], "{step}");
    }
    assert!(Bench::findings(&format!("timeout = \"2s\"\n{json}{batch}")).is_empty());
}
