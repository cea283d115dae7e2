//! From the files of a config root to a [`Catalog`], or to all that is wrong with them.
//!
//! Every file is read and every finding kept before anything is given up. What a broken file would have
//! defined is not reported as missing. Pure: the files are in memory, the process is behind [`Outside`].

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;
use sha2::{Digest as _, Sha256};

use super::dots::Dots;
use super::environment::{Environment, Sources};
use super::jobs::{self, WrittenJob};
use super::language::read_definition;
use super::scene::{Scene, Shown};
use super::stages::{self, WrittenStage};
use super::{
    Catalog, Outside, Topic, Tree, databases, fingerprint, graph, http_clients, queues, renames, retries,
    steps, topics, unused, words,
};
use crate::diag::{Diagnostic, Diagnostics, FileId, Severity, SourceMap, Span, codes};
use crate::spec::{
    DatabaseSpec, Definition, Definitions, DlqSpec, HttpClientSpec, JobSpec, Ledger, QueueSpec, ReadContext,
    RetrySpec, SECTIONS, Sections, Spanned, StageSpec, Table, TableReader, TopicSpec, parse,
};
use crate::steps::{Schemas, Tables};

/// The largest file of data that findings point into.
const MAX_SHOWN_BYTES: usize = 4 << 20;

/// The variable by which a deployment lets steps start programs.
pub const ALLOW_EXEC: &str = "BIPLANE_ALLOW_EXEC";

/// How a config root is checked.
#[derive(Clone, Copy)]
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

    /// Puts the findings in the order of the files again.
    pub(super) fn sort(&mut self) {
        let all = Diagnostics::default();
        self.findings.drain(..).for_each(|finding| all.push(finding));
        self.findings = all.into_sorted(&self.sources);
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
            broken: options.environment.is_some_and(|chosen| parsed.broken_environments.contains(chosen)),
            required: options.require_env,
        },
        &diagnostics,
    );
    let shown = Shown { tree, files: add_data(tree, &mut sources) };
    let read = ReadContext::new(&diagnostics, &environment).noting(ledger);
    let allowed = options.outside.variable(ALLOW_EXEC).is_some_and(|word| says_yes(&word));
    let catalog = resolve(&shown, &sections, &environment, (parsed.whole, allowed), read);
    let (definitions, places) = (definitions(&sections), places(&sections));
    let (files, errors) = (parsed.files.len(), diagnostics.errors());
    let catalog = catalog.filter(|_| errors == 0);
    let mut findings = diagnostics.into_sorted(&sources);
    drop_cascades(&mut findings, parsed.whole);
    Checked { catalog, findings, sources, files, definitions, places }
}

/// What clap takes for yes.
fn says_yes(word: &str) -> bool {
    ["y", "yes", "t", "true", "on", "1"].contains(&&*word.to_ascii_lowercase())
}

/// What a syntax error swallowed is not missing, and what it mangled is not wrong by itself.
fn drop_cascades(findings: &mut Vec<Diagnostic>, whole: bool) {
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
        syntax(finding) || !(mangled || !whole && missing.contains(&finding.code))
    });
}

/// Schemas, lookup tables and statements, so that findings can point into them; not those that are huge.
fn add_data(tree: &Tree, sources: &mut SourceMap) -> HashMap<String, FileId> {
    let folders = ["schemas/", "lookups/", "sql/"];
    let shown = tree.iter().filter(|(path, bytes)| {
        folders.iter().any(|folder| path.starts_with(folder)) && bytes.len() <= MAX_SHOWN_BYTES
    });
    let texts = shown.filter_map(|(path, bytes)| Some((path, std::str::from_utf8(bytes).ok()?)));
    texts.map(|(path, text)| (path.to_string(), sources.add(Arc::clone(path), text))).collect()
}

struct Parsed {
    files: Vec<Table>,
    environments: IndexMap<String, Table>,
    /// The environments whose files could not be read to their ends.
    broken_environments: HashSet<String>,
    /// Whether every file that defines something could be read to its end.
    whole: bool,
}

