//! What makes a stage behave as it does, as one number: stages with equal fingerprints run alike, so
//! that an edit touches no others.
//!
//! Errs on the side of a difference. Taken over the stage as written, everything it names, the files
//! behind it and the values of `env`; comments, descriptions and places leave no trace.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::scene::Scene;
use super::steps::WrittenStep;
use super::{Job, Stage, Topic};
use crate::spec::{Definitions, Entry, Node, NodeValue};
use crate::steps::ConfigFiles;

/// What people read and machines ignore.
const ABOUT: [&str; 4] = ["description", "owner", "runbook", "labels"];
/// Sections whose definitions and defaults are taken as written, beside the section of the place itself; topics
/// and DLQs are taken as resolved.
const WRITTEN: [&str; 5] = ["retries", "http_clients", "step_groups", "queues", "databases"];
/// Folders of files that definitions name by their path.
const FOLDERS: [&str; 4] = ["schemas", "lookups", "templates", "sql"];

/// The names that a stage came by, with their sections.
pub(super) type Used = HashSet<(&'static str, String)>;

/// See the module's documentation. Secrets are part of it, so it is never shown or stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(…)")
    }
}

/// The folders in which a file of that name, relative to its folder, lies.
pub(super) struct Named<'a>(HashMap<&'a str, Vec<&'static str>>);

impl<'a> Named<'a> {
    pub(super) fn among(files: &'a impl ConfigFiles) -> Self {
        let mut named: HashMap<&str, Vec<&str>> = HashMap::new();
        for folder in FOLDERS {
            files.under(folder).into_iter().for_each(|name| named.entry(name).or_default().push(folder));
        }
        Self(named)
    }
}

/// The fingerprint of a stage that was resolved and named `used` on the way.
pub(super) fn of(scene: &Scene<'_>, named_files: &Named<'_>, stage: &Stage, used: &Used) -> Fingerprint {
    of_place(scene, named_files, ("stages", &stage.name), &stage.env, used, |parts| add_topics(parts, stage))
}

/// The same of a kind of job.
pub(super) fn of_job(scene: &Scene<'_>, named_files: &Named<'_>, job: &Job, used: &Used) -> Fingerprint {
    of_place(scene, named_files, ("jobs", &job.name), &job.env, used, |_| {})
}

