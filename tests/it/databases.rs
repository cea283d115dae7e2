//! `migrate` and `databases check` on a real server: fresh, current, newer, without rights, unreachable.

use std::process::Output;
use std::time::Duration;

use crate::support::{ConfigRoot, Engine, TestDatabase, wait_until};

const NOWHERE: &str = "postgres://app:canary@127.0.0.1:1/none";

#[test]
fn an_empty_database_is_migrated_once_and_is_current_after_that() {
    let database = TestDatabase::new();
    let url = database.url();
    let planned = run(&["migrate", "--dry-run"], &url);
    assert_eq!(code(&planned), 0, "{}", err(&planned));
    assert!(out(&planned).contains("would apply 1 jobs"), "{}", out(&planned));
    assert_eq!(database.value("select count(*) from pg_namespace where nspname = 'biplane'"), "0");

    let done = run(&["migrate"], &url);
    assert_eq!(code(&done), 0, "{}", err(&done));
    assert_eq!(database.value("select count(*) > 0 from biplane.migration"), "true");
    let again = run(&["migrate", "--format", "json"], &url);
    let told: serde_json::Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!((told["applied"].as_array().map(Vec::len), &told["before"]), (Some(0), &told["latest"]));

    let checked = run(&["databases", "check"], &url);
    assert_eq!(code(&checked), 0, "{}{}", out(&checked), err(&checked));
    assert!(out(&checked).contains("direct"), "{}", out(&checked));
    assert!(out(&checked).contains("7 days ahead"), "{}", out(&checked));
}

#[test]
fn many_sessions_that_migrate_at_once_apply_each_migration_once() {
    let database = TestDatabase::new();
    let root = ConfigRoot::new(&[]);
    let url = database.url();
    let variables = [("DATABASE_URL", url.as_str())];
    let running: Vec<_> =
        (0..4).map(|_| Engine::begin(root.path(), &["migrate", "--format", "json"], &variables)).collect();
    let mut applied = 0;
    for process in running {
        let output = process.wait_with_output().expect("it ends");
        assert_eq!(code(&output), 0, "{}", err(&output));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        applied += told["applied"].as_array().expect("a list").len();
    }
    assert_eq!(database.value("select count(*) from biplane.migration"), applied.to_string());
}

#[test]
fn another_schema_holds_everything_where_one_is_named() {
    let database = TestDatabase::new();
    let url = database.url();
    let variables = [("DATABASE_URL", url.as_str()), ("BIPLANE_DATABASE_SCHEMA", "work_2")];
    let done = with(&["migrate"], &variables);
    assert_eq!(code(&done), 0, "{}", err(&done));
    assert_eq!(database.value("select count(*) from pg_namespace where nspname = 'biplane'"), "0");
    assert_eq!(database.value("select to_regclass('work_2.ready') is not null"), "true");
    assert_eq!(code(&with(&["databases", "check"], &variables)), 0);
    let refused = with(&["migrate", "--database-schema", "public"], &variables);
    assert_eq!(code(&refused), 2);
}

#[test]
fn a_database_that_was_not_migrated_is_a_finding() {
    let database = TestDatabase::new();
    let checked = run(&["databases", "check", "--format", "json"], &database.url());
    assert_eq!(code(&checked), 1, "{}", err(&checked));
    let told: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    assert_eq!(told["version"], 0);
    assert!(
        told["problems"][0].as_str().is_some_and(|problem| problem.contains("biplane migrate")),
        "{told}"
    );
}

#[test]
fn a_schema_that_a_newer_program_made_is_refused_only_where_it_has_shrunk() {
    let database = TestDatabase::new();
    let url = database.url();
    assert_eq!(code(&run(&["migrate"], &url)), 0);
    database.execute("insert into biplane.migration values (1000, 'grown', 1, 'x')");
    for command in [&["migrate"][..], &["databases", "check"]] {
        let output = run(command, &url);
        assert_eq!(code(&output), 0, "{command:?}: {}{}", out(&output), err(&output));
    }
    database.execute("insert into biplane.migration values (1001, 'shrunk', 1000, 'x')");
    let migrated = run(&["migrate"], &url);
    assert_eq!(code(&migrated), 3);
    assert!(err(&migrated).contains("run a newer biplane"), "{}", err(&migrated));
    let checked = run(&["databases", "check"], &url);
    assert_eq!(code(&checked), 1);
    assert!(out(&checked).contains("run a newer biplane"), "{}", out(&checked));
}

#[test]
fn a_role_without_rights_is_told_what_it_lacks() {
    let mut database = TestDatabase::new();
    let (role, plain) = database.role();
    let refused = run(&["migrate"], &plain);
    assert_eq!(code(&refused), 3);
    assert!(err(&refused).contains(&role) && err(&refused).contains("CREATE"), "{}", err(&refused));

    assert_eq!(code(&run(&["migrate"], &database.url())), 0);
    let refused = run(&["databases", "check"], &plain);
    assert_eq!(code(&refused), 3, "{}", out(&refused));
    database.execute(&format!(
        "grant usage on schema biplane to {role}; grant select on biplane.migration to {role}"
    ));
    let checked = run(&["databases", "check"], &plain);
    assert_eq!(code(&checked), 1, "{}", err(&checked));
    assert!(out(&checked).contains("DELETE on table `biplane.ready`"), "{}", out(&checked));

    let grants = documented_grants().replace("ROLE", &role);
    database.execute(&grants);
    let checked = run(&["databases", "check"], &plain);
    assert_eq!(code(&checked), 0, "{}{}", out(&checked), err(&checked));
    // Upkeep needs no right to make tables: the functions run as their owner.
    database.execute(&format!("set role {role}; select biplane.upkeep_ahead(9)"));
    let checked = run(&["databases", "check"], &plain);
    assert!(out(&checked).contains("9 days ahead"), "{}", out(&checked));
}

