//! What definitions are resolved against: everything that is known by then, and the look-ups that
//! report at the place of a name what it does not name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;

use super::environment::Environment;
use super::fingerprint::Used;
use super::{Dlq, Topic, Tree, retries};
use crate::base::RetryPolicy;
use crate::diag::{Diagnostic, FileId, Span, codes, nearest};
use crate::expr::RootSet;
use crate::spec::{Definition, ReadContext, Sections, Spanned, TableReader};
use crate::steps::{ConfigFiles, HttpClient, PlanContext, Schemas, Tables};

/// All that definitions are resolved against.
pub(super) struct Scene<'a> {
    pub(super) read: ReadContext<'a>,
    pub(super) sections: &'a Sections<'a>,
    pub(super) environment: &'a Environment,
    pub(super) topics: IndexMap<Arc<str>, Arc<Topic>>,
    /// The schema of each topic that names one, and where.
    pub(super) topic_schemas: HashMap<String, (String, Span)>,
    pub(super) dlqs: IndexMap<Arc<str>, Arc<Dlq>>,
    /// What is named somewhere, by section.
    pub(super) used: RefCell<Used>,
    pub(super) retries: IndexMap<String, Option<Arc<RetryPolicy>>>,
    pub(super) http_clients: IndexMap<String, Option<Arc<HttpClient>>>,
    pub(super) env_names: Vec<String>,
    pub(super) files: &'a Shown<'a>,
    pub(super) schemas: &'a Schemas,
    pub(super) tables: &'a Tables,
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

    /// A reader of a definition, behind it the defaults of its section.
    pub(super) fn reader(
        &self,
        section: &str,
        name: &str,
        what: String,
        definition: &Definition<'a>,
    ) -> TableReader<'a> {
        let defaults = self.sections.defaults.get(section).map(|defaults| defaults.table);
        TableReader::new(definition.table, what, self.read)
            .with_defaults(defaults)
            .noted_as(|| format!("{section}/{name}"))
    }

    /// Runs `plan` with what steps and outputs are compiled against, behind the steps `earlier`.
    pub(super) fn planning<T>(&self, earlier: &[Arc<str>], plan: impl FnOnce(&PlanContext<'_>) -> T) -> T {
        plan(&PlanContext {
            diagnostics: self.read.diagnostics,
            roots: RootSet::RECORD,
            env: &self.env_names,
            earlier,
            files: self.files,
            schemas: self.schemas,
            tables: self.tables,
            retry: &|name| self.retry(name, "a step"),
            http_client: &|name| self.http_client(name),
        })
    }

    /// The topic of that name; `who` reads or writes it.
    pub(super) fn topic(&self, name: &Spanned<String>, who: &str) -> Option<Arc<Topic>> {
        self.used.borrow_mut().insert(("topics", name.value.clone()));
        if let Some(topic) = self.topics.get(name.value.as_str()) {
            return Some(Arc::clone(topic));
        }
        // A name whose table is broken is defined all the same.
        let dotted =
            name.value.split('.').next().is_some_and(|first| self.sections.topics.contains_key(first));
        if !dotted {
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
            None => {
                let known = self.retries.keys().map(String::as_str).chain([retries::BUILT_IN]);
                let near = nearest(&name.value, known);
                self.undefined(
                    Diagnostic::new(
                        &codes::RETRY_UNDEFINED,
                        format!("{what} names undefined retry policy `{}`", name.value),
                    )
                    .at(name.span, "no such retry policy")
                    .maybe_help(
                        near.map(|near| format!("a retry policy with a similar name exists: `{near}`")),
                    ),
                );
                None
            }
        }
    }

    /// The policy that is always there.
    pub(super) fn built_in(&self) -> Arc<RetryPolicy> {
        Arc::new(retries::built_in())
    }

    fn http_client(&self, name: &Spanned<String>) -> Option<Arc<HttpClient>> {
        self.used.borrow_mut().insert(("http_clients", name.value.clone()));
        if let Some(client) = self.http_clients.get(&name.value) {
            return client.clone();
        }
        let near = nearest(&name.value, self.http_clients.keys().map(String::as_str));
        self.undefined(
            Diagnostic::new(
                &codes::HTTP_CLIENT_UNDEFINED,
                format!("there is no HTTP client `{}`", name.value),
            )
            .at(name.span, "no such HTTP client")
            .maybe_help(near.map(|near| format!("an HTTP client with a similar name exists: `{near}`"))),
        );
        None
    }
}
