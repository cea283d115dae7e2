//! The step against a small server on the loopback.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};

use super::{HttpAuth, HttpClient};
use crate::base::{Class, Remedy};
use crate::steps::testing::Bench;

type Hits = Arc<AtomicUsize>;

/// Answers by path; counts what it was asked.
async fn answer(State(hits): State<Hits>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let hit = hits.fetch_add(1, Ordering::SeqCst);
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    match uri.path() {
        "/echo/a%2Fb" | "/echo/1" => axum::Json(json!({
            "uri": uri.to_string(), "auth": text("authorization"), "x": text("x-key"), "body": body,
        }))
        .into_response(),
        "/missing" => StatusCode::NOT_FOUND.into_response(),
        "/busy" => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")]).into_response(),
        "/flaky" if hit < 2 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "/flaky" => axum::Json(json!({"hit": hit})).into_response(),
        "/large" => "x".repeat(5_000).into_response(),
        "/text" => "no json".into_response(),
        "/moved" => (StatusCode::FOUND, [("location", "/echo/1")]).into_response(),
        "/endless" => std::future::pending().await,
        _ => StatusCode::IM_A_TEAPOT.into_response(),
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

fn client(url: String) -> HttpClient {
    HttpClient {
        name: Arc::from("crm"),
        base_url: Some(url),
        auth: Some(HttpAuth::Bearer("canary".to_owned())),
        max_response_bytes: 1_000,
        timeout: Duration::from_secs(5),
        ..HttpClient::default()
    }
}

fn bench(step: &str, url: String) -> Bench {
    Bench::with_client(&format!("http.client = \"crm\"\n{step}"), client(url))
}

async fn code_of(path: &str, more: &str) -> (String, Class, Option<Duration>, String) {
    let step = format!("http.path = \"{path}\"\n{more}");
    let (result, _) = with_server(|url| async move { bench(&step, url).run_waiting(json!({})).await }).await;
    let failure = result.unwrap_err();
    (failure.code.into_owned(), failure.class, failure.retry_after, failure.message)
}

#[tokio::test]
async fn the_answer_goes_into_the_value_and_into_the_results() {
    let step = "http.path = \"/echo/{{ value.id }}\"\nhttp.into = \"crm.tenant\"\nhttp.headers.x-key = \"{{ key }}\"\n\
                http.query = { q = \"{{ value.q }}\", none = \"{{ none }}\", n = 1 }\nhttp.json = { id = \"{{ value.id }}\" }";
    let ((items, result), hits) = with_server(|url| async move {
        let mut items = bench(step, url).run_waiting(json!({"id": "a/b", "q": "x y&z"})).await.unwrap();
        let (value, result) = items.remove(0);
        (value, result.unwrap())
    })
    .await;
    let expected = json!({"uri": "/echo/a%2Fb?q=x+y%26z&n=1", "auth": "Bearer canary", "x": "k1", "body": "{\"id\":\"a/b\"}"});
    assert_eq!((&items["crm"]["tenant"], &items["id"]), (&expected, &json!("a/b")));
    assert_eq!(result, json!({"status": 200, "body": expected}));
    assert_eq!(hits, 1);
}

#[tokio::test]
async fn each_failure_has_its_class_and_code() {
    let (code, class, wait, _) = code_of("/busy", "").await;
    assert_eq!((&*code, class, wait), ("http-429", Class::Transient, Some(Duration::from_secs(7))));
    for (path, more, expected, class) in [
        ("/missing", "", "http-404", Class::Permanent),
        ("/flaky", "", "http-503", Class::Transient),
        ("/moved", "", "http-302", Class::Permanent),
        ("/large", "", "body-too-large", Class::Permanent),
        ("/text", "", "response-json", Class::Permanent),
        ("/endless", "timeout = \"50ms\"", "timeout", Class::Transient),
        ("/missing", "http.on_status.4xx = \"dead-letter\"", "http-404", Class::Permanent),
        ("/busy", "http.on_status.429 = \"dead-letter\"", "http-429", Class::Permanent),
    ] {
        let (code, found, _, message) = code_of(path, more).await;
        assert_eq!((&*code, found), (expected, class), "{path}");
        assert!(!message.contains("canary"), "{message}");
    }
}

#[tokio::test]
async fn the_client_s_own_deadline_covers_the_whole_answer() {
    let (result, _) = with_server(|url| async move {
        let client = HttpClient { timeout: Duration::from_millis(50), ..client(url) };
        Bench::with_client("http.client = \"crm\"\nhttp.path = \"/endless\"", client)
            .run_waiting(json!({}))
            .await
    })
    .await;
    assert_eq!(result.unwrap_err().code, "timeout");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_whole_url_is_the_step_s_own() {
    let took = async |more: &str| {
        let (took, _) = with_server(|url| async move {
            let bench = Bench::new(&format!("http.url = \"{url}/endless\"\n{more}"));
            let began = tokio::time::Instant::now();
            assert_eq!(bench.run_waiting(json!({})).await.unwrap_err().code, "timeout");
            began.elapsed().as_secs()
        })
        .await;
        took
    };
    assert_eq!((took("").await, took("timeout = \"45s\"").await), (10, 45));
}

#[tokio::test]
async fn nobody_listening_is_a_transient_connection_failure() {
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let bench = bench("http.path = \"/x\"", format!("http://127.0.0.1:{port}"));
    let failure = bench.run_waiting(json!({})).await.unwrap_err();
    assert_eq!((&*failure.code, failure.class), ("connection", Class::Transient));
}

#[tokio::test]
async fn a_status_can_mean_null_the_end_or_success() {
    let run = async |more: &'static str| {
        let step = format!("http.path = \"/missing\"\nhttp.into = \"t\"\n{more}");
        let run = |url| async move { bench(&step, url).run_waiting(json!({"t": 1})).await.unwrap() };
        with_server(run).await.0.into_iter().map(|(value, _)| value).collect::<Vec<Json>>()
    };
    assert_eq!(run("http.on_status = { 404 = \"null\", 4xx = \"drop\" }").await, [json!({"t": null})]);
    assert!(run("http.on_status = { 4xx = \"drop\", 403 = \"null\" }").await.is_empty());
    assert_eq!(run("http.on_status.404 = \"accept\"").await, [json!({"t": null})]);
}

#[tokio::test]
async fn a_step_s_own_retry_tries_only_the_step_again() {
    let (items, hits) = with_server(|url| async move {
        bench("http.path = \"/flaky\"\nhttp.into = \"r\"\nretry = \"quick\"", url)
            .run_waiting(json!({}))
            .await
    })
    .await;
    assert_eq!((items.unwrap()[0].0.clone(), hits), (json!({"r": {"hit": 2}}), 3));
}

#[tokio::test]
async fn a_cached_answer_is_asked_for_once_even_by_many_at_one_time() {
    let step = "http.path = \"/echo/{{ value.id }}\"\n\
                http.cache = { key = \"value.id\", ttl = \"1m\", max_bytes = \"1MiB\" }";
    let (answers, hits) = with_server(|url| async move {
        let bench = bench(step, url);
        let same = (0..4).map(|_| bench.run_waiting(json!({"id": "1"})));
        let [a, b, c, d] = std::array::from_fn(|_| bench.run_waiting(json!({"id": "1"})));
        let together = tokio::join!(a, b, c, d);
        let mut answers = vec![together.0, together.1, together.2, together.3];
        for run in same {
            answers.push(run.await);
        }
        answers
    })
    .await;
    assert_eq!((answers.iter().filter(|answer| answer.is_ok()).count(), hits), (8, 1));
}

#[tokio::test]
async fn a_failure_is_not_cached() {
    let step = "http.path = \"/flaky\"\nhttp.cache = { key = \"key\", ttl = \"1m\", max_bytes = \"1MiB\" }";
    let (codes, hits) = with_server(|url| async move {
        let bench = bench(step, url);
        let mut codes = Vec::new();
        for _ in 0..4 {
            codes.push(bench.run_waiting(json!({})).await.is_ok());
        }
        codes
    })
    .await;
    assert_eq!((codes, hits), (vec![false, false, true, true], 3));
}

#[test]
fn what_is_wrong_in_the_table_is_reported() {
    for (step, expected) in [
        ("http.url = \"http://{{ value.host }}/\"", "template::url-data"),
        ("http.url = \"http://h/\"\nhttp.client = \"x\"", "key::conflict"),
        ("http.url = \"http://h/\"\nhttp.path = \"/x\"", "key::conflict"),
        ("http.url = \"http://h/\"\nhttp.json = 1\nhttp.body = \"x\"", "key::conflict"),
        ("http.method = \"GET\"", "key::missing"),
        ("http.url = \"http://h/\"\nhttp.method = \"FETCH\"", "value::word"),
        ("http.url = \"http://h/\"\nhttp.on_status.700 = \"null\"", "value::range"),
        ("http.url = \"http://h/\"\nhttp.pool = 5", "key::unknown"),
    ] {
        assert_eq!(Bench::findings(step), [expected], "{step}");
    }
}

#[tokio::test]
async fn a_status_that_the_step_dead_letters_is_not_tried_again_by_its_code() {
    let (result, hits) = with_server(|url| async move {
        let step = "retry = \"quick\"\nhttp.path = \"/flaky\"\nhttp.on_status.503 = \"dead-letter\"";
        bench(step, url).run_waiting(json!({})).await
    })
    .await;
    let failure = result.unwrap_err();
    assert_eq!(
        (&*failure.code, failure.class, failure.remedy),
        ("http-503", Class::Permanent, Remedy::DeadLetter)
    );
    assert_eq!(hits, 1);
}
