//! `sql.batch` in stages: records share a statement on a real Postgres and still come to an end one by one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::support::{Cluster, ConfigRoot, Engine, Message, TestDatabase, unique, wait_until};

const LONG: Duration = Duration::from_secs(60);

const PIPELINE: &str = r#"
[topics.input]
topic      = "PREFIX.input"
partitions = 2

[topics.output]
topic      = "PREFIX.output"
partitions = 2

[dlqs.dead]
topic = "PREFIX.dlq"

[databases.app]
url = "{{ env.url }}"

[env]
url = { var = "APP_URL", secret = true }

[stages.note]
from        = "input"
OUTPUT
dlq         = "dead"
order       = "none"
concurrency = 64
"#;

const INSERT: &str = r#"
[[stages.note.steps]]
name         = "insert"
sql.database = "app"
sql.text     = "insert into notes (id, author) select * from unnest(:id::int[], :author::text[])"
sql.bind     = { id = "{{ value.id }}", author = "{{ key }}" }
sql.batch    = { records = 64, linger = "10ms" }
"#;

const LOOK: &str = r#"
[[stages.note.steps]]
name         = "look"
sql.database = "app"
sql.text     = """
select r.record, people.name from unnest(:record::int[], :author::text[]) as r (record, author)
join people using (author)"""
sql.bind     = { author = "{{ key }}" }
sql.batch    = { records = 64, linger = "10ms" }
sql.result   = "row"
sql.into     = "person"
"#;

const ONE_BY_ONE: &str = r#"
[[stages.note.steps]]
name         = "insert"
sql.database = "app"
sql.text     = "insert into notes (id, author) values (:id, :author)"
sql.bind     = { id = "{{ value.id }}", author = "{{ key }}" }
"#;

const TABLES: &str = "create table notes (id int primary key check (id <> 77), author text);
    create table people (author text primary key, name text);
    insert into people select 'key-' || n, 'name ' || n from generate_series(0, 9) n where n <> 3;
    insert into notes values (500, 'before')";

struct Scene {
    prefix: String,
    cluster: Cluster,
    database: TestDatabase,
    root: ConfigRoot,
}

impl Scene {
    fn new(output: &str, steps: &[&str]) -> Self {
        let (prefix, cluster, database) = (unique("sql-batch"), Cluster::shared(), TestDatabase::new());
        database.execute(TABLES);
        let text =
            format!("{PIPELINE}{}", steps.concat()).replace("PREFIX", &prefix).replace("OUTPUT", output);
        let root = ConfigRoot::new(&[("pipelines/notes.toml", &text)]);
        for (topic, partitions) in [("input", 2), ("output", 2), ("dlq", 1)] {
            cluster.create_topic(&format!("{prefix}.{topic}"), partitions, &[]);
        }
        Self { prefix, cluster, database, root }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn start(&self) -> Engine {
        let url = self.database.url();
        let variables = [("APP_URL", url.as_str()), ("BIPLANE_NAMESPACE", &self.prefix)];
        Engine::start(&self.root, self.cluster.brokers(), &variables)
    }

    fn produce(&self, ids: impl Iterator<Item = Json>) {
        let record =
            |(number, id): (usize, Json)| Message::json(format!("key-{}", number % 10), &json!({ "id": id }));
        self.cluster.produce(&self.topic("input"), &ids.enumerate().map(record).collect::<Vec<_>>());
    }

    fn value(&self, sql: &str) -> String {
        self.database.value(sql)
    }
}

#[test]
fn records_share_statements_and_one_that_is_refused_fails_alone() {
    const COUNT: i64 = 2_000;
    let scene = Scene::new("to = \"output\"", &[INSERT, LOOK]);
    // One is no number, one is there already, one is not allowed.
    scene.produce((0..COUNT).map(|id| if id == 1_300 { json!("x") } else { json!(id) }));
    let _engine = scene.start();
    let out = scene.cluster.wait_for_records(&scene.topic("output"), COUNT as usize - 3, LONG);
    let dead = scene.cluster.wait_for_records(&scene.topic("dlq"), 3, LONG);
    let codes: BTreeMap<_, _> = dead
        .iter()
        .map(|letter| {
            (letter.value_json()["id"].to_string(), letter.header_text("biplane-error-code").expect("a code"))
        })
        .collect();
    let expected = [("\"x\"", "sql-22p02"), ("500", "sql-23505"), ("77", "sql-23514")];
    assert_eq!(codes, BTreeMap::from(expected.map(|(id, code)| (id.to_owned(), code))));
    assert_eq!((out.len(), dead.len()), (COUNT as usize - 3, 3));
    for message in &out {
        let value = message.value_json();
        let person = match message.key_text().strip_prefix("key-") {
            Some("3") => json!(null),
            number => json!({ "name": format!("name {}", number.expect("a key")) }),
        };
        assert_eq!(value["person"], person, "{value}");
    }
    assert_eq!(scene.value("select count(*) from notes where author <> 'before'"), (COUNT - 3).to_string());
    let transactions: i64 =
        scene.value("select count(distinct xmin::text) from notes").parse().expect("a number");
    assert!(transactions < COUNT / 8, "{transactions} transactions");
}

/// A statement whose rows do not say whose they are is refused before it changes anything.
#[test]
fn rows_without_a_record_are_refused_and_nothing_is_changed() {
    let returning = INSERT.replace("text[])\"", "text[]) returning id\"");
    let scene = Scene::new("to = \"output\"", &[&returning]);
    scene.produce((0..5).map(Json::from));
    let _engine = scene.start();
    let dead = scene.cluster.wait_for_records(&scene.topic("dlq"), 5, LONG);
    assert!(dead.iter().all(|letter| letter.header_text("biplane-error-code") == Some("sql-record")));
    assert_eq!(scene.value("select count(*) from notes"), "1");
}

/// `tests/run --test it sql_batch::figures -- --ignored --nocapture`
#[test]
#[ignore = "a figure, for a machine of its own"]
fn figures_with_and_without_a_batch() {
    const COUNT: i64 = 20_000;
    for (what, step) in [("one by one", ONE_BY_ONE), ("in batches of 64", INSERT), ("one by one", ONE_BY_ONE)]
    {
        let scene = Scene::new("", &[step]);
        scene.database.execute("delete from notes; alter table notes drop constraint notes_id_check");
        scene.produce((0..COUNT).map(Json::from));
        let _engine = scene.start();
        wait_until("it has begun", LONG, || scene.value("select count(*) from notes") != "0");
        let (before, began): (i64, _) =
            (scene.value("select count(*) from notes").parse().expect("a number"), Instant::now());
        wait_until("all are there", 10 * LONG, || {
            scene.value("select count(*) from notes") == COUNT.to_string()
        });
        let seconds = began.elapsed().as_secs_f64();
        println!("{what}: {:.0} records/s", (COUNT - before) as f64 / seconds);
    }
}