fn of_place(
    scene: &Scene<'_>,
    named_files: &Named<'_>,
    (section, name): (&'static str, &str),
    env: &Json,
    used: &Used,
    more: impl FnOnce(&mut Parts<'_>),
) -> Fingerprint {
    let mut written = Vec::new();
    for section in WRITTEN.into_iter().chain([section]) {
        written.extend(scene.sections.defaults.get(section).map(|defaults| (section, "", *defaults)));
    }
    let own = scene.sections.named(section).and_then(|all| all.get(name));
    written.extend(own.map(|definition| (section, "", *definition)));
    let used: BTreeSet<_> = used.iter().map(|(section, name)| (*section, name.as_str())).collect();
    for (section, name) in used {
        let definition = named(scene, section).and_then(|definitions| definitions.get(name));
        written.extend(definition.map(|definition| (section, name, *definition)));
    }
    let mut parts = Parts { sum: Sha256::new(), texts: BTreeSet::new() };
    for (section, name, definition) in written {
        [section, name].iter().for_each(|part| parts.add(part.as_bytes()));
        parts.add_entries(behaving(&definition.table.entries));
    }
    for path in files(&parts.texts, scene, named_files) {
        parts.add(path.as_bytes());
        parts.add(scene.files.file(&path).unwrap_or_default());
    }
    more(&mut parts);
    parts.add(env.to_string().as_bytes());
    Fingerprint(parts.sum.finalize().into())
}

/// What tells each step, with all that stand before it, from any other list of steps: taken over what is written,
/// over all machines and versions alike.
pub(super) fn of_steps(steps: &[WrittenStep<'_>]) -> Vec<u64> {
    let mut parts = Parts { sum: Sha256::new(), texts: BTreeSet::new() };
    let mut prints = Vec::with_capacity(steps.len());
    for step in steps {
        parts.add_entries(behaving(&step.table.entries));
        let sum = parts.sum.clone().finalize();
        prints.push(u64::from_le_bytes(std::array::from_fn(|index| sum[index])));
    }
    prints
}

/// Those of the entries that are not for people alone.
fn behaving(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| !ABOUT.contains(&entry.key.as_str()))
}

struct Parts<'a> {
    sum: Sha256,
    /// Every text that was added with a definition.
    texts: BTreeSet<&'a str>,
}

impl<'a> Parts<'a> {
    fn add(&mut self, part: &[u8]) {
        self.sum.update((part.len() as u64).to_le_bytes());
        self.sum.update(part);
    }

    fn add_entries(&mut self, entries: impl Iterator<Item = &'a Entry>) {
        self.sum.update(b"{");
        for entry in entries {
            self.add(entry.key.as_bytes());
            self.add_node(&entry.node);
        }
        self.sum.update(b"}");
    }

    /// Each kind of value begins with a byte of its own, so that no two values look alike.
    fn add_node(&mut self, node: &'a Node) {
        match &node.value {
            NodeValue::String(text) => {
                self.sum.update(b"s");
                self.add(text.as_bytes());
                self.texts.insert(text);
            }
            NodeValue::Integer(number) => {
                self.sum.update(b"i");
                self.sum.update(number.to_le_bytes());
            }
            NodeValue::Float(number) => {
                self.sum.update(b"f");
                self.sum.update(number.to_bits().to_le_bytes());
            }
            NodeValue::Boolean(truth) => self.sum.update(if *truth { b"t" } else { b"n" }),
            NodeValue::Datetime(time) => {
                self.sum.update(b"d");
                self.add(time.to_string().as_bytes());
            }
            NodeValue::Array(nodes) => {
                self.sum.update(b"[");
                nodes.iter().for_each(|node| self.add_node(node));
                self.sum.update(b"]");
            }
            NodeValue::Table(table) => self.add_entries(table.entries.iter()),
        }
    }
}

fn named<'a, 'b>(scene: &'b Scene<'a>, section: &str) -> Option<&'b Definitions<'a>> {
    match section {
        "retries" => Some(&scene.sections.retries),
        "http_clients" => Some(&scene.sections.http_clients),
        "step_groups" => Some(&scene.sections.step_groups),
        "queues" => Some(&scene.sections.queues),
        "databases" => Some(&scene.sections.databases),
        "jobs" => Some(&scene.sections.jobs),
        _ => None,
    }
}

/// What of its topics a stage sees.
fn add_topics(parts: &mut Parts<'_>, stage: &Stage) {
    let mut add = |what: &str, topic: &Topic| {
        let Topic { name, physical, max_message_bytes, compression, .. } = topic;
        parts.add(format!("{what} {name} {physical} {max_message_bytes:?} {compression:?}").as_bytes());
    };
    stage.inputs.iter().for_each(|topic| add("from", topic));
    stage.outputs.iter().for_each(|output| add("to", &output.topic));
    if let Some(dlq) = &stage.dlq {
        add("dlq", &dlq.topic);
        parts.add(format!("{} {:?}", dlq.name, dlq.headers).as_bytes());
    }
}

/// The files that any text of a definition names; what a schema may refer to as well.
fn files(texts: &BTreeSet<&str>, scene: &Scene<'_>, named: &Named<'_>) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for text in texts {
        for folder in named.0.get(text).into_iter().flatten() {
            let path = format!("{folder}/{text}");
            let bytes = scene.files.file(&path).unwrap_or_default();
            if *folder == "schemas" && refers(&serde_json::from_slice(bytes).unwrap_or_default()) {
                files.extend(scene.files.under(folder).iter().map(|name| format!("{folder}/{name}")));
            }
            files.insert(path);
        }
    }
    files
}

