//! What a step's file needs to read and check its own table: findings, settings, and what the config
//! root holds beside it. Names are looked up here, once; a step at run time looks up nothing.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use crate::base::{ByteSize, RetryPolicy};
use crate::diag::{Diagnostic, codes};
use crate::expr::{CompileError, Expression, RootSet, Template, TemplateTree};
use crate::spec::{Node, NodeValue, ReadContext, Spanned};

/// Where a step is planned.
pub struct PlanContext<'a> {
    /// Findings and settings.
    pub read: ReadContext<'a>,
    /// What expressions see as `env`; values that are not set are null.
    pub env: &'a Arc<Json>,
    /// What the config root holds.
    pub resources: &'a dyn Resources,
    /// The names of the steps that ran before this one, oldest first.
    pub earlier: &'a [Arc<str>],
}

/// Looks names up in the config root. Each method reports at the name's place what is wrong and gives
/// `None` then.
pub trait Resources {
    /// The compiled schema `schemas/NAME`, with or without its formats asserted.
    fn schema(&self, name: &Spanned<String>, formats: bool) -> Option<Arc<jsonschema::Validator>>;

    /// The bytes of `lookups/NAME`.
    fn lookup(&self, name: &Spanned<String>) -> Option<Arc<[u8]>>;

    /// The client `[http_clients.NAME]`.
    fn http_client(&self, name: &Spanned<String>) -> Option<Arc<HttpClient>>;

    /// The policy `[retries.NAME]`.
    fn retry(&self, name: &Spanned<String>) -> Option<Arc<RetryPolicy>>;
}

/// An HTTP client, checked.
#[derive(Clone, PartialEq)]
pub struct HttpClient {
    /// Its identity in the files.
    pub name: Arc<str>,
    /// Scheme, host and the start of every path, without a slash at the end.
    pub base_url: String,
    /// Headers of every call, the authorization included; values may be secret.
    pub headers: Vec<(String, String)>,
    /// How long a call may take in all.
    pub timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Option<Duration>,
    /// The largest answer.
    pub max_response_bytes: ByteSize,
    /// How many connections at one time; `None`: as many as there are calls.
    pub max_connections: Option<usize>,
}

impl std::fmt::Debug for HttpClient {
    /// Never shows what may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("HttpClient")
            .field("name", &self.name)
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .field("max_response_bytes", &self.max_response_bytes)
            .finish_non_exhaustive()
    }
}

impl PlanContext<'_> {
    /// Adds a finding.
    pub fn report(&self, finding: Diagnostic) {
        self.read.diagnostics.push(finding);
    }

    /// Compiles an expression over a record.
    pub fn expression(&self, source: &Spanned<String>) -> Option<Expression> {
        match Expression::compile(&source.value, RootSet::RECORD) {
            Ok(expression) => Some(expression),
            Err(error) => self.refuse(source, &error),
        }
    }

    /// Compiles a template over a record.
    pub fn template(&self, source: &Spanned<String>) -> Option<Template> {
        match Template::compile(&source.value, RootSet::RECORD) {
            Ok(template) => {
                self.warn_of_path(source);
                Some(template)
            }
            Err(error) => self.refuse(source, &error),
        }
    }

    /// Compiles a tree of literals and templates, as `map` holds it.
    pub fn tree(&self, node: &Node) -> Option<TemplateTree> {
        match &node.value {
            NodeValue::String(_) => {
                node.as_text().and_then(|text| self.template(&text)).map(TemplateTree::Leaf)
            }
            NodeValue::Array(nodes) => {
                let parts: Vec<_> = nodes.iter().map(|node| self.tree(node)).collect();
                parts.into_iter().collect::<Option<Vec<_>>>().map(TemplateTree::Array)
            }
            NodeValue::Table(table) => {
                let fields: Vec<_> = table
                    .entries
                    .iter()
                    .map(|entry| Some((entry.key.clone(), self.tree(&entry.node)?)))
                    .collect();
                fields.into_iter().collect::<Option<Vec<_>>>().map(TemplateTree::Object)
            }
            _ => Some(TemplateTree::Constant(node.to_json())),
        }
    }

    /// Reports why an expression or a template does not compile.
    pub fn refuse<T>(&self, source: &Spanned<String>, error: &CompileError) -> Option<T> {
        let span = source.part(error.range.clone());
        let code = if error.message.starts_with("there is no ") {
            &codes::EXPRESSION_UNKNOWN
        } else if error.message.contains("{{") {
            &codes::EXPRESSION_BRACES
        } else {
            &codes::EXPRESSION_SYNTAX
        };
        let help = error.suggestion.as_ref().map(|meant| format!("did you mean `{meant}`?"));
        self.report(Diagnostic::new(code, error.message.clone()).at(span, "").maybe_help(help));
        None
    }

    /// `"value.kind"` where a template is meant is most likely the field, not those letters.
    fn warn_of_path(&self, source: &Spanned<String>) {
        let text = &source.value;
        let looks = ["value.", "headers.", "env.", "steps."].iter().any(|root| text.starts_with(root))
            && text
                .split('.')
                .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        if looks {
            self.report(
                Diagnostic::new(
                    &codes::TEMPLATE_LOOKS_LIKE_PATH,
                    format!("`{text}` is text here, not a path"),
                )
                .at(source.span, "stands for these letters")
                .help(format!(
                    "write \"{{{{ {text} }}}}\" for the value, or {{% raw %}} around it for the text"
                )),
            );
        }
    }
}

/// The keys that every step takes beside the one that names its type.
pub const COMMON_KEYS: [&str; 4] = ["name", "when", "timeout", "retry"];
