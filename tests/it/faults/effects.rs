//! Exactly-once, Kafka to Postgres: the effects of each record happen once, whatever is killed, and whoever comes late.

use serde_json::json;

use super::{Bed, DEADLINE, INTACT};
use crate::support::commands::ask_with;
use crate::support::{Cluster, Engine, Message, PrivatePostgres, TestDatabase, holds_within, wait_until};

/// Every number but those that a step refuses, those that are filtered out and those that the table refuses is
/// written once, and added up once: neither statement can be repeated without that being seen.
const STAGE: &str = r#"
[databases.app]
url = "{{ env.url }}"

[env]
url = { var = "APP_URL", secret = true }

[STAGE]
from     = "input"
dlq      = "dead"
delivery = "exactly-once"

[[STAGE.steps]]
when = "value.number % 97 == 13"
fail = { code = "doomed", message = "no" }

[[STAGE.steps]]
filter = "value.number % 50 != 7"

[[STAGE.steps]]
name         = "note"
sql.database = "app"
sql.text     = "insert into noted (number) values (:number)"
sql.bind     = { number = "{{ value.number }}" }

[[STAGE.steps]]
name         = "add"
sql.database = "app"
sql.text     = """
insert into added (key, total) values (:key, :number)
on conflict (key) do update set total = added.total + excluded.total"""
sql.bind     = { key = "{{ key }}", number = "{{ value.number }}" }
"#;

/// The same with statements for many records at one time.
const BATCHED: &str = r#"
[[STAGE.steps]]
name         = "note"
sql.database = "app"
sql.text     = "insert into noted (number) select unnest(:number::bigint[])"
sql.bind     = { number = "{{ value.number }}" }
sql.batch    = { records = 100, linger = "1ms" }

[[STAGE.steps]]
name         = "add"
sql.database = "app"
sql.text     = """
insert into added (key, total)
select key, sum(number) from unnest(:key::text[], :number::bigint[]) as r (key, number) group by key
on conflict (key) do update set total = added.total + excluded.total"""
sql.bind     = { key = "{{ key }}", number = "{{ value.number }}" }
sql.batch    = { records = 100, linger = "1ms" }
"#;

const TABLES: &str =
    "create table noted (id bigint generated always as identity, number bigint check (number % 101 <> 5));
    create table added (key text primary key, total bigint)";

fn is_written(number: i64) -> bool {
    number % 97 != 13 && number % 50 != 7 && number % 101 != 5
}

struct Scene {
    bed: Bed,
    database: TestDatabase,
}