fn parse_files(tree: &Tree, sources: &mut SourceMap, diagnostics: &Diagnostics) -> Parsed {
    let mut parsed = Parsed {
        files: Vec::new(),
        environments: IndexMap::new(),
        broken_environments: HashSet::new(),
        whole: true,
    };
    for (path, bytes) in tree.iter().filter(|(path, _)| path.ends_with(".toml")) {
        let environment = path.strip_prefix("environments/").and_then(|name| name.strip_suffix(".toml"));
        if environment.is_none() && !(path.starts_with("pipelines/") || path.starts_with("schedules/")) {
            continue;
        }
        let (table, whole) = match std::str::from_utf8(bytes) {
            Ok(text) => parse(text, sources.add(Arc::clone(path), text), diagnostics),
            Err(error) => {
                diagnostics.push(not_utf8(path, bytes, error.valid_up_to(), sources));
                (Table::default(), false)
            }
        };
        match environment {
            Some(name) => {
                parsed.environments.insert(name.to_owned(), table);
                parsed.broken_environments.extend((!whole).then(|| name.to_owned()));
            }
            None => {
                parsed.files.push(table);
                parsed.whole &= whole;
            }
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

/// The sections whose definitions have names.
fn named<'s, 'a>(sections: &'s Sections<'a>) -> impl Iterator<Item = (&'static str, &'s Definitions<'a>)> {
    SECTIONS
        .into_iter()
        .filter(|section| *section != "defaults")
        .filter_map(|section| Some((section, sections.named(section)?)))
}

fn definitions(sections: &Sections<'_>) -> usize {
    sections.env.len() + named(sections).map(|(_, definitions)| definitions.len()).sum::<usize>()
}

fn places(sections: &Sections<'_>) -> IndexMap<(String, String), Span> {
    let all = named(sections).flat_map(|(section, definitions)| {
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
    (whole, programs_allowed): (bool, bool),
    read: ReadContext<'_>,
) -> Option<Catalog> {
    let (schemas, tables) = (Schemas::default(), Tables::default());
    let mut scene = Scene {
        read,
        sections,
        environment,
        topics: IndexMap::with_capacity(sections.topics.len()),
        topic_schemas: HashMap::new(),
        topic_sizes: HashMap::new(),
        dlqs: IndexMap::with_capacity(sections.dlqs.len()),
        used: RefCell::default(),
        stage_retries: RefCell::default(),
        pull_retries: RefCell::default(),
        retries: IndexMap::with_capacity(sections.retries.len()),
        retry_specs: IndexMap::with_capacity(sections.retries.len()),
        http_clients: IndexMap::with_capacity(sections.http_clients.len()),
        queues: IndexMap::with_capacity(sections.queues.len()),
        databases: IndexMap::with_capacity(sections.databases.len()),
        args_schemas: HashMap::new(),
        client_timeouts: HashMap::new(),
        renames: Vec::new(),
        dots: Dots::find(sections, read.diagnostics),
        env_names: sections.env.keys().map(|name| (*name).to_owned()).collect(),
        files: shown,
        schemas: &schemas,
        tables: &tables,
        programs_allowed,
        whole,
    };
    read_defaults(&scene);
    resolve_topics(&mut scene);
    resolve_policies(&mut scene);
    let written = read_stages(&mut scene);
    let written_jobs = read_jobs(&mut scene);
    resolve_dlqs(&mut scene, &written);
    resolve_queues(&mut scene);
    resolve_databases(&mut scene);
    let named_files = fingerprint::Named::among(shown);
    let resolved: Vec<_> = written
        .iter()
        .map(|stage| {
            let (resolved, used) = scene.tracked(|| stages::resolve(&scene, stage));
            let used = used.union(&stage.used).cloned().collect();
            resolved.map(|resolved| (fingerprint::of(&scene, &named_files, &resolved, &used), resolved))
        })
        .collect();
    let resolved_jobs: Vec<_> = written_jobs
        .iter()
        .map(|job| {
            let (resolved, used) = scene.tracked(|| jobs::resolve(&scene, job));
            let used = used.union(&job.used).cloned().collect();
            resolved.map(|resolved| (fingerprint::of_job(&scene, &named_files, &resolved, &used), resolved))
        })
        .collect();
    jobs::check_loops(&scene, &written_jobs);
    renames::check(&scene);
    unused::check_groups(&scene);
    schemas.check_rest(shown, read.diagnostics);
    if whole {
        graph::check(&scene, &written);
        words::check(&scene);
        unused::check(&scene);
    }
    let stages = resolved.into_iter().collect::<Option<Vec<_>>>()?;
    let jobs = resolved_jobs.into_iter().collect::<Option<Vec<_>>>()?;
    let queues: Option<Vec<_>> = scene.queues.values().cloned().collect();
    let databases: Option<Vec<_>> = scene.databases.values().cloned().collect();
    let fingerprints = stages.iter().map(|(print, stage)| (Arc::clone(&stage.name), *print)).collect();
    Some(Catalog {
        digest: digest(shown.tree, environment),
        fingerprints,
        stages: stages.into_iter().map(|(_, stage)| (Arc::clone(&stage.name), Arc::new(stage))).collect(),
        queues: queues?.into_iter().map(|queue| (Arc::clone(&queue.name), queue)).collect(),
        job_fingerprints: jobs.iter().map(|(print, job)| (Arc::clone(&job.name), *print)).collect(),
        jobs: jobs.into_iter().map(|(_, job)| (Arc::clone(&job.name), Arc::new(job))).collect(),
        databases: databases?.into_iter().map(|known| (Arc::clone(&known.name), known)).collect(),
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
    let sections = scene.sections;
    for (name, definition) in scene.definitions("topics", &sections.topics) {
        let what = format!("topic `{name}`");
        let spec = TopicSpec::read(scene.reader("topics", ("topic", name), definition));
        let topic = topics::resolve(name, &what, &spec, scene.read.diagnostics);
        if let Some(schema) = &spec.schema
            && scene.schemas.find(scene.files, schema, false, scene.read.diagnostics).is_some()
        {
            scene.topic_schemas.insert(name.to_owned(), (schema.value.clone(), schema.span));
        }
        if let Some(size) = &spec.max_message_bytes {
            scene.topic_sizes.insert(name.to_owned(), size.known.then_some((size.value, size.span)));
        }
        let lost = |was: &str| spec.topic.is_none().then(|| was.to_owned());
        scene.renamed("topics", "topic", name, &spec.was, lost);
        scene.topics.insert(Arc::clone(&topic.name), Arc::new(topic));
    }
}

fn resolve_policies(scene: &mut Scene<'_>) {
    let (diagnostics, sections) = (scene.read.diagnostics, scene.sections);
    for (name, definition) in scene.definitions("retries", &sections.retries) {
        let spec = RetrySpec::read(scene.reader("retries", ("retry policy", name), definition));
        let policy = retries::resolve(name, &spec, diagnostics).map(Arc::new);
        scene.renamed("retries", "retry policy", name, &spec.was, |_| None);
        scene.retries.insert(name.to_owned(), policy);
        scene.retry_specs.insert(name.to_owned(), spec);
    }
    for (name, definition) in scene.definitions("http_clients", &sections.http_clients) {
        let reader = scene.reader("http_clients", ("HTTP client", name), definition);
        let spec = HttpClientSpec::read(reader);
        let client = http_clients::resolve(name, &spec, scene.environment, diagnostics).map(Arc::new);
        if let Some(timeout) = &spec.timeout {
            let said = timeout.known.then_some((timeout.value, timeout.span));
            scene.client_timeouts.insert(name.to_owned(), said);
        }
        scene.renamed("http_clients", "HTTP client", name, &spec.was, |_| None);
        scene.http_clients.insert(name.to_owned(), client);
    }
}

fn read_stages<'a>(scene: &mut Scene<'a>) -> Vec<WrittenStage<'a>> {
    let mut stages = Vec::with_capacity(scene.sections.stages.len());
    for (name, definition) in scene.definitions("stages", &scene.sections.stages) {
        let what = format!("stage `{name}`");
        let spec = StageSpec::read(scene.reader("stages", ("stage", name), definition));
        let (steps, used) = scene.tracked(|| steps::expand(scene, &spec.steps, &what, stages::OWNER));
        scene.renamed("stages", "stage", name, &spec.was, |_| None);
        stages.push(WrittenStage { name, spec, steps, used });
    }
    stages
}

fn read_jobs<'a>(scene: &mut Scene<'a>) -> Vec<WrittenJob<'a>> {
    let mut jobs = Vec::new();
    for (name, definition) in scene.definitions("jobs", &scene.sections.jobs) {
        let what = format!("job `{name}`");
        let spec = JobSpec::read(scene.reader("jobs", ("job", name), definition));
        let (steps, used) = scene.tracked(|| steps::expand(scene, &spec.steps, &what, jobs::OWNER));
        scene.renamed("jobs", "job", name, &spec.was, |_| None);
        scene.args_schemas.extend(spec.args_schema.clone().map(|schema| (name.to_owned(), schema)));
        jobs.push(WrittenJob { name, spec, steps, used });
    }
    jobs
}

fn resolve_queues(scene: &mut Scene<'_>) {
    let sections = scene.sections;
    for (name, definition) in scene.definitions("queues", &sections.queues) {
        let spec = QueueSpec::read(scene.reader("queues", ("queue", name), definition));
        let queue = queues::resolve(scene, name, &spec).map(Arc::new);
        scene.renamed("queues", "queue", name, &spec.was, |_| None);
        scene.queues.insert(name.to_owned(), queue);
    }
}

fn resolve_databases(scene: &mut Scene<'_>) {
    let sections = scene.sections;
    for (name, definition) in scene.definitions("databases", &sections.databases) {
        let spec = DatabaseSpec::read(scene.reader("databases", ("database", name), definition));
        let database = databases::resolve(scene, name, &spec).map(Arc::new);
        scene.renamed("databases", "database", name, &spec.was, |_| None);
        scene.databases.insert(name.to_owned(), database);
    }
}

fn resolve_dlqs(scene: &mut Scene<'_>, stages: &[WrittenStage<'_>]) {
    let sections = scene.sections;
    let inputs_by_dlq = inputs_by_dlq(stages);
    for (name, definition) in scene.definitions("dlqs", &sections.dlqs) {
        let spec = DlqSpec::read(scene.reader("dlqs", ("DLQ", name), definition));
        let inputs = || inputs_by_dlq.get(name).into_iter().flatten().copied();
        // Of an input whose size is not known nothing is concluded.
        let largest = inputs().filter_map(|from| scene.largest(&from.value)).map(|(size, _)| size).max();
        topics::check_size(name, &spec, inputs().map(|from| (from, scene.largest(&from.value))), scene);
        let dlq = topics::resolve_dlq(name, &spec, largest, scene.read.diagnostics);
        let lost = |was: &str| spec.topic.topic.is_none().then(|| format!("{was}.dlq"));
        scene.renamed("dlqs", "DLQ", name, &spec.topic.was, lost);
        scene.dlqs.insert(Arc::clone(&dlq.name), Arc::new(dlq));
    }
    let spans = |section: &IndexMap<&str, Definition<'_>>, name: &str| {
        section.get(name).map(|definition| definition.name_span).unwrap_or_default()
    };
    let topics =
        scene.topics.values().map(|topic| (&**topic, spans(&scene.sections.topics, &topic.name), "topic"));
    let dlqs = scene.dlqs.values().map(|dlq| (&*dlq.topic, spans(&scene.sections.dlqs, &dlq.name), "DLQ"));
    // A DLQ that its own stage reads gets a finding of its own.
    let inputs = |topic: &Topic| inputs_by_dlq.get(&*topic.name).into_iter().flatten().copied();
    let dlqs = dlqs.filter(|(topic, ..)| !feeds_itself(scene, topic, inputs(topic)));
    topics::check_physical(topics.chain(dlqs), scene.read.diagnostics);
}

/// What the stages that use a DLQ read, by the name of the DLQ.
fn inputs_by_dlq<'s>(stages: &'s [WrittenStage<'_>]) -> HashMap<&'s str, Vec<&'s Spanned<String>>> {
    let mut inputs: HashMap<&str, Vec<_>> = HashMap::new();
    for stage in stages {
        if let Some(dlq) = &stage.spec.dlq {
            inputs.entry(dlq.value.as_str()).or_default().extend(stage.spec.from.iter().flatten());
        }
    }
    inputs
}

fn feeds_itself<'s>(
    scene: &Scene<'_>,
    dlq: &Topic,
    mut inputs: impl Iterator<Item = &'s Spanned<String>>,
) -> bool {
    inputs
        .any(|from| scene.topics.get(from.value.as_str()).is_some_and(|topic| topic.physical == dlq.physical))
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
