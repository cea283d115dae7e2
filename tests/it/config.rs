//! What `check` says: every folder of `tests/configs/err` shows the findings in its `expected.txt`, every
//! folder of `tests/configs/ok` has none, and no code is without a case.
//!
//! With `BIPLANE_UPDATE_EXPECTED=1` the files are written anew; read the difference before it is kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use biplane::catalog::{CheckOptions, Checked, DlqHeaders, KeyState, OnConflict, Outside, Tree, check};
use biplane::diag::{Style, codes, render, to_json};
use biplane::engine::load_tree;
use proptest::prelude::*;

/// The variables of a case: the lines `NAME=value` of its `variables.txt`.
struct Variables(String);

impl Outside for Variables {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    }

    fn mounted(&self, path: &str) -> Result<String, String> {
        Err(format!("{path}: no such file"))
    }
}

fn folders(kind: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs").join(kind);
    let mut folders: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// Checks a case; `options.txt` may hold `require-env` and `environment NAME`.
fn checked(folder: &Path) -> Checked {
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let options = text("options.txt");
    let variables = Variables(text("variables.txt"));
    let options = CheckOptions {
        environment: options.lines().find_map(|line| line.strip_prefix("environment ")),
        require_env: options.lines().any(|line| line == "require-env"),
        outside: &variables,
    };
    sound(check(&load_tree(folder).unwrap(), &options))
}

/// The same; there is a catalog exactly where there are no errors.
fn sound(checked: Checked) -> Checked {
    assert_eq!(checked.catalog.is_none(), checked.errors() > 0, "{}", rendered(&checked));
    checked
}

fn rendered(checked: &Checked) -> String {
    checked
        .findings
        .iter()
        .map(|finding| render(finding, &checked.sources, Style::Plain) + "\n")
        .collect::<Vec<_>>()
        .join("\n")
}

fn code_of(folder: &Path) -> String {
    folder.file_name().unwrap().to_str().unwrap().replace("__", "::")
}

#[test]
fn every_mistake_is_shown_as_expected() {
    let update = std::env::var_os("BIPLANE_UPDATE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    for folder in folders("err") {
        let text = rendered(&checked(&folder));
        let expected = folder.join("expected.txt");
        if update {
            fs::write(&expected, &text).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_finding_says_how_to_mend_it() {
    let mut without = Vec::new();
    for folder in folders("err") {
        let checked = checked(&folder);
        // What is wrong with the syntax is known, what was meant is not.
        let mute = checked.findings.iter().filter(|finding| finding.help.is_empty());
        let mute = mute.filter(|finding| finding.code.name != "toml::syntax");
        without.extend(mute.map(|finding| render(finding, &checked.sources, Style::Plain)));
    }
    assert!(without.is_empty(), "{}", without.join("\n"));
}

#[test]
fn every_case_shows_its_own_code_and_no_error_beside_it() {
    let mut wrong = Vec::new();
    for folder in folders("err") {
        let found: BTreeSet<_> =
            checked(&folder).findings.iter().map(|finding| finding.code.name.to_owned()).collect();
        if found != BTreeSet::from([code_of(&folder)]) {
            wrong.push(format!("{}: {found:?}", code_of(&folder)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_code_has_a_case_and_every_case_a_code() {
    // What only the broker can tell has its cases in `tests/configs/online`, which need one.
    let all = [folders("err"), folders("online")].concat();
    let cases: BTreeSet<_> = all.iter().map(|folder| code_of(folder)).collect();
    let known: BTreeSet<_> = codes::all().map(|code| code.name.to_owned()).collect();
    assert_eq!(known.difference(&cases).collect::<Vec<_>>(), Vec::<&String>::new(), "codes without a case");
    assert_eq!(cases.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "cases without a code");
}

#[test]
fn what_is_right_has_no_findings_and_gives_a_catalog() {
    for folder in folders("ok") {
        let checked = checked(&folder);
        assert_eq!(rendered(&checked), "", "{}", folder.display());
        assert!(checked.catalog.is_some(), "{}", folder.display());
    }
}

#[test]
fn a_finding_for_machines_has_every_field_and_points_where_the_text_does() {
    let folder = folders("err").into_iter().find(|folder| code_of(folder) == "name::duplicate").unwrap();
    let checked = checked(&folder);
    let json = to_json(&checked.findings[0], &checked.sources);
    for field in
        ["code", "severity", "message", "file", "line", "column", "end_line", "end_column", "help", "spans"]
    {
        assert!(json.get(field).is_some(), "{field}");
    }
    let place = format!("{}:{}:{}", json["file"].as_str().unwrap(), json["line"], json["column"]);
    assert!(rendered(&checked).contains(&place), "{place}");
    assert!(json["spans"][0]["line"].is_u64());
}

#[test]
fn the_shipped_example_checks_clean() {
    let checked = checked(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(rendered(&checked), "");
}

#[test]
fn the_command_ends_with_0_when_clean_1_with_errors_and_3_without_a_root() {
    let run = |root: &str, format: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_biplane"))
            .args(["check", "--format", format, "--config"])
            .arg(root)
            .env_remove("BIPLANE_ENVIRONMENT")
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = run("tests/configs/ok/smallest", "text");
    assert_eq!((code, text.as_str()), (Some(0), "no findings in 1 file with 4 definitions\n"));
    let (code, text) = run("tests/configs/err/topic__undefined", "text");
    assert_eq!(code, Some(1));
    assert!(text.contains("error[topic::undefined]") && !text.contains('\u{1b}'), "{text}");
    assert!(text.lines().last().unwrap().starts_with("3 errors in 2 files"), "{text}");
    let (code, text) = run("tests/configs/err/topic__undefined", "json");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, json["errors"].as_u64()), (Some(1), Some(3)));
    assert_eq!(json["findings"][0]["code"], "topic::undefined");
    assert_eq!(run("tests/configs/nowhere", "text").0, Some(3));
    assert_eq!(run("tests/configs/err/retry__parked", "text").0, Some(0), "a warning does not stop a deploy");
}

/// A root with one file, and what a process with `variables` makes of it.
fn check_text(text: &str, extra: &[(&str, &str)], variables: &str, environment: Option<&str>) -> Checked {
    let mut tree = Tree::default();
    tree.insert("pipelines/case.toml", text.as_bytes());
    for (path, text) in extra {
        tree.insert(*path, text.as_bytes());
    }
    let outside = Variables(variables.to_owned());
    sound(check(&tree, &CheckOptions { environment, require_env: true, outside: &outside }))
}

const STAGE: &str = r#"
[env]
slots = { var = "SLOTS", type = "integer", default = 1 }

[topics.raw]
max_message_bytes = "2MiB"

[topics.orders]
topic     = "orders.v1"
retention = "7d"
linger    = "20ms"

[dlqs.failed]
headers = ["connect"]

[defaults.stages]
dlq         = "failed"
concurrency = 4
drain       = "3s"

[stages.import]
from        = "raw"
to          = "orders"
concurrency = "{{ env.slots }}"
"#;

#[test]
fn a_setting_comes_from_its_key_then_the_defaults_then_what_is_built_in() {
    let catalog = check_text(STAGE, &[], "", None).catalog.unwrap();
    let stage = &catalog.stages()["import"];
    assert_eq!(stage.concurrency, 1, "the key wins over the defaults");
    assert_eq!(stage.drain, Duration::from_secs(3), "the defaults win over what is built in");
    assert_eq!((stage.deadline, stage.window.records), (Duration::from_secs(600), 10_000));
    assert_eq!((&*stage.retry.name, stage.retry.max_attempts), ("built-in", 3));
}

#[test]
fn a_span_bounds_records_and_bytes() {
    let span = |written: &str| {
        let text = format!("{STAGE}{written}\n");
        let span = check_text(&text, &[], "", None).catalog.unwrap().stages()["import"].span;
        (span.records, span.bytes.0)
    };
    assert_eq!(span(""), (100_000, 1 << 30));
    assert_eq!(span("span.records = 500"), (500, 1 << 30));
    assert_eq!(span("span.bytes = \"2MiB\""), (100_000, 2 << 20));
    assert_eq!(span("span = { records = 7, bytes = \"1KiB\" }"), (7, 1 << 10));
}

#[test]
fn an_env_value_comes_from_the_process_then_the_environment_then_its_default() {
    let production = [("environments/production.toml", "slots = 2\n")];
    let slots = |variables, environment| {
        let checked = check_text(STAGE, &production, variables, environment);
        checked.catalog.unwrap().stages()["import"].concurrency
    };
    assert_eq!(slots("SLOTS=3", Some("production")), 3);
    assert_eq!(slots("", Some("production")), 2);
    assert_eq!(slots("", None), 1);
}

#[test]
fn topics_carry_the_settings_that_the_files_name_and_no_others() {
    let catalog = check_text(STAGE, &[], "", None).catalog.unwrap();
    let orders = &catalog.topics()["orders"];
    assert_eq!(&*orders.physical, "orders.v1");
    assert_eq!(
        orders.settings.iter().collect::<Vec<_>>(),
        [(&"retention.ms".to_owned(), &"604800000".to_owned())]
    );
    assert_eq!(orders.linger, Some(Duration::from_millis(20)));
    let dlq = &catalog.dlqs()["failed"];
    assert_eq!(&*dlq.topic.physical, "failed.dlq");
    let room = (2 << 20) + (64 << 10);
    assert_eq!(dlq.topic.settings["max.message.bytes"], room.to_string(), "its inputs' plus 64 KiB");
    assert_eq!(dlq.headers, [DlqHeaders::Biplane, DlqHeaders::Connect]);
}

const JOBS: &str = r#"
[defaults.queues]
global_concurrency = 6

[queues.sync]
[queues.keyed]
concurrency = 2
per_key     = { key = "args.tenant", concurrency = 1 }

[defaults.jobs]
queue   = "sync"
timeout = "5m"

[jobs.report]
unique.by = ["args.b", "args.a"]
unique.while = ["running", "queued", "running"]

[[jobs.report.steps]]
http.url = "http://reports"

[jobs.other]
queue     = "keyed"
timeout   = "1m"
unique.by = ["args"]

[[jobs.other.steps]]
log = "{{ args }}"
"#;

#[test]
fn a_job_comes_with_its_queue_its_policy_and_what_tells_it_from_others() {
    let catalog = check_text(JOBS, &[], "", None).catalog.unwrap();
    let (report, other) = (&catalog.jobs()["report"], &catalog.jobs()["other"]);
    assert_eq!(
        (&*report.queue.name, report.queue.concurrency, report.queue.global_concurrency),
        ("sync", 6, Some(6))
    );
    assert_eq!((report.timeout.as_secs(), other.timeout.as_secs()), (300, 60));
    assert_eq!((report.priority, report.checkpoint, &*report.retry.name), (5, true, "built-in"));
    let unique = report.unique.as_ref().unwrap();
    assert_eq!(unique.by.iter().map(ToString::to_string).collect::<Vec<_>>(), ["args.b", "args.a"]);
    assert_eq!(unique.states, [KeyState::Queued, KeyState::Running]);
    assert_eq!((unique.period, unique.on_conflict), (None, OnConflict::Keep));
    assert!(!other.unique.as_ref().unwrap().states.contains(&KeyState::Failed));
    let keyed = &catalog.queues()["keyed"];
    assert_eq!(keyed.turns.as_ref(), keyed.per_key.as_ref().map(|limit| &limit.key));
    assert!(report.queue.turns.is_none());
    assert_eq!(report.steps.len(), 1);
}

#[test]
fn an_edit_touches_the_jobs_that_come_by_it_and_no_others() {
    let prints = |text: &str| {
        let catalog = check_text(text, &[], "", None).catalog.unwrap();
        ["report", "other"].map(|job| catalog.job_fingerprint(job).unwrap())
    };
    let before = prints(JOBS);
    let touched = |from: &str, to: &str| {
        assert!(JOBS.contains(from), "{from}");
        let after = prints(&JOBS.replace(from, to));
        [before[0] != after[0], before[1] != after[1]]
    };
    assert_eq!(touched("concurrency = 2", "concurrency = 3"), [false, true]);
    assert_eq!(touched("http://reports", "http://report"), [true, false]);
    assert_eq!(touched("\"5m\"", "\"6m\""), [true, true]);
    assert_eq!(touched("[jobs.other]\n", "[jobs.other]\ndescription = \"x\"\n"), [false, false]);
}

/// What is found in a job with these steps.
fn found_in_steps(steps: &str) -> Vec<String> {
    let text = format!("[queues.q]\n[jobs.a]\nqueue = \"q\"\n{steps}");
    let checked = check_text(&text, &[], "", None);
    let found = checked.findings.iter();
    found.map(|finding| format!("{}: {}", finding.code.name, finding.message)).collect()
}

#[test]
fn what_a_job_s_expressions_see_is_known_before_one_runs() {
    let log = |text: &str| found_in_steps(&format!("[[jobs.a.steps]]\nlog = \"{text}\"\n"));
    for fine in
        ["{{ args.x }}{{ job.id }}{{ fire_at }}{{ value }}", "{% for key in args %}{{ key.x }}{% endfor %}"]
    {
        assert_eq!(log(fine), Vec::<String>::new(), "{fine}");
    }
    for (text, expected) in [
        ("{{ key }}", "expression::unknown: `key` is not in scope here"),
        ("{{ topic }}", "expression::unknown: `topic` is not in scope here"),
        ("{{ window.start }}", "expression::unknown: `window` is not in scope here"),
        ("{{ arg.x }}", "expression::unknown: there is no variable `arg`"),
        ("{{ job.atempt }}", "expression::unknown: there is no `job.atempt`"),
        ("{{ steps.b.status }}", "expression::unknown-step: no step `b` has run before this place"),
    ] {
        assert_eq!(log(text), [expected]);
    }
    let stage = format!("{STAGE}\n[[stages.import.steps]]\nlog = \"{{{{ args.x }}}}\"\n");
    let found: Vec<_> = check_text(&stage, &[], "", None).findings;
    assert_eq!(
        found.iter().map(|finding| &*finding.message).collect::<Vec<_>>(),
        ["`args` is not in scope here"]
    );
}

#[test]
fn a_job_needs_a_queue_of_its_own_or_from_the_defaults() {
    let steps = "[[jobs.a.steps]]\nlog = \"x\"\n";
    let found = |text: &str| {
        let checked = check_text(&format!("[queues.q]\n{text}{steps}"), &[], "", None);
        checked.findings.iter().map(|finding| finding.code.name).collect::<Vec<_>>()
    };
    assert_eq!(found("[jobs.a]\nqueue = \"q\"\n"), Vec::<&str>::new());
    assert_eq!(found("[defaults.jobs]\nqueue = \"q\"\n[jobs.a]\n"), Vec::<&str>::new());
    assert_eq!(found("[jobs.a]\n"), ["name::unused", "key::missing"]);
    assert_eq!(found("[jobs.a]\nqueue = 7\n"), ["name::unused", "value::type"]);
}

#[test]
fn a_step_that_waits_for_a_callback_keeps_no_answers() {
    let step = "[[jobs.a.steps]]\nhttp.url = \"http://h/\"\nhttp.callback_within = \"1h\"\n";
    assert_eq!(found_in_steps(step), Vec::<String>::new());
    let cached = format!("{step}http.cache = {{ key = \"args.x\", ttl = \"1m\", max_bytes = \"1MiB\" }}\n");
    assert_eq!(
        found_in_steps(&cached),
        ["key::conflict: `http` of step `http` of job `a` has both `callback_within` and `cache`"]
    );
}

#[test]
fn a_job_s_key_behind_its_first_step_is_found_there() {
    let step = "[[jobs.a.steps]]\nlog = \"x\"\n";
    assert_eq!(
        found_in_steps(&format!("{step}priority = 3\n")),
        ["toml::key-after-steps: `priority` is a key of the job, but stands in step 1 of job `a`"]
    );
    assert_eq!(
        found_in_steps("[[jobs.a.steps]]\nmap.n = 1\nmap.expires = \"5m\"\n"),
        [
            "toml::key-in-map: `expires` becomes a field of step `map` of job `a`, though it looks like a key of the job"
        ]
    );
}

#[test]
fn the_digest_follows_the_files_and_the_values_but_not_the_order_of_reading() {
    let digest = |text: &str, variables: &str| {
        check_text(text, &[], variables, None).catalog.unwrap().digest().to_owned()
    };
    assert_eq!(digest(STAGE, ""), digest(STAGE, ""));
    assert_ne!(digest(STAGE, ""), digest(STAGE, "SLOTS=9"));
    assert_ne!(digest(STAGE, ""), digest(&format!("{STAGE}owner = \"us\"\n"), ""));
}

#[test]
fn a_secret_stands_in_no_finding_and_in_no_catalog_that_is_printed() {
    let text = r#"
[env]
token = { var = "TOKEN", secret = true }
port  = { var = "PORT", type = "integer", secret = true }

[topics.raw]
[topics.orders]
[dlqs.failed]

[http_clients.crm]
base_url = "http://crm"
bearer   = "{{ env.token }}"

[stages.import]
from = "raw"
to   = "orders"
dlq  = "failed"

[[stages.import.steps]]
http.client = "crm"
http.path   = "/"
"#;
    let checked = check_text(text, &[], "TOKEN=c4n4ry\nPORT=c4n4ry", None);
    assert!(checked.errors() > 0);
    assert!(!format!("{:?}{}", checked.findings, rendered(&checked)).contains("c4n4ry"));
    let checked = check_text(text, &[], "TOKEN=c4n4ry\nPORT=1", None);
    let catalog = checked.catalog.unwrap();
    assert!(!format!("{catalog:?}").contains("c4n4ry"));
}

const TOURS: [(&str, &str); 2] =
    [("language-tour", "pipelines/ingest.toml"), ("jobs-tour", "pipelines/case.toml")];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever an editor leaves half-written: findings, never a panic, and a catalog only without errors.
    #[test]
    fn no_damage_to_a_file_panics(tour in 0usize..2, start in 0usize..3_000, length in 0usize..40, insert in "[\\[\\]{}=\"'.a-z\\\\\n]{0,6}") {
        let (tour, file) = TOURS[tour];
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs/ok").join(tour);
        let mut tree = load_tree(&path).unwrap();
        let mut bytes = tree.get(file).unwrap().to_vec();
        let start = start.min(bytes.len());
        let end = (start + length).min(bytes.len());
        bytes.splice(start..end, insert.into_bytes());
        tree.insert(file, bytes);
        let outside = Variables(String::new());
        let checked = check(&tree, &CheckOptions { environment: None, require_env: false, outside: &outside });
        prop_assert_eq!(checked.catalog.is_none(), checked.errors() > 0);
        rendered(&checked);
    }
}
