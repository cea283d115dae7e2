//! What definitions are resolved against: everything that is known by then, and the look-ups that
//! report at the place of a name what it does not name.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::dots::Dots;
use super::environment::Environment;
use super::fingerprint::Used;
use super::renames::Rename;
use super::topics::BROKER_MAX_MESSAGE_BYTES;
use super::{Database, Dlq, Queue, Topic, Tree, retries};
use crate::base::{ByteSize, RetryPolicy};
use crate::diag::{Diagnostic, FileId, Span, codes, nearest};
use crate::expr::RootSet;
use crate::spec::{Definition, Definitions, ReadContext, RetrySpec, Sections, Spanned, TableReader};
use crate::steps::{ConfigFiles, EventTopic, HttpClient, JobKind, PlanContext, Schemas, Tables};

/// All that definitions are resolved against.
pub(super) struct Scene<'a> {
    pub(super) read: ReadContext<'a>,
    pub(super) sections: &'a Sections<'a>,
    pub(super) environment: &'a Environment,
    pub(super) topics: IndexMap<Arc<str>, Arc<Topic>>,
    /// The schema of each topic that names one, and where.
    pub(super) topic_schemas: HashMap<String, (String, Span)>,
    /// The largest record of each topic that says so, and where; `None`: it is said, but not known.
    pub(super) topic_sizes: HashMap<String, Option<(ByteSize, Span)>>,
    pub(super) dlqs: IndexMap<Arc<str>, Arc<Dlq>>,
    /// What is named somewhere, by section.
    pub(super) used: RefCell<Used>,
    /// The retry policies that stages name; the others are named by steps alone.
    pub(super) stage_retries: RefCell<HashSet<String>>,
    /// The retry policies of kinds that pull workers do, which bring codes of their own.
    pub(super) pull_retries: RefCell<HashSet<String>>,
    pub(super) retries: IndexMap<String, Option<Arc<RetryPolicy>>>,
    pub(super) retry_specs: IndexMap<String, RetrySpec>,
    pub(super) http_clients: IndexMap<String, Option<Arc<HttpClient>>>,
    pub(super) queues: IndexMap<String, Option<Arc<Queue>>>,
    pub(super) databases: IndexMap<String, Option<Arc<Database>>>,
    /// What the args of a kind of jobs satisfy, for those kinds that say so.
    pub(super) args_schemas: HashMap<String, Spanned<String>>,
    /// The timeout of each client that says one, and where; `None`: it is said, but not known.
    pub(super) client_timeouts: HashMap<String, Option<(Duration, Span)>>,
    /// What was named otherwise before.
    pub(super) renames: Vec<Rename>,
    /// Names that were written without their quotes.
    pub(super) dots: Dots,
    pub(super) env_names: Vec<String>,
    pub(super) files: &'a Shown<'a>,
    pub(super) schemas: &'a Schemas,
    pub(super) tables: &'a Tables,
    /// Whether the deployment lets steps start programs, as far as its environment says.
    pub(super) programs_allowed: bool,
    /// Whether every file could be read to its end.
    pub(super) whole: bool,
}

/// The files of a root, of which findings may point into the schemas.
pub(super) struct Shown<'a> {
    pub(super) tree: &'a Tree,
    pub(super) files: HashMap<String, FileId>,
}

impl ConfigFiles for Shown<'_> {
    fn file(&self, path: &str) -> Option<&[u8]> {
        self.tree.file(path)
    }

    fn under(&self, folder: &str) -> Vec<&str> {
        self.tree.under(folder)
    }

    fn source(&self, path: &str) -> Option<FileId> {
        self.files.get(path).copied()
    }
}

impl<'a> Scene<'a> {
    /// Adds a finding.
    pub(super) fn report(&self, finding: Diagnostic) {
        self.read.diagnostics.push(finding);
    }

    /// Adds a finding about something undefined, unless a broken file may define it.
    pub(super) fn undefined(&self, finding: Diagnostic) {
        if self.whole {
            self.report(finding);
        }
    }

    /// Runs `work` and says what it named.
    pub(super) fn tracked<T>(&self, work: impl FnOnce() -> T) -> (T, Used) {
        let before = self.used.take();
        let value = work();
        let named = self.used.replace(before);
        self.used.borrow_mut().extend(named.iter().cloned());
        (value, named)
    }

