//! The step on a database that tests make up, from the TOML on.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use crate::base::Failure;
use crate::steps::OpenError;
use crate::steps::ports::{
    BoxedSql, Database, Databases, SqlAnswer, SqlLimits, SqlText, StageOffsets, Statement,
};
use crate::steps::testing::Bench;

/// Answers the same to all, and keeps what it was asked.
#[derive(Debug, Default)]
struct Fake {
    rows: Vec<Json>,
    asked: Arc<Mutex<Vec<Json>>>,
}

struct FakeStatement {
    database: Option<String>,
    text: String,
    rows: Vec<Json>,
    asked: Arc<Mutex<Vec<Json>>>,
}

impl Databases for Fake {
    fn statement(
        &self,
        database: Option<&Arc<Database>>,
        text: &Arc<SqlText>,
    ) -> Result<Box<dyn Statement>, OpenError> {
        Ok(Box::new(FakeStatement {
            database: database.map(|database| database.name.to_string()),
            text: text.numbered(|_, number| number),
            rows: self.rows.clone(),
            asked: Arc::clone(&self.asked),
        }))
    }

    fn offsets(
        &self,
        _: Option<&Arc<Database>>,
        _: Vec<(Arc<str>, crate::steps::Effect)>,
    ) -> Result<Arc<dyn StageOffsets>, OpenError> {
        Err(OpenError::new("no stage stands here"))
    }
}

impl Statement for FakeStatement {
    fn run<'a>(&'a self, values: &'a [Json], limits: SqlLimits) -> BoxedSql<'a, SqlAnswer> {
        self.asked.lock().push(json!([
            self.database,
            self.text,
            values,
            limits.timeout.as_secs(),
            limits.rows
        ]));
        let answer = SqlAnswer { rows: self.rows.clone(), affected: 7 };
        Box::pin(async move { Ok(answer) })
    }

    fn prepare(&self) -> BoxedSql<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

async fn run(
    step: &str,
    rows: &[Json],
    value: Json,
) -> (Vec<Json>, Result<Vec<(Json, Option<Json>)>, Failure>) {
    let fake = Fake { rows: rows.to_vec(), ..Fake::default() };
    let asked = Arc::clone(&fake.asked);
    let left = Bench::with_databases(step, Arc::new(fake)).run_waiting(value).await;
    let asked = asked.lock().clone();
    (asked, left)
}

#[tokio::test]
async fn values_go_to_their_binds_and_rows_to_the_result() {
    let step = "timeout = \"5s\"\nsql.database = \"app\"\nsql.text = \"select :a, :b, :a\"\nsql.max_rows = 3\n\
                sql.bind = { b = \"x-{{ value.id }}\", a = \"{{ value.list }}\" }\nsql.into = \"found\"";
    let rows = [json!({"n": 1}), json!({"n": 2})];
    let (asked, left) = run(step, &rows, json!({"id": 4, "list": [1]})).await;
    assert_eq!(asked, [json!(["app", "select $1, $2, $1", [[1], "x-4"], 5, 3])]);
    let (value, result) = left.unwrap().remove(0);
    assert_eq!(value["found"], json!(rows));
    assert_eq!(result.unwrap(), json!({"rows": rows, "affected": 7}));
}

#[tokio::test]
async fn one_row_is_taken_as_it_is_and_more_are_a_failure() {
    let step = "sql.text = \"select 1\"\nsql.into = \"found\"\nsql.result = \"row\"";
    let (asked, left) = run(step, &[json!({"n": 1})], json!({})).await;
    assert_eq!(asked[0][0], json!(null), "the engine's own");
    assert_eq!(left.unwrap()[0].0["found"], json!({"n": 1}));
    assert_eq!(run(step, &[], json!({})).await.1.unwrap()[0].0["found"], json!(null));
    let many = run(step, &[json!({}), json!({})], json!({})).await.1.unwrap_err();
    assert_eq!(many.code, "sql-rows");
    let nowhere = run(step, &[], json!([])).await;
    assert_eq!(
        (nowhere.1.unwrap_err().code.as_ref(), nowhere.0.len()),
        ("not-an-object", 0),
        "asked for nothing"
    );
}

#[test]
fn what_cannot_work_is_reported() {
    let file = [("sql/a.sql", "delete from a where b = :b")];
    let findings = |step: &str| Bench::findings_with(step, &file);
    let fine = "sql.file = \"a.sql\"\nsql.bind.b = 1";
    assert_eq!(findings(fine), Vec::<&str>::new());
    assert_eq!(findings(&format!("{fine}\nsql.text = \"select 1\"")), ["key::conflict"]);
    assert_eq!(findings("sql.database = \"app\""), ["key::missing"]);
    assert_eq!(findings("sql.file = \"b.sql\""), ["sql::missing"]);
    assert_eq!(findings("sql.file = \"a.sql\""), ["sql::bind"]);
    assert_eq!(findings(&format!("{fine}\nsql.bind.c = 1")), ["sql::bind"]);
    assert_eq!(findings("sql.text = \"select 1; select 2\""), ["sql::statement"]);
    assert_eq!(findings(&format!("{fine}\nsql.batch = 5")), ["key::missing"]);
    assert_eq!(findings(&format!("{fine}\nsql.repeat = \"until-zero\"")), ["step::jobs-only"]);
}
