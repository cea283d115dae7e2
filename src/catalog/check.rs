//! From the files of a config root to a [`Catalog`], or to all that is wrong with them.
//!
//! Every file is read and every finding kept before anything is given up. What a broken file would have
//! defined is not reported as missing. Pure: the files are in memory, the process is behind [`Outside`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use sha2::{Digest as _, Sha256};

use super::environment::{Environment, Sources};
use super::language::read_definition;
use super::scene::{Scene, Shown};
use super::stages::{self, WrittenStage};
use super::{Catalog, Outside, Topic, Tree, fingerprint, graph, http_clients, retries, steps, topics};
use crate::base::ByteSize;
use crate::diag::{Diagnostic, Diagnostics, FileId, Severity, SourceMap, Span, codes, nearest};
use crate::spec::{
    Definition, DlqSpec, HttpClientSpec, Ledger, ReadContext, RetrySpec, Sections, StageSpec, Table,
    TableReader, TopicSpec, parse,
};
use crate::steps::{Schemas, Tables};

/// How a config root is checked.
pub struct CheckOptions<'a> {
    /// The environment whose committed values count.
    pub environment: Option<&'a str>,
    /// Whether an env value that is not set is an error; the engine needs every one.
    pub require_env: bool,
    /// Variables and mounted files.
    pub outside: &'a dyn Outside,
}

/// What a check gives.
#[derive(Debug)]
pub struct Checked {
    /// What runs; `None` where there are errors.
    pub catalog: Option<Catalog>,
    /// Everything that was found, in the order of the files.
    pub findings: Vec<Diagnostic>,
    /// The files that findings point into.
    pub sources: SourceMap,
    /// How many TOML files were read.
    pub files: usize,
    /// How many definitions they hold.
    pub definitions: usize,
    /// Where each name is defined, by section and name.
    pub places: IndexMap<(String, String), Span>,
}

impl Checked {
    /// How many findings are errors.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity() == Severity::Error).count()
    }
}

/// Checks a config root.
pub fn check(tree: &Tree, options: &CheckOptions<'_>) -> Checked {
    check_noting(tree, options, None)
}

/// Checks a config root; what readers ask for is noted in `ledger`.
pub(super) fn check_noting(tree: &Tree, options: &CheckOptions<'_>, ledger: Option<&Ledger>) -> Checked {
    let diagnostics = Diagnostics::default();
    let mut sources = SourceMap::default();
    let parsed = parse_files(tree, &mut sources, &diagnostics);
    if parsed.files.is_empty() && parsed.whole {
        diagnostics.push(
            Diagnostic::new(&codes::ROOT_NO_PIPELINES, "the config root holds no pipelines/**/*.toml")
                .help("name the folder that holds `pipelines/` with --config or BIPLANE_CONFIG"),
        );
    }
    let mut sections = Sections::default();
    for table in &parsed.files {
        sections.add(table, &diagnostics);
    }
    let environment = Environment::read(
        &sections,
        &Sources {
            outside: options.outside,
            files: &parsed.environments,
            chosen: options.environment,
            required: options.require_env,
        },
        &diagnostics,
    );
    let shown = Shown { tree, files: add_schemas(tree, &mut sources) };
    let read = ReadContext::new(&diagnostics, &environment).noting(ledger);
    let catalog = resolve(&shown, &sections, &environment, parsed.whole, read);
    let (definitions, places) = (definitions(&sections), places(&sections));
    let (files, errors) = (parsed.files.len(), diagnostics.errors());
    let catalog = catalog.filter(|_| errors == 0);
    let mut findings = diagnostics.into_sorted(&sources);
    if !parsed.whole {
        drop_cascades(&mut findings);
    }
    Checked { catalog, findings, sources, files, definitions, places }
}

/// What a syntax error swallowed is not missing, and what it mangled is not wrong by itself.
fn drop_cascades(findings: &mut Vec<Diagnostic>) {
    let syntax = |finding: &Diagnostic| {
        finding.code.severity == Severity::Error && finding.code.name.starts_with("toml::")
    };
    let place = |finding: &Diagnostic| finding.primary.as_ref().map(|label| label.span);
    let broken: Vec<Span> = findings.iter().filter(|finding| syntax(finding)).filter_map(place).collect();
    findings.retain(|finding| {
        let missing = [&codes::KEY_MISSING, &codes::DLQ_MISSING, &codes::STAGE_POINTLESS];
        let mangled = place(finding).is_some_and(|span| {
            broken.iter().any(|at| at.file == span.file && at.start < span.end && span.start < at.end)
        });
        syntax(finding) || !(mangled || missing.contains(&finding.code))
    });
}