    /// The definitions of a section that are more than the beginning of a name.
    pub(super) fn definitions(
        &self,
        section: &'static str,
        all: &'a Definitions<'a>,
    ) -> impl Iterator<Item = (&'a str, Definition<'a>)> + use<'a> {
        let whole = |name: &str| !self.dots.is_hollow(section, name);
        let found: Vec<_> = all
            .iter()
            .filter(|(name, _)| whole(name))
            .map(|(name, definition)| (*name, *definition))
            .collect();
        found.into_iter()
    }

    /// A reader of a definition, behind it the defaults of its section.
    pub(super) fn reader(
        &self,
        section: &'static str,
        (noun, name): (&str, &str),
        definition: Definition<'a>,
    ) -> TableReader<'a> {
        let defaults = self.sections.defaults.get(section).map(|defaults| defaults.table);
        let what = format!("{noun} `{name}`");
        let mut reader = TableReader::new(definition.table, what, self.read)
            .with_defaults(defaults)
            .noted_as(|| format!("{section}/{name}"));
        let strays: Vec<_> = self.dots.strays(section, name).iter().map(String::as_str).collect();
        reader.strays(&strays);
        reader
    }

    /// Remembers that a table had another name; `lost` gives what that leaves behind on the broker.
    pub(super) fn renamed(
        &mut self,
        section: &'static str,
        noun: &'static str,
        name: &str,
        was: &Option<Spanned<String>>,
        lost: impl Fn(&str) -> Option<String>,
    ) {
        self.renames.extend(was.as_ref().map(|was| Rename {
            section,
            noun,
            name: name.to_owned(),
            was: was.clone(),
            lost: lost(&was.value),
        }));
    }

    /// The largest record of a topic and where that is said; the broker's own bound where nothing is;
    /// `None`: it is not known.
    pub(super) fn largest(&self, topic: &str) -> Option<(ByteSize, Option<Span>)> {
        match self.topic_sizes.get(topic) {
            None => Some((ByteSize(BROKER_MAX_MESSAGE_BYTES), None)),
            Some(said) => said.map(|(size, span)| (size, Some(span))),
        }
    }

    /// Runs `plan` with what is compiled at a place that offers `roots`, behind the steps `earlier`.
    pub(super) fn planning<T>(
        &self,
        roots: RootSet,
        earlier: &[Arc<str>],
        plan: impl FnOnce(&PlanContext<'_>) -> T,
    ) -> T {
        plan(&PlanContext {
            diagnostics: self.read.diagnostics,
            roots,
            env: &self.env_names,
            earlier,
            files: self.files,
            schemas: self.schemas,
            tables: self.tables,
            retry: &|name| self.retry(name, "a step"),
            http_client: &|name| self.http_client(name),
            database: &|name| self.database(name),
            topic: &|name| self.event_topic(name),
            job: &|name| self.job(name, "a step").and_then(|kind| self.kind(kind)),
        })
    }

    /// The topic of that name; `who` reads or writes it.
    pub(super) fn topic(&self, name: &Spanned<String>, who: &str) -> Option<Arc<Topic>> {
        self.used.borrow_mut().insert(("topics", name.value.clone()));
        if let Some(topic) = self.topics.get(name.value.as_str()) {
            return Some(Arc::clone(topic));
        }
        // A name that was written without its quotes has been reported.
        if !self.dots.meant("topics", &name.value) {
            let near = nearest(&name.value, self.topics.keys().map(|name| &**name));
            self.undefined(
                Diagnostic::new(&codes::TOPIC_UNDEFINED, format!("{who} undefined topic `{}`", name.value))
                    .at(name.span, "no such topic")
                    .help(match near {
                        Some(near) => format!("a topic with a similar name exists: `{near}`"),
                        None => format!("define it: [topics.\"{}\"]", name.value),
                    }),
            );
        }
        None
    }

    /// The retry policy of that name.
    pub(super) fn retry(&self, name: &Spanned<String>, what: &str) -> Option<Arc<RetryPolicy>> {
        self.used.borrow_mut().insert(("retries", name.value.clone()));
        match self.retries.get(&name.value) {
            Some(policy) => policy.clone(),
            None if name.value == retries::BUILT_IN => Some(self.built_in()),
            None if self.dots.meant("retries", &name.value) => None,
            None => {
                let known = self.retries.keys().map(String::as_str).chain([retries::BUILT_IN]);
                let near = nearest(&name.value, known);
                self.undefined(
                    Diagnostic::new(
                        &codes::RETRY_UNDEFINED,
                        format!("{what} names undefined retry policy `{}`", name.value),
                    )
                    .at(name.span, "no such retry policy")
                    .help(match near {
                        Some(near) => format!("a retry policy with a similar name exists: `{near}`"),
                        None => format!("define it: [retries.{}]", name.value),
                    }),
                );
                None
            }
        }
    }

    /// The policy that is always there.
    pub(super) fn built_in(&self) -> Arc<RetryPolicy> {
        Arc::new(retries::built_in())
    }

    /// The topic of that name, to which a job publishes.
    fn event_topic(&self, name: &Spanned<String>) -> Option<Arc<EventTopic>> {
        let topic = self.topic(name, "a step publishes to")?;
        let max_bytes = topic.max_message_bytes.unwrap_or(ByteSize(BROKER_MAX_MESSAGE_BYTES)).as_usize();
        let (name, physical) = (Arc::clone(&topic.name), Arc::clone(&topic.physical));
        Some(Arc::new(EventTopic { name, physical, max_bytes }))
    }

    /// The kind of jobs of that name; `who` enqueues it.
    pub(super) fn job(&self, name: &Spanned<String>, who: &str) -> Option<Arc<str>> {
        if self.sections.jobs.contains_key(name.value.as_str()) {
            return Some(Arc::from(name.value.as_str()));
        }
        if !self.dots.meant("jobs", &name.value) {
            let near = nearest(&name.value, self.sections.jobs.keys().copied());
            self.undefined(
                Diagnostic::new(
                    &codes::JOB_UNDEFINED,
                    format!("{who} enqueues undefined job `{}`", name.value),
                )
                .at(name.span, "no such job")
                .help(match near {
                    Some(near) => format!("a job with a similar name exists: `{near}`"),
                    None => format!("define it: [jobs.{}]", name.value),
                }),
            );
        }
        None
    }

    /// What whoever enqueues a job must know of its kind; `None`: its schema is not one, which is reported where it
    /// is named.
    fn kind(&self, name: Arc<str>) -> Option<Arc<JobKind>> {
        self.used.borrow_mut().insert(("jobs", name.to_string()));
        let schema = self.args_schemas.get(&*name).filter(|schema| schema.known);
        let schema = schema.map(|file| self.schemas.find(self.files, file, false, self.read.diagnostics));
        Some(Arc::new(JobKind { name, schema: schema.map_or(Some(None), |schema| schema.map(Some))? }))
    }

    fn database(&self, name: &Spanned<String>) -> Option<Arc<Database>> {
        self.used.borrow_mut().insert(("databases", name.value.clone()));
        if let Some(database) = self.databases.get(&name.value) {
            return database.clone();
        }
        if self.dots.meant("databases", &name.value) {
            return None;
        }
        let near = nearest(&name.value, self.databases.keys().map(String::as_str));
        self.undefined(
            Diagnostic::new(&codes::DATABASE_UNDEFINED, format!("there is no database `{}`", name.value))
                .at(name.span, "no such database")
                .help(match near {
                    Some(near) => format!("a database with a similar name exists: `{near}`"),
                    None => format!("define it: [databases.{}]", name.value),
                }),
        );
        None
    }

    fn http_client(&self, name: &Spanned<String>) -> Option<Arc<HttpClient>> {
        self.used.borrow_mut().insert(("http_clients", name.value.clone()));
        if let Some(client) = self.http_clients.get(&name.value) {
            return client.clone();
        }
        if self.dots.meant("http_clients", &name.value) {
            return None;
        }
        let near = nearest(&name.value, self.http_clients.keys().map(String::as_str));
        self.undefined(
            Diagnostic::new(
                &codes::HTTP_CLIENT_UNDEFINED,
                format!("there is no HTTP client `{}`", name.value),
            )
            .at(name.span, "no such HTTP client")
            .help(match near {
                Some(near) => format!("an HTTP client with a similar name exists: `{near}`"),
                None => format!("define it: [http_clients.{}]", name.value),
            }),
        );
        None
    }
}