#[test]
fn a_server_that_cannot_be_used_is_told_without_its_password() {
    let database = TestDatabase::new();
    let down = run(&["migrate"], NOWHERE);
    assert_eq!(code(&down), 3);
    assert!(err(&down).contains("127.0.0.1:1/none (DATABASE_URL): connection refused"), "{}", err(&down));
    let wrong = run(&["databases", "check"], &database.url_as("postgres", "canary"));
    assert_eq!(code(&wrong), 3);
    assert!(err(&wrong).contains("password authentication failed"), "{}", err(&wrong));
    let missing = run(&["migrate"], &format!("{}_gone", database.url_as("postgres", "biplane")));
    assert_eq!(code(&missing), 3);
    assert!(err(&missing).contains("does not exist"), "{}", err(&missing));
    let none = with(&["migrate"], &[]);
    assert_eq!(code(&none), 2);
    let strange = run(&["migrate"], "mysql://app:canary@x/y");
    assert_eq!(code(&strange), 2);
    for output in [down, wrong, strange] {
        let told = format!("{}{}", out(&output), err(&output));
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn a_direct_url_to_another_database_is_a_finding() {
    let (database, other) = (TestDatabase::new(), TestDatabase::new());
    for url in [database.url(), other.url()] {
        assert_eq!(code(&run(&["migrate"], &url)), 0);
    }
    let (main, direct) = (database.url(), other.url());
    let mut variables =
        vec![("DATABASE_URL", main.as_str()), ("BIPLANE_DATABASE_DIRECT_URL", direct.as_str())];
    let checked = with(&["databases", "check"], &variables);
    assert_eq!(code(&checked), 1, "{}", err(&checked));
    assert!(out(&checked).contains("another database"), "{}", out(&checked));
    variables[1].1 = main.as_str();
    assert_eq!(code(&with(&["databases", "check"], &variables)), 0);
}

#[test]
fn an_engine_that_is_told_to_migrates_before_it_starts() {
    let database = TestDatabase::new();
    let (root, url) = (ConfigRoot::example("migrating"), database.url());
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("BIPLANE_KAFKA_BROKERS", "127.0.0.1:1"),
        ("BIPLANE_LISTEN", "127.0.0.1:0"),
    ];
    let mut engine = Engine::begin(root.path(), &["run", "--migrate"], &variables);
    wait_until("the tables are there", Duration::from_secs(60), || {
        assert!(matches!(engine.try_wait(), Ok(None)), "it goes on running");
        database.value("select to_regclass('biplane.ready') is not null") == "true"
    });
    engine.kill().expect("it is killed");
    engine.wait().expect("it ends");
    let refused = Engine::command(root.path(), &["run", "--migrate"], &variables[1..]);
    assert_eq!(code(&refused), 2, "{}", err(&refused));
}

#[test]
fn databases_that_the_files_name_are_looked_at_under_their_own_roles() {
    let mut database = TestDatabase::new();
    let (role, app) = database.role();
    let text = "[databases.app]\nurl = \"{{ env.app }}\"\n[env]\napp = { var = \"APP_DATABASE_URL\", secret = true }\n";
    let root = ConfigRoot::new(&[("pipelines/app.toml", text)]);
    let check = |variables: &[(&str, &str)]| {
        Engine::command(root.path(), &["databases", "check", "--format", "json"], variables)
    };
    let alone = check(&[("APP_DATABASE_URL", &app)]);
    assert_eq!(code(&alone), 0, "{}", err(&alone));
    let told: serde_json::Value = serde_json::from_slice(&alone.stdout).expect("JSON");
    let found = &told["databases"][0];
    assert_eq!(
        (&found["name"], &found["role"], &found["route"]),
        (&"app".into(), &role.into(), &"direct".into())
    );
    assert_eq!((told.get("address"), &told["problems"]), (None, &serde_json::json!([])));
    let url = database.url();
    let both = check(&[("APP_DATABASE_URL", &app), ("DATABASE_URL", &url)]);
    assert_eq!(code(&both), 1, "nobody has migrated: {}", err(&both));
    let wrong = app.replace("plain", "canary");
    let refused = check(&[("APP_DATABASE_URL", &wrong)]);
    assert_eq!(code(&refused), 3, "{}", out(&refused));
    assert!(
        err(&refused).contains("(database `app`)") && !err(&refused).contains("canary"),
        "{}",
        err(&refused)
    );
    let unset = check(&[("DATABASE_URL", &url)]);
    assert!(err(&unset).contains("the files have errors"), "{}", err(&unset));
}

/// The grants of docs/database.md, so that the page cannot fall behind the tables.
pub(crate) fn documented_grants() -> String {
    let page = include_str!("../../docs/database.md");
    let (_, rest) = page.split_once("```sql\n-- The engine's role\n").expect("the page has the grants");
    let (grants, _) = rest.split_once("```").expect("their end");
    grants.to_owned()
}

fn run(arguments: &[&str], url: &str) -> Output {
    with(arguments, &[("DATABASE_URL", url)])
}

fn with(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Engine::command(ConfigRoot::new(&[]).path(), arguments, variables)
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
