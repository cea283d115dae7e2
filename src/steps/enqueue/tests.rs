use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;

use crate::base::Failure;
use crate::steps::ports::{BoxedSql, Enqueued, JobOrder, Jobs, Origin};
use crate::steps::testing::Bench;

/// Takes what was not ordered before.
#[derive(Debug, Default)]
struct Taker(Mutex<Vec<Taken>>);

#[derive(Debug, Clone, PartialEq)]
struct Taken {
    origin: Origin,
    args: Vec<String>,
    keys: Option<Vec<Option<String>>>,
    then: Option<(String, String)>,
}

impl Jobs for Taker {
    fn enqueue<'a>(&'a self, order: &'a JobOrder<'a>) -> BoxedSql<'a, Vec<Enqueued>> {
        let then = order.then.as_ref().map(|(kind, args)| ((*kind).to_owned(), args.clone()));
        let (args, keys) = (order.args.clone(), order.unique_keys.clone());
        let mut taken = self.0.lock();
        let is_new = taken.iter().all(|known| known.origin != order.origin);
        taken.push(Taken { origin: order.origin, args: args.clone(), keys, then });
        let ids = (0..args.len() as i64).map(|id| Enqueued { id: Some(id), is_new }).collect();
        Box::pin(async move { Ok(ids) })
    }
}

async fn run(
    step: &str,
    values: &[serde_json::Value],
) -> Result<(Vec<Taken>, Vec<serde_json::Value>), Failure> {
    let taker = Arc::new(Taker::default());
    let bench = Bench::with_jobs(step, Arc::clone(&taker) as _);
    let mut results = Vec::new();
    for value in values {
        let out = bench.run_waiting(value.clone()).await?;
        results.extend(out.into_iter().filter_map(|(_, result)| result));
    }
    let taken = taker.0.lock().clone();
    Ok((taken, results))
}

#[tokio::test]
async fn a_record_that_is_run_again_says_where_it_comes_from() {
    let step = "enqueue.kind = \"report\"\nenqueue.args = { day = \"{{ value.day }}\" }\nenqueue.unique = \"d{{ value.day }}\"";
    let (taken, results) = run(step, &[json!({"day": 7}), json!({"day": 7})]).await.unwrap();
    assert_eq!(taken[0].args, [r#"{"day":7}"#]);
    assert_eq!(taken[0].keys, Some(vec![Some("d7".to_owned())]));
    assert_eq!(taken[0], taken[1]);
    assert_eq!(results, [json!({"id": "0", "duplicate": false}), json!({"id": "0", "duplicate": true})]);
}

#[tokio::test]
async fn each_item_becomes_a_job_and_what_comes_then_sees_the_whole() {
    let step = "enqueue.kind = \"report\"\nenqueue.each = \"value.days\"\nenqueue.args = { day = \"{{ item.n }}\", all = \"{{ value.days | length }}\" }\n\
                enqueue.then = { kind = \"last\", args = { of = \"{{ value.name }}\" } }";
    let (taken, results) = run(step, &[json!({"name": "x", "days": [{"n": 1}, {"n": 2}]})]).await.unwrap();
    assert_eq!(taken[0].args, [r#"{"day":1,"all":2}"#, r#"{"day":2,"all":2}"#]);
    assert_eq!(taken[0].then, Some(("last".to_owned(), r#"{"of":"x"}"#.to_owned())));
    assert_eq!(results, [json!({"ids": ["0", "1"], "duplicates": [false, false]})]);
    let (taken, _) =
        run("enqueue.kind = \"report\"\nenqueue.each = \"value\"", &[json!([{"a": 1}])]).await.unwrap();
    assert_eq!(taken[0].args, [r#"{"a":1}"#], "the item is the args");
}

#[tokio::test]
async fn what_cannot_be_enqueued_is_told_by_its_code() {
    for (step, value, code) in [
        (
            "enqueue.kind = \"strict\"\nenqueue.args = { n = \"{{ value.n }}\" }",
            json!({"n": "x"}),
            "args-invalid",
        ),
        ("enqueue.kind = \"report\"\nenqueue.each = \"value\"", json!({"a": 1}), "not-a-list"),
        ("enqueue.kind = \"report\"\nenqueue.each = \"value\"", json!(vec![1; 10_001]), "enqueue-too-many"),
        (
            "enqueue.kind = \"report\"\nenqueue.each = \"value\"",
            json!(vec!["x".repeat(2_000); 9_000]),
            "enqueue-too-many",
        ),
        ("enqueue.kind = \"report\"\nenqueue.run_at = \"{{ value }}\"", json!("tomorrow"), "enqueue-run-at"),
    ] {
        assert_eq!(run(step, &[value]).await.unwrap_err().code, code, "{step}");
    }
}

#[test]
fn what_is_wrong_before_a_record_comes_is_found() {
    assert_eq!(Bench::findings("enqueue.kind = \"strict\"\nenqueue.args = { n = \"x\" }"), ["job::args"]);
    assert_eq!(Bench::findings("enqueue.kind = \"strict\""), ["job::args"]);
    assert_eq!(Bench::findings("enqueue.kind = \"strict\"\nenqueue.args = { n = 5 }"), [""; 0]);
    assert_eq!(
        Bench::findings("enqueue.kind = \"a\"\nenqueue.args = { n = \"{{ item }}\" }"),
        ["expression::unknown"]
    );
    assert_eq!(Bench::findings("enqueue.kind = \"a\"\nenqueue.then.kind = \"b\""), ["key::missing"]);
    assert_eq!(
        Bench::findings("enqueue.kind = \"a\"\nenqueue.delay = \"1m\"\nenqueue.run_at = \"{{ value.at }}\""),
        ["key::conflict"]
    );
}
