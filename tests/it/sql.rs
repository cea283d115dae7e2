//! `sql` steps on a real server: types there and back, errors by their codes, transactions that are cut short,
//! and batches until nothing is left.

use std::sync::Arc;
use std::time::Duration;

use biplane::base::{Class, Failure};
use biplane::catalog::{CheckOptions, Outside, Tree, check};
use biplane::jobs::{Call, Known, Outcome, Program};
use biplane::steps::Ports;
use biplane::store::{DatabaseSettings, Schema, StepDatabases};
use serde_json::{Value as Json, json};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::support::{Cluster, ConfigRoot, Engine, Message, TestDatabase, connect, unique, wait_until};

const LONG: Duration = Duration::from_secs(30);

/// A database and what asks it.
struct Scene {
    database: TestDatabase,
    ports: Ports,
    outside: Variable,
}

/// What every variable holds.
struct Variable(String);

impl Outside for Variable {
    fn variable(&self, _: &str) -> Option<String> {
        Some(self.0.clone())
    }

    fn mounted(&self, path: &str) -> Result<String, String> {
        Err(format!("{path}: no such file"))
    }
}

impl Scene {
    fn new(tables: &str) -> Self {
        let database = TestDatabase::new();
        database.execute(tables);
        let settings = DatabaseSettings::new(&database.url(), None, Schema::default()).expect("a URL");
        let sql = Some(Arc::new(StepDatabases::new(Some(settings))) as _);
        Self { database, ports: Ports { sql, ..Ports::default() }, outside: Variable(String::new()) }
    }

    fn program(&self, text: &str) -> Program {
        let mut tree = Tree::default();
        let text = format!("[queues.q]\n[jobs.j]\nqueue = \"q\"\n[[jobs.j.steps]]\n{text}");
        tree.insert("pipelines/j.toml", text.into_bytes());
        let checked =
            check(&tree, &CheckOptions { environment: None, require_env: true, outside: &self.outside });
        let catalog = checked.catalog.unwrap_or_else(|| panic!("{:?}", checked.findings));
        Program::open(Arc::clone(&catalog.jobs()["j"]), &self.ports).expect("open")
    }

    async fn outcome(&self, program: &Program, args: Json, cancel: &CancellationToken) -> Outcome {
        let known = Known { id: 1, attempt: 1, priority: 5, run_at: 0, fire_at: None, callback: None };
        let facts = program.facts(known, args);
        let call = Call { facts: &facts, attempt: 1, kept: Vec::new(), callback: None };
        program.run(call, cancel).await.outcome
    }