fn add_schemas(tree: &Tree, sources: &mut SourceMap) -> HashMap<String, FileId> {
    let schemas = tree.iter().filter(|(path, _)| path.starts_with("schemas/"));
    let texts = schemas.filter_map(|(path, bytes)| Some((path, std::str::from_utf8(bytes).ok()?)));
    texts.map(|(path, text)| (path.to_string(), sources.add(Arc::clone(path), text))).collect()
}

struct Parsed {
    files: Vec<Table>,
    environments: IndexMap<String, Table>,
    /// Whether every file could be read to its end.
    whole: bool,
}

fn parse_files(tree: &Tree, sources: &mut SourceMap, diagnostics: &Diagnostics) -> Parsed {
    let mut parsed = Parsed { files: Vec::new(), environments: IndexMap::new(), whole: true };
    for (path, bytes) in tree.iter().filter(|(path, _)| path.ends_with(".toml")) {
        let environment = path.strip_prefix("environments/").and_then(|name| name.strip_suffix(".toml"));
        if environment.is_none() && !(path.starts_with("pipelines/") || path.starts_with("schedules/")) {
            continue;
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                parsed.whole = false;
                diagnostics.push(not_utf8(path, bytes, error.valid_up_to(), sources));
                continue;
            }
        };
        let (table, whole) = parse(text, sources.add(Arc::clone(path), text), diagnostics);
        parsed.whole &= whole;
        match environment {
            Some(name) => {
                parsed.environments.insert(name.to_owned(), table);
            }
            None => parsed.files.push(table),
        }
    }
    parsed
}

fn not_utf8(path: &Arc<str>, bytes: &[u8], at: usize, sources: &mut SourceMap) -> Diagnostic {
    let file = sources.add(Arc::clone(path), String::from_utf8_lossy(bytes).into_owned());
    let byte = bytes.get(at).copied().unwrap_or_default();
    Diagnostic::new(&codes::FILE_NOT_UTF8, format!("{path} is not UTF-8"))
        .at(Span::new(file, at..at + 3), format!("the byte 0x{byte:02x} is no character"))
        .help("save the file as UTF-8")
}

fn definitions(sections: &Sections<'_>) -> usize {
    let Sections { env, topics, dlqs, retries, http_clients, stages, step_groups, .. } = sections;
    let named = [topics, dlqs, retries, http_clients, stages, step_groups];
    env.len() + named.iter().map(|section| section.len()).sum::<usize>()
}

fn places(sections: &Sections<'_>) -> IndexMap<(String, String), Span> {
    let Sections { topics, dlqs, retries, http_clients, stages, step_groups, .. } = sections;
    let named = [
        ("topics", topics),
        ("dlqs", dlqs),
        ("retries", retries),
        ("http_clients", http_clients),
        ("stages", stages),
        ("step_groups", step_groups),
    ];
    let all = named.into_iter().flat_map(|(section, definitions)| {
        definitions
            .iter()
            .map(move |(name, definition)| ((section.to_owned(), (*name).to_owned()), definition.name_span))
    });
    all.collect()
}

