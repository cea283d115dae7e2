//! What `check --online` says on a real Kafka and a real Postgres: every folder of `tests/configs/online` shows the
//! findings in its `expected.txt` once the topics in its `topics.txt` and the tables in its `tables.sql` are there.
//!
//! With `BIPLANE_UPDATE_EXPECTED=1` the files are written anew; read the difference before it is kept.

use std::fs;
use std::path::{Path, PathBuf};

use biplane::store::LATEST;

use crate::support::{Cluster, Engine, TestDatabase, brokers, unique};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs/online");
    let mut cases: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// Makes the topics of a case: a line is a name, its partitions and its settings.
fn create_topics(case: &Path, prefix: &str) {
    let text = fs::read_to_string(case.join("topics.txt")).unwrap_or_default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let name = format!("{prefix}.{}", words.next().unwrap());
        let partitions = words.next().unwrap().parse().unwrap();
        let settings: Vec<_> = words.map(|word| word.split_once('=').unwrap()).collect();
        Cluster::shared().create_topic(&name, partitions, &settings);
    }
}

fn check(case: &Path, prefix: &str, brokers: &str) -> (Option<i32>, String, String) {
    check_with(case, prefix, brokers, "postgres://app:canary@127.0.0.1:1/none")
}

fn check_with(case: &Path, prefix: &str, brokers: &str, url: &str) -> (Option<i32>, String, String) {
    let variables = [("PREFIX", prefix), ("BIPLANE_KAFKA_BROKERS", brokers), ("DATABASE_URL", url)];
    let output = Engine::command(case, &["check", "--online"], &variables);
    let latest = format!("needs {LATEST}");
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).unwrap().replace(prefix, "PREFIX").replace(&latest, "needs LATEST")
    };
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_the_broker_has_otherwise_is_shown_where_it_is_defined() {
    let update = std::env::var_os("BIPLANE_UPDATE_EXPECTED").is_some();
    for case in cases() {
        let prefix = unique("online");
        create_topics(&case, &prefix);
        let database = TestDatabase::new();
        database.execute(&fs::read_to_string(case.join("tables.sql")).unwrap_or_default());
        let (code, text, errors) = check_with(&case, &prefix, &brokers(), &database.url());
        assert_eq!(code, Some(1), "{text}{errors}");
        let name = case.file_name().unwrap().to_str().unwrap().replace("__", "::");
        assert!(text.contains(&format!("[{name}]")), "{name}: {text}");
        let expected = case.join("expected.txt");
        if update {
            fs::write(&expected, &text).unwrap();
        }
        assert_eq!(fs::read_to_string(&expected).unwrap_or_default(), text, "{name}");
    }
}

#[test]
fn topics_as_the_files_want_them_are_no_finding() {
    let case = cases().into_iter().find(|case| case.ends_with("broker__topic-missing")).unwrap();
    let prefix = unique("online");
    Cluster::shared().create_topic(&format!("{prefix}.raw"), 1, &[]);
    let brokers = brokers();
    let variables =
        [("PREFIX", &*prefix), ("BIPLANE_KAFKA_BROKERS", &*brokers), ("BIPLANE_NAMESPACE", &*prefix)];
    let applied = Engine::command(&case, &["topics", "apply", "--yes"], &variables);
    assert_eq!(applied.status.code(), Some(0), "{}", String::from_utf8_lossy(&applied.stderr));
    let (code, text, errors) = check(&case, &prefix, &brokers);
    assert_eq!((code, text.lines().count()), (Some(0), 1), "{text}{errors}");
}

#[test]
fn a_broker_that_cannot_be_asked_is_no_finding_but_an_incomplete_check() {
    let case = &cases()[0];
    let (code, text, errors) = check(case, "no-prefix", "127.0.0.1:1");
    assert_eq!(code, Some(3), "{text}{errors}");
    assert!(text.starts_with("no findings in "), "what was found offline is shown all the same: {text}");
    assert!(errors.contains("the brokers could not be asked"), "{errors}");
    let (code, _, errors) = check(case, "no-prefix", "");
    assert_eq!(code, Some(2), "{errors}");
    let broken = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs/err/topic__undefined");
    let (code, text, errors) = check(&broken, "no-prefix", "127.0.0.1:1");
    assert_eq!(code, Some(1), "{errors}");
    assert!(text.contains("topic::undefined") && errors.contains("not asked"), "{text}{errors}");
}

#[test]
fn a_database_that_cannot_be_asked_is_no_finding_but_an_incomplete_check() {
    let case = cases().into_iter().find(|case| case.ends_with("database__migrations")).unwrap();
    let (code, text, errors) = check(&case, "no-prefix", &brokers());
    assert_eq!(code, Some(3), "{text}{errors}");
    assert!(errors.contains("a database could not be asked") && !errors.contains("canary"), "{errors}");
    let (code, _, errors) = check_with(&case, "no-prefix", &brokers(), "");
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("DATABASE_URL"), "{errors}");
}