    async fn run(&self, program: &Program, args: Json) -> Result<Json, Failure> {
        match self.outcome(program, args, &CancellationToken::new()).await {
            Outcome::Succeeded { result } => Ok(result.expect("a result")),
            Outcome::Failed(failure) => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    async fn failure(&self, text: &str, args: Json) -> Failure {
        self.run(&self.program(text), args).await.expect_err("a failure")
    }

    fn wait_nobody_works(&self) {
        wait_until("no statement runs", LONG, || {
            self.value("select count(*) from pg_stat_activity where state <> 'idle' and datname = current_database() \
                        and pid <> pg_backend_pid()")
                == "0"
        });
    }

    fn value(&self, sql: &str) -> String {
        self.database.value(sql)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_go_there_and_come_back() {
    let scene = Scene::new("create type mood as enum ('sad', 'glad'); create domain short as varchar(3)");
    let types = [
        ("bool", json!(true), json!(true)),
        ("int2", json!(-7), json!(-7)),
        ("int4", json!("42"), json!(42)),
        ("int8", json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_993_i64)),
        ("float4", json!(0.1), json!(0.1)),
        ("float8", json!("NaN"), json!("NaN")),
        ("numeric", json!("-120345.0678"), json!(-120345.0678)),
        ("text", json!("it's; --:x"), json!("it's; --:x")),
        ("varchar", json!(5), json!("5")),
        ("bpchar", json!("abc"), json!("abc")),
        ("name", json!("n"), json!("n")),
        (
            "uuid",
            json!("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
            json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ),
        ("json", json!({"a": [null, "x"]}), json!({"a": [null, "x"]})),
        ("jsonb", json!("text"), json!("text")),
        ("timestamptz", json!("2026-03-01 12:00+02"), json!("2026-03-01T10:00:00Z")),
        ("timestamp", json!("2026-03-01T12:00:00.5"), json!("2026-03-01T12:00:00.500")),
        ("date", json!("1999-12-31"), json!("1999-12-31")),
        ("time", json!("12:30"), json!("12:30:00")),
        ("bytea", json!("\\x00ff"), json!("\\x00ff")),
        ("mood", json!("glad"), json!("glad")),
        ("short", json!("abc"), json!("abc")),
        ("int4[]", json!([1, null, 3]), json!([1, null, 3])),
        ("text[]", json!(["a\"b", "c,d", "NULL", "\\"]), json!(["a\"b", "c,d", "NULL", "\\"])),
        ("int4[]", json!([[1, 2], [3, 4]]), json!([[1, 2], [3, 4]])),
        ("jsonb[]", json!([{"a": 1}, [2]]), json!([{"a": 1}, [2]])),
        ("mood[]", json!(["sad"]), json!(["sad"])),
        ("text[]", json!([]), json!([])),
        ("text", json!(null), json!(null)),
    ];
    for (of, given, expected) in types {
        let program = scene.program(&format!(
            "sql.text = \"select :x::{of} as x\"\nsql.bind.x = \"{{{{ args }}}}\"\nsql.result = \"row\"\nsql.into = \"row\""
        ));
        for _ in 0..2 {
            let found = scene.run(&program, given.clone()).await;
            assert_eq!(found, Ok(json!({ "row": { "x": expected } })), "{of}");
        }
    }
    for (of, given, code) in [
        ("int4", json!("x"), "sql-22p02"),
        ("int2", json!(70_000), "sql-22003"),
        ("int4", json!([1]), "sql-bind"),
        ("text", json!({}), "sql-bind"),
        ("interval", json!("1 day"), "sql-type"),
        ("nothing", json!(1), "sql-42704"),
    ] {
        let step = format!("sql.text = \"select :x::{of} as x\"\nsql.bind.x = \"{{{{ args }}}}\"");
        let failure = scene.failure(&step, given).await;
        assert_eq!((&*failure.code, failure.class), (code, Class::Permanent), "{of}: {failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_infers_what_a_value_is_from_where_it_stands() {
    let scene = Scene::new(
        "create table notes (id bigint primary key, at timestamptz not null default now(), tags text[], data jsonb)",
    );
    let insert = scene.program(
        "sql.text = \"\"\"insert into notes (id, tags, data) values (:id, :tags, :data) returning id, tags\"\"\"\n\
         sql.bind = { id = \"{{ args.id }}\", tags = \"{{ args.tags }}\", data = \"{{ args }}\" }\nsql.into = \"rows\"",
    );
    let args = json!({ "id": 7, "tags": ["a", "'; drop table notes --"] });
    let rows = json!([{ "id": 7, "tags": args["tags"] }]);
    assert_eq!(scene.run(&insert, args.clone()).await, Ok(json!({ "rows": rows })));
    assert_eq!(scene.value("select data->>'id' from notes"), "7");
    let again = scene.run(&insert, args).await.expect_err("the key is taken");
    assert_eq!((&*again.code, again.class), ("sql-23505", Class::Permanent));
    assert!(again.message.contains("`notes_pkey`") && !again.message.contains("(7)"), "{again}");
    let shown = scene.program(
        "sql.text = \"select id from notes where at > now() - make_interval(days => :days) limit :n\"\n\
         sql.bind = { days = 1, n = \"5\" }\n[[jobs.j.steps]]\nmap.found = \"{{ steps.sql }}\"",
    );
    assert_eq!(
        scene.run(&shown, json!({})).await,
        Ok(json!({ "found": { "rows": [{ "id": 7 }], "affected": 1 } }))
    );
    scene.database.execute("alter table notes alter id type text");
    let one = "sql.text = \"select id from notes where id = :id\"\nsql.bind.id = 7\nsql.into = \"rows\"";
    assert_eq!(scene.run(&scene.program(one), json!({})).await, Ok(json!({ "rows": [{ "id": "7" }] })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_changed_is_seen_by_the_next_attempt() {
    let scene = Scene::new("create table t (n int); insert into t values (1)");
    let program =
        scene.program("sql.text = \"select n from t where n = :n\"\nsql.bind.n = 1\nsql.into = \"rows\"");
    assert_eq!(scene.run(&program, json!({})).await, Ok(json!({ "rows": [{ "n": 1 }] })));
    scene.database.execute("alter table t alter n type text");
    let failure = scene.run(&program, json!({})).await.expect_err("made for another type");
    assert!(["sql-0a000", "sql-42883"].contains(&&*failure.code), "{failure}");
    assert_eq!(scene.run(&program, json!({})).await, Ok(json!({ "rows": [{ "n": "1" }] })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_bounded_and_the_connection_is_good_for_the_next() {
    let scene = Scene::new("");
    let few = "sql.text = \"select n from generate_series(1, 5000) n\"\nsql.max_rows = 10";
    let large = "sql.text = \"select repeat('x', 1000) x from generate_series(1, 200)\"\nsql.max_result_bytes = \"64KiB\"";
    for _ in 0..6 {
        assert_eq!(scene.failure(few, json!({})).await.code, "sql-rows");
        assert_eq!(scene.failure(large, json!({})).await.code, "sql-result-too-large");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_transient_where_another_attempt_may_help() {
    let scene = Scene::new(
        "create function fail(state text) returns void language plpgsql as \
         $$ begin raise exception using errcode = state, message = 'as told'; end $$",
    );
    let program = scene.program("sql.text = \"select fail(:state)\"\nsql.bind.state = \"{{ args }}\"");
    for (state, class) in [("40001", Class::Transient), ("53200", Class::Transient), ("42501", Class::Fatal)]
    {
        let failure = scene.run(&program, json!(state)).await.expect_err("it fails");
        assert_eq!((&*failure.code, failure.class), (&*format!("sql-{state}"), class), "{failure}");
        assert!(failure.message.contains("as told"), "{failure}");
    }
    let ended =
        scene.failure("sql.text = \"select pg_terminate_backend(pg_backend_pid())\"", json!({})).await;
    assert_eq!(ended.class, Class::Transient, "{ended}");
    let fine = scene.program("sql.text = \"select 1 as one\"\nsql.into = \"rows\"");
    assert_eq!(scene.run(&fine, json!({})).await, Ok(json!({ "rows": [{ "one": 1 }] })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_taken_back_and_ended_on_the_server() {
    let scene = Scene::new("create table t (n int)");
    let step = "timeout = \"300ms\"\nsql.text = \"with put as (insert into t values (1) returning n) select n, pg_sleep(60) from put\"";
    let failure = scene.failure(step, json!({})).await;
    assert_eq!((&*failure.code, failure.class), ("timeout", Class::Transient), "{failure}");
    scene.wait_nobody_works();
    assert_eq!(scene.value("select count(*) from t"), "0");
}

/// An engine that stands still between a statement and its commit holds its locks for no longer.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_ends_a_transaction_in_which_nothing_happens() {
    let scene = Scene::new("");
    let asked = "sql.text = \"select current_setting('idle_in_transaction_session_timeout') as idle\"\nsql.into = \"rows\"";
    let rows = json!({ "rows": [{ "idle": "5s" }] });
    assert_eq!(scene.run(&scene.program(asked), json!({})).await, Ok(rows));
    assert_eq!(
        scene.value("select current_setting('idle_in_transaction_session_timeout')"),
        "0",
        "of no other session"
    );
}

const PRUNE: &str = r#"
sql.text   = """
delete from t where n in (select n from t where n <= :last order by n limit :batch)"""
sql.bind   = { last = "{{ args.last }}" }
sql.repeat = "until-zero"
sql.batch  = 5
[[jobs.j.steps]]
map.done = "{{ steps.sql }}"
"#;

const ROWS: &str = "create table t (n int primary key); insert into t select generate_series(1, 20);
    create table deleted (n int, by xid8 default pg_current_xact_id());
    create function note() returns trigger language plpgsql as
        $$ begin insert into deleted values (old.n); return null; end $$;
    create trigger note after delete on t for each row execute function note()";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_repeated_in_transactions_of_its_own_until_nothing_is_left() {
    let scene = Scene::new(ROWS);
    let program = scene.program(PRUNE);
    let done = scene.run(&program, json!({ "last": 12 })).await;
    assert_eq!(done, Ok(json!({ "done": { "affected": 12, "batches": 4 } })));
    assert_eq!(
        (&*scene.value("select count(*) from t"), &*scene.value("select count(distinct by) from deleted")),
        ("8", "3")
    );
    assert_eq!(
        scene.run(&program, json!({ "last": 12 })).await,
        Ok(json!({ "done": { "affected": 0, "batches": 1 } }))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_keeps_its_batches_and_nothing_of_the_one_that_runs() {
    let scene = Scene::new(ROWS);
    let mut other = connect(&scene.database.url()).await;
    sqlx::raw_sql("begin; select n from t where n = 8 for update").execute(&mut other).await.expect("locked");
    let (program, cancel) = (scene.program(PRUNE), CancellationToken::new());
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    let outcome = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_until("the second batch waits", LONG, || scene.value(waits) == "1");
                cancel.cancel();
            });
            Handle::current().block_on(scene.outcome(&program, json!({ "last": 20 }), &cancel))
        })
    });
    assert_eq!(outcome, Outcome::Cancelled);
    sqlx::raw_sql("rollback").execute(&mut other).await.expect("unlocked");
    scene.wait_nobody_works();
    assert_eq!((&*scene.value("select count(*) from t"), &*scene.value("select min(n) from t")), ("15", "6"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_database_is_asked_under_its_own_role_and_never_tells_its_password() {
    let mut scene = Scene::new("create table secrets (n int); create table notes (n int)");
    let (role, url) = scene.database.role();
    scene.database.execute(&format!("grant insert on notes to {role}"));
    let of = |statement: &str| {
        let step = format!("sql.database = \"app\"\nsql.text = \"{statement}\"\n");
        format!(
            "{step}[databases.app]\nurl = \"{{{{ env.url }}}}\"\n[env]\nurl = {{ var = \"URL\", secret = true }}"
        )
    };
    scene.outside = Variable(url.clone());
    scene.run(&scene.program(&of("insert into notes values (1)")), json!({})).await.expect("allowed");
    let denied = scene.failure(&of("select n from secrets"), json!({})).await;
    assert_eq!((&*denied.code, denied.class), ("sql-42501", Class::Fatal), "{denied}");
    assert!(denied.message.starts_with("database `app`: permission denied"), "{denied}");
    for wrong in [url.replace("plain", "canary"), "postgres://app:canary@127.0.0.1:1/none".to_owned()] {
        scene.outside = Variable(wrong);
        let failure = scene.failure(&of("select 1"), json!({})).await;
        assert!(["sql-28p01", "connection"].contains(&&*failure.code), "{failure}");
        assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
    }
}

const BOTH: &str = r#"
[topics.input]
topic      = "PREFIX.input"
partitions = 1

[topics.output]
topic      = "PREFIX.output"
partitions = 1

[dlqs.dead]
topic = "PREFIX.dlq"

[stages.note]
from        = "input"
to          = "output"
dlq         = "dead"
concurrency = 8

[[stages.note.steps]]
sql.text   = """
insert into notes (id, author) values (:id, :author)
on conflict (id) do update set author = excluded.author
returning id, author"""
sql.bind   = { id = "{{ value.id }}", author = "{{ key }}" }
sql.result = "row"
sql.into   = "note"

[queues.work]

[jobs.prune]
queue = "work"

[[jobs.prune.steps]]
sql.file   = "prune.sql"
sql.bind   = { author = "{{ args.author }}" }
sql.repeat = "until-zero"
sql.batch  = 3
"#;

#[test]
fn a_stage_and_a_job_ask_the_engine_s_own_database() {
    let (prefix, cluster, database) = (unique("sql"), Cluster::shared(), TestDatabase::new());
    let prune = "delete from notes where id in (select id from notes where author = :author limit :batch);\n";
    let text = BOTH.replace("PREFIX", &prefix);
    let root = ConfigRoot::new(&[("pipelines/both.toml", &text), ("sql/prune.sql", prune)]);
    let url = database.url();
    let variables = [("DATABASE_URL", url.as_str()), ("BIPLANE_NAMESPACE", &prefix)];
    let migrated = Engine::command(root.path(), &["migrate"], &variables);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    database.execute("create table public.notes (id int primary key, author text)");
    for topic in ["input", "output", "dlq"] {
        cluster.create_topic(&format!("{prefix}.{topic}"), 1, &[]);
    }
    let ids = (0..20).map(Json::from).chain([json!("x")]);
    let records = ids.map(|id| Message::json(if id == 3 { "b" } else { "a" }, &json!({ "id": id })));
    cluster.produce(&format!("{prefix}.input"), &records.collect::<Vec<_>>());
    let _engine = Engine::start(&root, cluster.brokers(), &variables);
    let out = cluster.wait_for_records(&format!("{prefix}.output"), 20, LONG);
    let noted = |id: u64| {
        out.iter().any(|message| message.value_json()["note"] == json!({ "id": id, "author": "a" }))
    };
    assert!(noted(0) && noted(19) && !noted(3));
    let dead = cluster.wait_for_records(&format!("{prefix}.dlq"), 1, LONG);
    assert_eq!(dead[0].header_text("biplane-error-code"), Some("sql-22p02"));
    database.execute("select biplane.enqueue('prune', '{\"author\": \"a\"}')");
    wait_until("the job is done", LONG, || database.value("select count(*) from biplane.done") == "1");
    assert_eq!(database.value("select string_agg(author, ',') from notes"), "b");
}