fn resolve(
    shown: &Shown<'_>,
    sections: &Sections<'_>,
    environment: &Environment,
    whole: bool,
    read: ReadContext<'_>,
) -> Option<Catalog> {
    let (schemas, tables) = (Schemas::default(), Tables::default());
    let mut scene = Scene {
        read,
        sections,
        environment,
        topics: IndexMap::new(),
        topic_schemas: HashMap::new(),
        dlqs: IndexMap::new(),
        used: RefCell::default(),
        retries: IndexMap::new(),
        http_clients: IndexMap::new(),
        env_names: sections.env.keys().map(|name| (*name).to_owned()).collect(),
        files: shown,
        schemas: &schemas,
        tables: &tables,
        whole,
    };
    read_defaults(&scene);
    resolve_topics(&mut scene);
    resolve_policies(&mut scene);
    let written = read_stages(&scene);
    resolve_dlqs(&mut scene, &written);
    let resolved: Vec<_> = written
        .iter()
        .map(|stage| {
            let (resolved, used) = scene.tracked(|| stages::resolve(&scene, stage));
            let used = used.union(&stage.used).cloned().collect();
            resolved.map(|resolved| (fingerprint::of(&scene, &resolved, &used), resolved))
        })
        .collect();
    if whole {
        graph::check(&scene, &written);
        check_unused(&scene);
    }
    let stages = resolved.into_iter().collect::<Option<Vec<_>>>()?;
    let fingerprints = stages.iter().map(|(print, stage)| (Arc::clone(&stage.name), *print)).collect();
    Some(Catalog {
        digest: digest(shown.tree, environment),
        fingerprints,
        stages: stages.into_iter().map(|(_, stage)| (Arc::clone(&stage.name), Arc::new(stage))).collect(),
        topics: scene.topics,
        dlqs: scene.dlqs,
        retries: known(scene.retries),
        http_clients: known(scene.http_clients),
    })
}

fn known<T>(named: IndexMap<String, Option<Arc<T>>>) -> IndexMap<String, Arc<T>> {
    named.into_iter().filter_map(|(name, definition)| Some((name, definition?))).collect()
}

/// Defaults are judged by themselves, whoever uses them.
fn read_defaults(scene: &Scene<'_>) {
    for (section, definition) in &scene.sections.defaults {
        let what = format!("`defaults.{section}`");
        let reader = TableReader::new(definition.table, what, scene.read).partial();
        read_definition(section, reader);
    }
}

fn resolve_topics(scene: &mut Scene<'_>) {
    for (name, definition) in &scene.sections.topics {
        if reports_dots(scene, "topics", name, *definition) {
            continue;
        }
        let what = format!("topic `{name}`");
        let spec = TopicSpec::read(scene.reader("topics", name, what.clone(), definition));
        let topic = topics::resolve(name, &what, &spec, scene.read.diagnostics);
        if let Some(schema) = &spec.schema
            && scene.schemas.find(scene.files, schema, false, scene.read.diagnostics).is_some()
        {
            scene.topic_schemas.insert((*name).to_owned(), (schema.value.clone(), schema.span));
        }
        scene.topics.insert(Arc::clone(&topic.name), Arc::new(topic));
    }
}

/// `[topics.raw.events]` is a table `raw` that holds a table `events`; one that is nearly named like a
/// table of topics and DLQs is a slip instead.
fn reports_dots(scene: &Scene<'_>, section: &'static str, name: &str, definition: Definition<'_>) -> bool {
    let tables = ["labels", "settings"];
    let inner = definition.table.entries.iter().find(|entry| {
        let known = tables.contains(&entry.key.as_str()) || nearest(&entry.key, tables).is_some();
        entry.node.as_table().is_some() && !known
    });
    let Some(inner) = inner else { return false };
    scene.used.borrow_mut().insert((section, name.to_owned()));
    let mut dotted = format!("{name}.{}", inner.key);
    let mut table = inner.node.as_table();
    while let Some([entry]) = table.map(|table| table.entries.as_slice()) {
        let Some(deeper) = entry.node.as_table() else { break };
        dotted = format!("{dotted}.{}", entry.key);
        table = Some(deeper);
    }
    scene.report(
        Diagnostic::new(&codes::TOML_UNQUOTED_DOTS, format!("the name `{dotted}` needs quotes"))
            .at(Span { end: inner.key_span.end, ..definition.name_span }, "read as a table within a table")
            .help(format!("write [{section}.\"{dotted}\"]")),
    );
    true
}

fn resolve_policies(scene: &mut Scene<'_>) {
    let diagnostics = scene.read.diagnostics;
    for (name, definition) in &scene.sections.retries {
        let spec =
            RetrySpec::read(scene.reader("retries", name, format!("retry policy `{name}`"), definition));
        let policy = retries::resolve(name, &spec, diagnostics).map(Arc::new);
        scene.retries.insert((*name).to_owned(), policy);
    }
    for (name, definition) in &scene.sections.http_clients {
        let reader = scene.reader("http_clients", name, format!("HTTP client `{name}`"), definition);
        let spec = HttpClientSpec::read(reader);
        let client = http_clients::resolve(name, &spec, scene.environment, diagnostics).map(Arc::new);
        scene.http_clients.insert((*name).to_owned(), client);
    }
}