impl Scene {
    fn new(partitions: i32, stage: &str, without: &'static str, database: TestDatabase) -> Self {
        database.execute(TABLES);
        let scene = Self { bed: Bed::new(&Cluster::shared(), partitions, stage, without), database };
        let made = scene.command(&["migrate", "--database", "app"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        scene
    }

    fn command(&self, arguments: &[&str]) -> std::process::Output {
        Engine::command(self.bed.root.path(), arguments, &[("APP_URL", &self.database.url())])
    }

    fn start(&self, id: &str) -> Engine {
        self.start_with(&[("BIPLANE_ENGINE_ID", id)])
    }

    fn start_with(&self, variables: &[(&str, &str)]) -> Engine {
        let url = self.database.url();
        self.bed.start_at(Cluster::shared().brokers(), &[&[("APP_URL", url.as_str())], variables].concat())
    }

    fn produce(&self, numbers: std::ops::Range<i64>) {
        let record =
            |number: i64| Message::json(format!("key-{}", number % 20), &json!({ "number": number }));
        Cluster::shared().produce(&self.bed.topic("input"), &numbers.map(record).collect::<Vec<_>>());
    }

    fn number(&self, sql: &str) -> i64 {
        self.database.value(sql).parse().expect("a number")
    }

    /// Where the database says that the stage stands, all partitions together.
    fn stands(&self) -> i64 {
        self.number("select coalesce(sum(next_offset), 0) from biplane.stage_offset")
    }

    fn wait_stands(&self, offset: i64) {
        wait_until(&format!("the stage stands at {offset}"), DEADLINE, || self.stands() == offset);
    }

    /// How many of the first `count` numbers were not written, how many were again, and whether the sum is right.
    fn seen(&self, count: i64) -> (i64, i64, bool) {
        let expected: Vec<_> = (0..count).filter(|number| is_written(*number)).collect();
        let distinct = self.number("select count(distinct number) from noted");
        let all = self.number("select count(*) from noted");
        let sum = self.number("select coalesce(sum(total), 0) from added");
        (expected.len() as i64 - distinct, all - distinct, sum == expected.iter().sum::<i64>())
    }

    /// The numbers of the dead letters, each once.
    fn dead(&self) -> Vec<i64> {
        let mut dead = super::numbers(&Cluster::shared().read_all(&self.bed.topic("dlq")));
        dead.sort_unstable();
        dead.dedup();
        dead
    }
}

fn refused(count: i64) -> Vec<i64> {
    (0..count).filter(|number| number % 97 == 13 || number % 101 == 5 && number % 50 != 7).collect()
}

#[test]
fn whatever_is_killed_each_effect_happens_once() {
    const COUNT: i64 = 3_000;
    let mut server = PrivatePostgres::start(&[]);
    let scene = Scene::new(4, STAGE, INTACT, TestDatabase::on(&server.url()));
    scene.produce(0..COUNT);
    for life in 1..5 {
        let mut engine = scene.start("one");
        wait_until("some are written", DEADLINE, || {
            scene.number("select count(*) from noted") >= COUNT * life / 6
        });
        if life == 2 {
            server.kill();
            wait_until("the engine notices", DEADLINE, || engine.log().contains("connection"));
            server.restart();
            scene.produce(COUNT..COUNT + 100);
        } else {
            engine.kill();
        }
    }
    let engine = scene.start("one");
    scene.wait_stands(COUNT + 100);
    assert_eq!(scene.seen(COUNT + 100), (0, 0, true));
    wait_until("the dead letters are there", DEADLINE, || scene.dead() == refused(COUNT + 100));
    wait_until("the group mirrors it", DEADLINE, || scene.bed.committed(&Cluster::shared()) == COUNT + 100);
    assert_eq!(engine.metric("biplane_stage_offset_conflicts_total", &[]), 0.0);
}

/// While the engine stands still with records in flight another one does these and more; what the first one then
/// writes comes late. A session lasts 10 s.
#[test]
fn an_engine_that_was_frozen_changes_nothing_that_another_one_has() {
    const COUNT: i64 = 4_000;
    let scene = Scene::new(2, STAGE, INTACT, TestDatabase::new());
    let frozen = scene.start("frozen");
    scene.produce(0..COUNT);
    wait_until("some are written", DEADLINE, || scene.number("select count(*) from noted") > 50);
    frozen.freeze();
    let before = scene.stands();
    assert!(before < COUNT, "{before}");
    let _other = scene.start("other");
    wait_until("the other one goes on", DEADLINE, || scene.stands() > before + 100);
    frozen.thaw();
    scene.produce(COUNT..COUNT + 500);
    scene.wait_stands(COUNT + 500);
    assert_eq!(scene.seen(COUNT + 500), (0, 0, true));
}

/// Somebody else does what the engine reads next. Without `compare-and-set` the engine does it again.
#[test]
fn a_stretch_that_somebody_else_has_done_is_not_done_again() {
    fn check(without: &'static str) -> (i64, i64, bool) {
        let scene = Scene::new(1, STAGE, without, TestDatabase::new());
        let engine = scene.start("one");
        scene.produce(0..1_000);
        scene.wait_stands(1_000);
        scene.database.execute(
            "begin; update biplane.stage_offset set next_offset = 1200 where next_offset = 1000;
             insert into noted (number) select n from generate_series(1000, 1199) n
                 where n % 97 <> 13 and n % 50 <> 7 and n % 101 <> 5;
             insert into added select 'key-' || n % 20, sum(n) from generate_series(1000, 1199) n
                 where n % 97 <> 13 and n % 50 <> 7 and n % 101 <> 5 group by 1
                 on conflict (key) do update set total = added.total + excluded.total; commit",
        );
        scene.produce(1_000..2_500);
        scene.wait_stands(2_500);
        let conflicts = engine.metric("biplane_stage_offset_conflicts_total", &[]);
        assert_eq!(conflicts > 0.0, without == INTACT, "{conflicts}");
        scene.seen(2_500)
    }
    assert_eq!(check(INTACT), (0, 0, true));
    #[cfg(debug_assertions)]
    assert!(check("compare-and-set").1 > 100);
}

/// Records that the server refuses are found among those that share their statement, and fail alone; all others
/// are written in the order of offsets.
#[test]
fn records_share_statements_and_one_that_is_refused_fails_alone() {
    const COUNT: i64 = 2_000;
    let (head, _) = STAGE.split_once("[[STAGE.steps]]\nname ").expect("steps that write");
    let scene = Scene::new(1, &format!("{head}{BATCHED}"), INTACT, TestDatabase::new());
    scene.produce(0..COUNT);
    let _engine = scene.start("one");
    scene.wait_stands(COUNT);
    assert_eq!(scene.seen(COUNT), (0, 0, true));
    assert_eq!(scene.dead(), refused(COUNT));
    let disordered = "select count(*) from (select number < lag(number) over (order by id) as back from noted) n where back";
    assert_eq!(scene.number(disordered), 0);
    let transactions = scene.number("select count(distinct xmin::text) from noted");
    assert!(transactions < COUNT / 8, "{transactions} transactions");
}

/// One record meets a lock that it does not get for two attempts: it waits, as do the effects of all behind it.
#[test]
fn a_record_that_is_refused_for_a_while_is_tried_again() {
    let stage = STAGE.replace("values (:number)\"", "values (judged(:number))\"").replace(
        "[STAGE]",
        "[retries.soon]\nmax_attempts = 5\nbackoff = { delays = [\"50ms\"] }\n\n[STAGE]\nretry = \"soon\"",
    );
    let scene = Scene::new(1, &stage, INTACT, TestDatabase::new());
    scene.database.execute(
        "create sequence tries; create function judged(n bigint) returns bigint language plpgsql as $$ begin
             if n = 60 and nextval('tries') < 5 then raise exception using errcode = '55P03', message = 'not yet'; end if;
             return n; end $$",
    );
    scene.produce(0..200);
    let engine = scene.start("one");
    scene.wait_stands(200);
    assert_eq!(scene.seen(200), (0, 0, true));
    assert_eq!(scene.dead(), refused(200));
    assert!(engine.metric("biplane_stage_records_retried_total", &[]) >= 1.0);
}

/// What is sent again to the stage is read from its replay topic, which stands in the database as well.
#[test]
fn a_dead_letter_that_is_replayed_has_its_effect_once() {
    let scene = Scene::new(2, STAGE, INTACT, TestDatabase::new());
    let url = scene.database.url();
    scene.produce(0..300);
    let mut engine = scene.start("one");
    scene.wait_stands(300);
    wait_until("the dead letters are there", DEADLINE, || scene.dead() == refused(300));
    scene.database.execute("alter table noted drop constraint noted_number_check");
    let arguments = ["replays", "start", "--dlq", "dead", "--code", "sql-23514", "--yes"];
    ask_with(&scene.bed.root, &scene.bed.prefix, &arguments, &[("APP_URL", &url)]).well();
    let again = refused(300).into_iter().filter(|number| number % 97 != 13).count() as i64;
    wait_until("they are read again", DEADLINE, || scene.stands() == 300 + again);
    assert_eq!(
        scene.number("select count(*) from noted"),
        (0..300).filter(|n| is_written(*n)).count() as i64 + again
    );
    engine.kill();
    let _engine = scene.start("one");
    scene.produce(300..400);
    scene.wait_stands(400 + again);
    assert_eq!(scene.number("select count(*) - count(distinct number) from noted"), 0);
}

/// Setting offsets moves the stage in the database, be it at work or not.
#[test]
fn offsets_are_set_in_the_database() {
    let scene = Scene::new(1, STAGE, INTACT, TestDatabase::new());
    let url = scene.database.url();
    let set = |offset: &str| {
        let arguments = ["offsets", "set", "bed", "--to-offset", offset, "--yes"];
        ask_with(&scene.bed.root, &scene.bed.prefix, &arguments, &[("APP_URL", &url)]).well()
    };
    scene.produce(0..500);
    // Without an id, so that it leaves its group as it ends.
    let mut engine = scene.start_with(&[]);
    scene.wait_stands(500);
    let written = |from: i64| (from..500).filter(|number| is_written(*number)).count() as i64;
    let all = || scene.number("select count(*) from noted");
    assert_eq!(all(), written(0));
    wait_until("the group mirrors it", DEADLINE, || scene.bed.committed(&Cluster::shared()) == 500);

    assert_eq!(set("400")["by_engines"], true);
    wait_until("the last hundred are written again", DEADLINE, || all() == written(0) + written(400));
    scene.wait_stands(500);

    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
    assert_eq!(set("300")["by_engines"], false);
    assert_eq!(scene.stands(), 300);
    let mut engine = scene.start_with(&[]);
    scene.wait_stands(500);
    assert_eq!(all(), written(0) + written(400) + written(300));

    // What the group has committed is a mirror and no more.
    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
    assert_eq!(scene.bed.committed(&Cluster::shared()), 500);
    scene.database.execute("update biplane.stage_offset set next_offset = 450");
    let _engine = scene.start_with(&[]);
    scene.wait_stands(500);
    assert_eq!(all(), written(0) + written(400) + written(300) + written(450));
}

/// Without the table nothing is read, and a check says what is missing; a role without rights is told, too.
#[test]
fn a_database_without_the_table_is_told_and_nothing_is_read() {
    let mut database = TestDatabase::new();
    database.execute(TABLES);
    let (role, url) = database.role();
    database.execute(&format!("grant all on noted, added to {role}"));
    let bed = Bed::new(&Cluster::shared(), 1, STAGE, INTACT);
    let brokers = crate::support::brokers();
    let variables = [("APP_URL", url.as_str()), ("BIPLANE_KAFKA_BROKERS", &brokers)];
    let check = || {
        let output = Engine::command(bed.root.path(), &["check", "--online"], &variables);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(check().contains("[database::stage-offset]"), "{}", check());
    let engine = bed.launch_at(Cluster::shared().brokers(), &[("APP_URL", &url)]);
    let told = || engine.log().contains("stage_offset");
    assert!(holds_within(DEADLINE, told), "{}", engine.log());

    let migrate = Engine::command(bed.root.path(), &["migrate", "--database", "app"], &variables);
    let refused = String::from_utf8_lossy(&migrate.stderr).into_owned();
    assert!(!migrate.status.success() && refused.contains("permission denied"), "{refused}");
    let owner = database.url();
    let migrate =
        || Engine::command(bed.root.path(), &["migrate", "--database", "app"], &[("APP_URL", &owner)]);
    assert!(migrate().status.success() && migrate().status.success(), "twice is as good as once");
    assert!(check().contains("[database::stage-offset]"), "the role may not write it yet: {}", check());
    database.execute(&format!("grant usage on schema biplane to {role}; grant select, insert, update on biplane.stage_offset to {role}"));
    assert!(!check().contains("[database::"), "{}", check());
    Cluster::shared().produce(&bed.topic("input"), &[Message::json("a", &json!({ "number": 1 }))]);
    wait_until("the engine goes on", DEADLINE, || database.value("select count(*) from noted") == "1");
}
