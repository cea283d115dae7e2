//! The step on real programs: shells, which read their scripts from a config root.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::base::{Class, Failure};
use crate::steps::testing::Bench;

/// A config root with one script, and a step that runs it.
struct Scene {
    root: tempfile::TempDir,
    bench: Bench,
}

impl Scene {
    fn new(script: &str, more: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("programs")).unwrap();
        fs::write(root.path().join("programs/run.sh"), script).unwrap();
        let step = format!(
            "exec.argv = [\"/bin/sh\", \"run.sh\", \"x {{{{ value.id }}}}\"]\nexec.folder = \"programs\"\nexec.into = \"out\"\n{more}"
        );
        let bench = Bench::with_programs(&step, root.path());
        Self { root, bench }
    }

    async fn run(&self, value: Json) -> Result<Json, Failure> {
        let left = self.bench.run_waiting(value).await?;
        assert_eq!(left[0].1.as_ref(), Some(&left[0].0["out"]), "the result stands under `steps`, too");
        Ok(left[0].0["out"].clone())
    }

    async fn failure(script: &str, more: &str) -> Failure {
        Self::new(script, more).run(json!({ "id": 1 })).await.unwrap_err()
    }

    /// The process that a script wrote down.
    fn noted(&self) -> u32 {
        let path = self.root.path().join("programs/pid");
        wait("the script notes a process", || {
            fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))
        });
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// Ended, be it not yet collected by whoever has to.
fn has_ended(process: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    stat.is_err() || stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[tokio::test]
async fn a_program_gets_the_value_and_its_arguments_and_nothing_of_the_environment() {
    let script = "read -r line\necho '{\"progress\": \"half\"}'\necho noise\n\
        printf '{\"in\": %s, \"arg\": \"%s\", \"kind\": \"%s\", \"home\": \"%s\", \"at\": \"%s\"}\\n' \
        \"$line\" \"$1\" \"$KIND\" \"$HOME\" \"${PWD##*/}\"\n";
    let scene = Scene::new(script, "exec.env = { KIND = \"k-{{ value.id }}\", NONE = \"{{ none }}\" }");
    let out = scene.run(json!({ "id": 7 })).await.unwrap();
    assert_eq!(out, json!({ "in": { "id": 7 }, "arg": "x 7", "kind": "k-7", "home": "", "at": "programs" }));
    assert_eq!(Scene::new("", "").run(json!({ "id": 1 })).await, Ok(Json::Null));
}

#[tokio::test]
async fn an_end_other_than_well_is_a_failure_with_its_code_and_last_words() {
    let failure = Scene::failure("echo first >&2; echo 'no such thing' >&2; exit 3", "").await;
    assert_eq!((&*failure.code, failure.class), ("exec-exit-3", Class::Permanent));
    assert!(failure.message.ends_with("no such thing"), "{failure}");
    let failure = Scene::failure("exit 75", "").await;
    assert_eq!((&*failure.code, failure.class), ("exec-exit-75", Class::Transient));
    let failure = Scene::failure("kill -9 $$", "").await;
    assert_eq!((&*failure.code, failure.class), ("exec-signal-9", Class::Transient));
    assert_eq!(Scene::failure("echo no json", "").await.code, "exec-output");
    let failure =
        Scene::failure("while :; do echo 0123456789; done", "exec.max_output_bytes = \"64KiB\"").await;
    assert_eq!(failure.code, "exec-output-too-large");
}

#[tokio::test]
async fn all_that_a_program_started_ends_with_its_run() {
    let scene = Scene::new("sleep 600 & echo $! > pid; wait", "timeout = \"500ms\"");
    assert_eq!(scene.run(json!({ "id": 1 })).await.unwrap_err().code, "timeout");
    let left = scene.noted();
    wait("the child of a program that took too long ends", || has_ended(left));
    let scene = Scene::new("sleep 600 & echo $! > pid; echo 1", "");
    assert_eq!(scene.run(json!({ "id": 1 })).await, Ok(json!(1)), "what it left behind is not waited for");
    let left = scene.noted();
    wait("the child of a program that is done ends", || has_ended(left));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_keeps_the_limits() {
    let script = "read -r line; echo \"[$(ulimit -n), $(ulimit -v), $(ulimit -t)]\"";
    let limits = "exec.limits = { open_files = 32, memory = \"256MiB\", cpu = \"5s\" }";
    assert_eq!(Scene::new(script, limits).run(json!({ "id": 1 })).await, Ok(json!([32, 262_144, 5])));
}

const LINES: &str = "n=0\nwhile read -r line; do\nn=$((n + 1))\ncase \"$line\" in\n\
    *die*) exit 9 ;;\n*busy*) echo '{\"error\": {\"message\": \"busy\", \"retry\": true}}' ;;\n\
    *slow*) sleep 600 ;;\n*) echo '{\"progress\": 1}'; echo \"{\\\"n\\\": $n, \\\"pid\\\": $$}\" ;;\nesac\ndone\n";

#[tokio::test]
async fn a_program_that_is_kept_answers_line_by_line_and_is_replaced_when_it_dies() {
    let step = LINES.replace("$1", "");
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("run.sh"), step).unwrap();
    let step =
        "timeout = \"2s\"\nexec.argv = [\"/bin/sh\", \"run.sh\"]\nexec.mode = \"lines\"\nexec.into = \"out\"";
    let bench = Bench::with_programs(step, root.path());
    let run = async |value: Json| bench.run_waiting(value).await.map(|left| left[0].0["out"].clone());
    let (first, second) = (run(json!({})).await.unwrap(), run(json!({})).await.unwrap());
    assert_eq!((&first["n"], &second["n"], &first["pid"]), (&json!(1), &json!(2), &second["pid"]));
    let busy = run(json!({ "id": "busy" })).await.unwrap_err();
    assert_eq!((&*busy.code, busy.class), ("exec-error", Class::Transient));
    assert_eq!(run(json!({ "id": "die" })).await.unwrap_err().code, "exec-exit-9");
    let after = run(json!({})).await.unwrap();
    assert_eq!(after["n"], json!(1));
    assert_ne!(after["pid"], first["pid"]);
    assert_eq!(run(json!({ "id": "slow" })).await.unwrap_err().code, "timeout");
    let killed = u32::try_from(after["pid"].as_u64().unwrap()).unwrap();
    wait("the one that was too slow ends", || has_ended(killed));
    assert_eq!(run(json!({})).await.unwrap()["n"], json!(1));
}

#[test]
fn what_cannot_work_is_reported() {
    let none = Vec::<&str>::new();
    assert_eq!(Bench::findings("exec.argv = [\"programs/a\", \"{{ value.id }}\"]"), none);
    assert_eq!(Bench::findings("exec.argv = [\"{{ env.name }}\"]"), ["exec::program"]);
    assert_eq!(Bench::findings("exec.argv = [\"../a\"]"), ["exec::program"]);
    assert_eq!(Bench::findings("exec.argv = []"), ["value::empty"]);
    let lines = "exec.mode = \"lines\"\n";
    assert_eq!(Bench::findings(&format!("{lines}exec.argv = [\"a\", \"{{{{ env.name }}}}\"]")), none);
    assert_eq!(Bench::findings(&format!("{lines}exec.argv = [\"a\", \"{{{{ key }}}}\"]")), ["exec::lines"]);
    assert_eq!(Bench::findings("exec.argv = [\"a\"]\nexec.programs = 2"), ["key::missing"]);
}