fn read_stages<'a>(scene: &Scene<'a>) -> Vec<WrittenStage<'a>> {
    let stages = scene.sections.stages.iter().map(|(name, definition)| {
        let what = format!("stage `{name}`");
        let spec = StageSpec::read(scene.reader("stages", name, what.clone(), definition));
        let (steps, used) = scene.tracked(|| steps::expand(scene, &spec.steps, &what));
        WrittenStage { name, spec, steps, used }
    });
    stages.collect()
}

fn resolve_dlqs(scene: &mut Scene<'_>, stages: &[WrittenStage<'_>]) {
    for (name, definition) in &scene.sections.dlqs {
        if reports_dots(scene, "dlqs", name, *definition) {
            continue;
        }
        let spec = DlqSpec::read(scene.reader("dlqs", name, format!("DLQ `{name}`"), definition));
        let users =
            stages.iter().filter(|stage| stage.spec.dlq.as_ref().is_some_and(|dlq| dlq.value == *name));
        let inputs = users.flat_map(|stage| stage.spec.from.iter().flatten());
        let largest: Option<ByteSize> =
            inputs.filter_map(|from| scene.topics.get(from.value.as_str())?.max_message_bytes).max();
        let dlq = topics::resolve_dlq(name, &spec, largest, scene.read.diagnostics);
        scene.dlqs.insert(Arc::clone(&dlq.name), Arc::new(dlq));
    }
    let spans = |section: &IndexMap<&str, Definition<'_>>, name: &str| {
        section.get(name).map(|definition| definition.name_span).unwrap_or_default()
    };
    let topics =
        scene.topics.values().map(|topic| (&**topic, spans(&scene.sections.topics, &topic.name), "topic"));
    let dlqs = scene.dlqs.values().map(|dlq| (&*dlq.topic, spans(&scene.sections.dlqs, &dlq.name), "DLQ"));
    // A DLQ that its own stage reads gets a finding of its own.
    let dlqs = dlqs.filter(|(topic, ..)| !feeds_itself(scene, topic, stages));
    topics::check_physical(topics.chain(dlqs), scene.read.diagnostics);
}

fn feeds_itself(scene: &Scene<'_>, dlq: &Topic, stages: &[WrittenStage<'_>]) -> bool {
    let users =
        stages.iter().filter(|stage| stage.spec.dlq.as_ref().is_some_and(|name| *name.value == *dlq.name));
    users
        .flat_map(|stage| stage.spec.from.iter().flatten())
        .any(|from| scene.topics.get(from.value.as_str()).is_some_and(|topic| topic.physical == dlq.physical))
}

/// What is defined and named nowhere is most likely a slip at the place that should name it.
fn check_unused(scene: &Scene<'_>) {
    let used = scene.used.borrow();
    let sections = [
        ("topics", "topic", &scene.sections.topics),
        ("dlqs", "DLQ", &scene.sections.dlqs),
        ("retries", "retry policy", &scene.sections.retries),
        ("http_clients", "HTTP client", &scene.sections.http_clients),
        ("step_groups", "step group", &scene.sections.step_groups),
    ];
    for (section, noun, definitions) in sections {
        for (name, definition) in definitions {
            if !used.contains(&(section, (*name).to_owned())) {
                scene.report(
                    Diagnostic::new(&codes::NAME_UNUSED, format!("{noun} `{name}` is used by nothing"))
                        .at(definition.name_span, "never named"),
                );
            }
        }
    }
}

/// Over the files and the public values of the environment; secrets leave no trace in it.
fn digest(tree: &Tree, environment: &Environment) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    for (path, bytes) in tree.iter().filter(|(path, _)| !path.starts_with("environments/")) {
        add(path.as_bytes());
        add(bytes);
    }
    for (name, value) in environment.public() {
        add(name.as_bytes());
        add(value.to_string().as_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