/// Whether a schema refers to anything outside itself.
fn refers(schema: &Json) -> bool {
    match schema {
        Json::Array(values) => values.iter().any(refers),
        Json::Object(fields) => fields.iter().any(|(key, value)| {
            let reference = key.starts_with('$') && key.to_ascii_lowercase().ends_with("ref");
            reference && value.as_str().is_some_and(|target| !target.starts_with('#')) || refers(value)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::catalog::{Catalog, CheckOptions, Nothing, Tree, check};

    const PIPELINE: &str = r#"
[topics."a"]
[topics."b"]
[topics."c"]
[dlqs.d]
[retries.gentle]
max_attempts = 3
[http_clients.crm]
base_url = "http://127.0.0.1:1"
[step_groups.shared]
steps = [{ set.seen = "{{ true }}" }]
[stages.one]
description = "the first"
from = "a"
to = "b"
dlq = "d"
retry = "gentle"
[[stages.one.steps]]
validate = "one.json"
[[stages.one.steps]]
use = "shared"
[stages.two]
from = "b"
to = "c"
dlq = "d"
[[stages.two.steps]]
http = { client = "crm", path = "/x", into = "x" }
[[stages.two.steps]]
lookup = { table = "people.csv", key = "id", by = "value.id", into = "person" }
"#;

    fn catalog(pipeline: &str, files: &[(&str, &str)]) -> Catalog {
        let mut tree = Tree::default();
        let shipped = [
            ("pipelines/p.toml", pipeline),
            ("schemas/one.json", r##"{"properties": {"x": {"$ref": "#/$defs/y"}}, "$defs": {"y": {}}}"##),
            ("schemas/other.json", "{}"),
            ("lookups/people.csv", "id,name\n1,Ann\n"),
        ];
        for (path, text) in shipped.iter().chain(files) {
            tree.insert(*path, Arc::<[u8]>::from(text.as_bytes()));
        }
        let options = CheckOptions { environment: None, require_env: false, outside: &Nothing };
        let checked = check(&tree, &options);
        checked.catalog.unwrap_or_else(|| panic!("{:?}", checked.findings))
    }

    /// The stages whose fingerprints differ.
    fn touched(pipeline: &str, files: &[(&str, &str)]) -> Vec<&'static str> {
        let (before, after) = (catalog(PIPELINE, &[]), catalog(pipeline, files));
        let differs = |name: &&str| before.fingerprint(name) != after.fingerprint(name);
        assert!(before.fingerprint("one").is_some() && before.fingerprint("two").is_some());
        ["one", "two"].into_iter().filter(differs).collect()
    }

    fn edited(from: &str, to: &str) -> Vec<&'static str> {
        assert!(PIPELINE.contains(from), "{from}");
        touched(&PIPELINE.replace(from, to), &[])
    }

    #[test]
    fn comments_descriptions_and_places_touch_nothing() {
        let none: [&str; 0] = [];
        assert_eq!(touched(&format!("# a comment\n\n{PIPELINE}"), &[]), none);
        assert_eq!(edited("the first", "the very first"), none);
        assert_eq!(edited("[topics.\"a\"]", "[topics.\"a\"]\npartitions = 9"), none);
        assert_eq!(touched(PIPELINE, &[("schemas/other.json", "true")]), none);
    }

    #[test]
    fn an_edit_touches_the_stages_that_come_by_it_and_no_others() {
        assert_eq!(
            edited(
                "[[stages.one.steps]]\nuse",
                "[[stages.one.steps]]\nname = \"n\"\nvalidate = \"one.json\"\n[[stages.one.steps]]\nuse"
            ),
            ["one"]
        );
        assert_eq!(edited("max_attempts = 3", "max_attempts = 4"), ["one"]);
        assert_eq!(edited("{{ true }}", "{{ false }}"), ["one"]);
        assert_eq!(edited("127.0.0.1:1", "127.0.0.1:2"), ["two"]);
        assert_eq!(edited("[topics.\"c\"]", "[topics.\"c\"]\ntopic = \"cc\""), ["two"]);
        assert_eq!(edited("[dlqs.d]", "[dlqs.d]\nheaders = [\"connect\"]"), ["one", "two"]);
        assert_eq!(touched(PIPELINE, &[("lookups/people.csv", "id,name\n1,Bea\n")]), ["two"]);
        assert_eq!(touched(PIPELINE, &[("schemas/one.json", "{}")]), ["one"]);
        let defaults = format!("[defaults.stages]\nconcurrency = 3\n{PIPELINE}");
        assert_eq!(touched(&defaults, &[]), ["one", "two"]);
        let env = format!("[env]\nlimit = {{ default = \"3\" }}\n{PIPELINE}");
        assert_eq!(touched(&env, &[]), ["one", "two"]);
    }

    #[test]
    fn a_schema_that_refers_to_others_is_touched_by_them() {
        let referring = [("schemas/one.json", r#"{"$ref": "other.json"}"#)];
        let before = catalog(PIPELINE, &referring);
        let after = catalog(PIPELINE, &[referring[0], ("schemas/other.json", "true")]);
        assert_ne!(before.fingerprint("one"), after.fingerprint("one"));
        assert_eq!(before.fingerprint("two"), after.fingerprint("two"));
    }
}
