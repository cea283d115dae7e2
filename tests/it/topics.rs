//! `biplane topics plan|apply` on a real Kafka, and what `dev` does to topics there.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use crate::support::commands::ask;
use crate::support::{Cluster, ConfigRoot, Engine, brokers, unique};

fn config(name: &str, partitions: u32, retention: &str) -> String {
    format!(
        "[topics.t]\ntopic = \"{name}\"\npartitions = {partitions}\nretention = \"{retention}\"\n\
         [stages.s]\nfrom = \"t\"\nretry = \"built-in\"\ndlq = \"d\"\n\
         [[stages.s.steps]]\nfilter = \"value.ok\"\n\
         [dlqs.d]\ntopic = \"{name}.dlq\"\n"
    )
}

/// The engine's own topics are counted too, so each test has a namespace.
fn command(root: &ConfigRoot, name: &str, arguments: &[&str]) -> Output {
    let variables = [("BIPLANE_KAFKA_BROKERS", &*brokers()), ("BIPLANE_NAMESPACE", name)];
    Engine::command(root.path(), arguments, &variables)
}

fn topics(root: &ConfigRoot, name: &str, arguments: &[&str]) -> (Option<i32>, serde_json::Value) {
    let answer = ask(root, name, &[&["topics"], arguments].concat());
    assert!(!answer.json.is_null(), "{}", answer.errors);
    (answer.code, answer.json)
}

#[test]
fn a_plan_shows_what_apply_does_and_then_there_is_nothing_left() {
    let name = unique("topics");
    let root = ConfigRoot::new(&[("pipelines/a.toml", &config(&name, 2, "1d"))]);
    let (code, plan) = topics(&root, &name, &["plan"]);
    assert_eq!((code, &plan["counts"]["create"]), (Some(1), &3.into()), "the control topic is one: {plan}");
    let (code, dry) = topics(&root, &name, &["apply", "--dry-run"]);
    assert_eq!((code, &dry), (Some(0), &plan), "a dry run makes nothing and shows the same");
    assert_eq!(topics(&root, &name, &["plan"]).1, plan);

    assert_eq!(topics(&root, &name, &["apply", "--yes"]).0, Some(0));
    assert_eq!(topics(&root, &name, &["plan"]).0, Some(0), "nothing is left");

    root.write("pipelines/a.toml", &config(&name, 3, "2d"));
    let (_, plan) = topics(&root, &name, &["apply", "--yes"]);
    assert_eq!((&plan["counts"]["grow"], &plan["counts"]["configure"]), (&1.into(), &1.into()), "{plan}");
    let (code, left) = topics(&root, &name, &["plan"]);
    assert_eq!(code, Some(0), "{left}");

    root.write("pipelines/a.toml", &config(&name, 1, "2d"));
    let (code, plan) = topics(&root, &name, &["apply", "--yes"]);
    assert_eq!((code, &plan["counts"]["refused"]), (Some(1), &1.into()), "a topic never shrinks: {plan}");
    assert_eq!(Cluster::shared().count(&name), 0);
}

#[test]
fn nothing_is_changed_where_nobody_can_be_asked() {
    let name = unique("asked");
    let root = ConfigRoot::new(&[("pipelines/a.toml", &config(&name, 1, "1d"))]);
    let output = command(&root, &name, &["topics", "apply"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--yes"));
    assert_eq!(topics(&root, &name, &["plan"]).1["counts"]["create"], 3);
}

#[test]
fn dev_makes_what_is_missing_and_leaves_alone_what_exists() {
    let name = unique("dev");
    let cluster = Cluster::shared();
    cluster.create_topic(&name, 1, &[("retention.ms", "3600000")]);
    let root = ConfigRoot::new(&[("pipelines/a.toml", &config(&name, 3, "2d"))]);
    let mut dev = Command::new(env!("CARGO_BIN_EXE_biplane"))
        .current_dir(root.path())
        .args(["dev", "--brokers", &brokers(), "--namespace", &name, "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let lines = BufReader::new(dev.stdout.take().expect("its output")).lines();
    let started = lines.map_while(Result::ok).any(|line| line.starts_with("stop"));
    let _ = dev.kill();
    let _ = dev.wait();
    assert!(started, "dev ended before it ran");
    let counts = topics(&root, &name, &["plan"]).1["counts"].clone();
    assert_eq!(counts, serde_json::json!({ "create": 1, "grow": 1, "configure": 1, "refused": 0 }));
}
