//! What `explain SECTION.NAME` shows: every setting that is read, its value, and where that came from.

use std::collections::BTreeSet;

use biplane::catalog::{CheckOptions, Explained, Language, Nothing, Setting, Shown, Tree, check, explain};
use biplane::spec::{Origin, Shape, Takes};

use crate::support::{ConfigRoot, Engine};

/// One definition of each section that says nothing it need not say.
const SMALLEST: [(&str, &str, &str); 9] = [
    ("topics", "raw", ""),
    ("topics", "orders", ""),
    ("dlqs", "failed", ""),
    ("retries", "gentle", ""),
    ("http_clients", "crm", "base_url = \"http://crm\"\n"),
    ("stages", "import", "from = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n"),
    ("queues", "sync", ""),
    ("jobs", "report", "queue = \"sync\"\nsteps = [{ log = \"x\" }]\n"),
    ("databases", "app", "url = \"postgres://db/app\"\n"),
];

const OPTIONS: CheckOptions<'static> =
    CheckOptions { environment: None, require_env: false, outside: &Nothing };

fn tree(text: &str) -> Tree {
    let mut tree = Tree::default();
    tree.insert("pipelines/case.toml", text.as_bytes());
    tree
}

fn smallest(more: impl Fn(&str, &str) -> String) -> String {
    let definition = |(section, name, own): (&str, &str, &str)| {
        format!("[{section}.{name}]\n{own}{}\n", more(section, name))
    };
    SMALLEST.into_iter().map(definition).collect()
}

fn settings(text: &str, section: &str, name: &str) -> Vec<Setting> {
    let Explained { checked, settings } = explain(&tree(text), &OPTIONS, section, name);
    settings.unwrap_or_else(|| panic!("{:?}", checked.findings))
}

/// The keys of a shape as `explain` names them; what stands in lists and under the user's own names has
/// no key of its own.
fn leaves(shape: &Shape, before: &str, keys: &mut BTreeSet<String>) {
    for (key, own) in &shape.keys {
        match own.takes.iter().find_map(|takes| match takes {
            Takes::Table(inner) if inner.rest.is_none() => Some(inner),
            _ => None,
        }) {
            Some(inner) => leaves(inner, &format!("{before}{key}."), keys),
            None => {
                keys.insert(format!("{before}{key}"));
            }
        }
    }
}

#[test]
fn every_setting_that_is_read_is_shown_and_no_other() {
    let (language, text) = (Language::learn(), smallest(|_, _| String::new()));
    for (section, name, _) in SMALLEST {
        let mut read = BTreeSet::new();
        leaves(&language.sections[section], "", &mut read);
        let settings = settings(&text, section, name);
        // Of steps that are written each has keys of its own.
        let key = |key: &str| if key.starts_with("steps.") { "steps".to_owned() } else { key.to_owned() };
        let shown: BTreeSet<_> = settings.iter().map(|setting| key(&setting.key)).collect();
        assert_eq!(shown, read, "{section}");
        for setting in &settings {
            assert_ne!(
                setting.value,
                Shown::Said("unknown"),
                "{section}: what is `{}` built in as?",
                setting.key
            );
        }
    }
}

#[test]
fn writing_down_what_is_built_in_changes_nothing() {
    let plain = smallest(|_, _| String::new());
    let mut written = 0;
    let spelt_out = smallest(|section, name| {
        settings(&plain, section, name)
            .into_iter()
            .filter_map(|setting| match (setting.origin, setting.value) {
                (None, Shown::Value(value)) => Some(format!("{} = {value}\n", setting.key)),
                _ => None,
            })
            .collect()
    });
    for (section, name, _) in SMALLEST {
        let all = settings(&spelt_out, section, name);
        written += all.iter().filter(|setting| setting.origin.is_some()).count();
    }
    assert!(written > 30, "{written}: {spelt_out}");
    let catalog = |text: &str| {
        let checked = check(&tree(text), &OPTIONS);
        let catalog = checked.catalog.unwrap_or_else(|| panic!("{:?}", checked.findings));
        format!("{catalog:#?}").replace(catalog.digest(), "")
    };
    assert_eq!(catalog(&spelt_out), catalog(&plain), "{spelt_out}");
}

const TOUR: &str = r#"[env]
slots = { var = "SLOTS", type = "integer", default = 4 }
wait  = { var = "WAIT" }
token = { var = "TOKEN", secret = true, file = "/no/such" }

[defaults.stages]
retry  = "gentle"
window = { records = 500 }

[topics."raw.events"]
settings = { "min.insync.replicas" = 1 }

[topics.orders]

[dlqs.failed]

[retries.gentle]
delays = ["1s", "2s"]

[http_clients.crm]
base_url = "http://crm"
bearer   = "Bearer {{ env.token }}"

[stages.import]
labels.tier = "gold"
from        = "raw.events"
dlq         = "failed"
concurrency = "{{ env.slots }}"
drain       = "{{ env.wait }}"

[[stages.import.steps]]
name      = "who"
http.url  = "http://crm/{{ value.id }}"
http.into = "who"

[[stages.import.outputs]]
to  = "orders"
"#;

fn explained(arguments: &[&str]) -> (Option<i32>, String, String) {
    let root = ConfigRoot::new(&[("pipelines/case.toml", TOUR)]);
    let variables = [("TOKEN", "c4n4ry")];
    let output = Engine::command(root.path(), &[&["explain"], arguments].concat(), &variables);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_setting_comes_with_its_file_and_line_its_defaults_or_as_built_in() {
    for subject in ["stages.import", "topics.raw.events", "retries.gentle", "http_clients.crm", "dlqs.failed"]
    {
        let (code, text, errors) = explained(&[subject]);
        assert_eq!(code, Some(0), "{errors}");
        insta::assert_snapshot!(format!("explain_{subject}"), text);
        assert!(!text.contains("c4n4ry"), "{text}");
    }
    let (code, json, _) = explained(&["http_clients.crm", "--format", "json"]);
    assert_eq!(code, Some(0));
    assert!(!json.contains("c4n4ry"), "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let of = |key: &str| json["settings"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap();
    assert_eq!((&of("base_url")["origin"], &of("base_url")["line"]), (&"key".into(), &21.into()));
    assert_eq!((&of("bearer")["note"], &of("bearer")["value"]), (&"secret".into(), &().into()));
    assert_eq!((&of("timeout")["value"], &of("timeout")["origin"]), (&"10s".into(), &"built-in".into()));
}

#[test]
fn defaults_give_way_to_the_table_and_are_told_apart() {
    let settings = settings(TOUR, "stages", "import");
    let origin = |key: &str| settings.iter().find(|setting| setting.key == key).unwrap().origin;
    assert!(matches!(origin("retry"), Some(Origin::Defaults(_))));
    assert!(matches!(origin("window.records"), Some(Origin::Defaults(_))));
    assert!(matches!(origin("dlq"), Some(Origin::Own(_))));
    assert_eq!(origin("window.bytes"), None);
}

#[test]
fn a_name_that_does_not_exist_says_the_nearest() {
    let (code, _, errors) = explained(&["stages.imprt"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("did you mean `stages.import`?"), "{errors}");
    let (code, _, errors) = explained(&["stage.import"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("did you mean `stages`?"), "{errors}");
    let (code, _, errors) = explained(&["topic::undefind"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("did you mean `topic::undefined`?"), "{errors}");
}

#[test]
fn nothing_is_explained_where_the_files_do_not_check() {
    let root = ConfigRoot::new(&[("pipelines/case.toml", &TOUR.replace("\"orders\"", "\"order\""))]);
    let output = Engine::command(root.path(), &["explain", "stages.import"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("topic::undefined"));
}
