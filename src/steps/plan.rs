//! From a step's table in TOML to its [`StepPlan`]: the keys that all steps share, the register of
//! kinds, and the compiling of expressions and templates with findings.
//!
//! Adding a step is one file beside this one and one line in [`KINDS`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::http::{self, HttpClient};
use super::lookup::{self, Tables};
use super::validate::{self, Schemas};
use super::{
    Database, EventTopic, JobKind, StepBody, StepPlan, drop, enqueue, exec, explode, fail, filter, log, map,
    publish, rename, set, sql, wait,
};
use crate::base::RetryPolicy;
use crate::diag::{Diagnostic, Diagnostics, FileId, Span, codes, nearest, words};
use crate::expr::{
    CompileError, Expression, Mistake, Named, Root, RootSet, Template, TemplateTree, bracketed,
};
use crate::record::{JOB_FIELDS, WINDOW_FIELDS};
use crate::spec::{About, Node, NodeValue, Spanned, TableReader};

type Read = fn(&mut TableReader<'_>, &PlanContext<'_>) -> Option<Arc<dyn StepBody>>;

/// The register: the word in TOML and who reads what stands behind it.
const REGISTER: [(&str, Read); 16] = [
    ("validate", validate::read),
    ("filter", filter::read),
    ("map", map::read),
    ("set", set::read),
    ("drop", drop::read),
    ("rename", rename::read),
    ("explode", explode::read),
    ("lookup", lookup::read),
    ("http", http::read),
    ("sql", sql::read),
    ("exec", exec::read),
    ("enqueue", enqueue::read),
    ("publish", publish::read),
    ("wait", wait::read),
    ("fail", fail::read),
    ("log", log::read),
];

/// All kinds of steps, in the order of the documentation.
pub const KINDS: [&str; REGISTER.len()] = {
    let mut kinds = [""; REGISTER.len()];
    let mut index = 0;
    while index < kinds.len() {
        kinds[index] = REGISTER[index].0;
        index += 1;
    }
    kinds
};

/// The keys that every step takes.
pub const COMMON_KEYS: [&str; 8] =
    ["name", "when", "timeout", "retry", "description", "owner", "runbook", "labels"];

/// The files of a config root by path (`schemas/order.json`), whoever holds them.
pub trait ConfigFiles {
    /// The bytes of the file at `path`, relative to the root, with `/` between folders.
    fn file(&self, path: &str) -> Option<&[u8]>;

    /// The paths of all files below `folder`, relative to it.
    fn under(&self, folder: &str) -> Vec<&str>;

    /// How findings point into the file at `path`, where they can.
    fn source(&self, _path: &str) -> Option<FileId> {
        None
    }
}

impl ConfigFiles for BTreeMap<String, Vec<u8>> {
    fn file(&self, path: &str) -> Option<&[u8]> {
        self.get(path).map(Vec::as_slice)
    }

    fn under(&self, folder: &str) -> Vec<&str> {
        self.keys().filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/')).collect()
    }
}

/// Looks a name up and reports it where it does not exist.
pub type Find<'a, T> = &'a dyn Fn(&Spanned<String>) -> Option<Arc<T>>;

/// What a step may look up while it is planned.
pub struct PlanContext<'a> {
    /// Where findings go.
    pub diagnostics: &'a Diagnostics,
    /// What the place offers to expressions: [`RootSet::RECORD`] in a stage, [`RootSet::JOB`] in a job.
    pub roots: RootSet,
    /// The declared env names.
    pub env: &'a [String],
    /// The names of the steps before this one.
    pub earlier: &'a [Arc<str>],
    /// The files of the config root.
    pub files: &'a dyn ConfigFiles,
    /// Compiled schemas, shared by one check.
    pub schemas: &'a Schemas,
    /// Lookup tables, shared by one check.
    pub tables: &'a Tables,
    /// Finds a retry policy by name.
    pub retry: Find<'a, RetryPolicy>,
    /// Finds an HTTP client by name.
    pub http_client: Find<'a, HttpClient>,
    /// Finds a database by name.
    pub database: Find<'a, Database>,
    /// Finds a kind of jobs by name.
    pub job: Find<'a, JobKind>,
    /// Finds a topic by name.
    pub topic: Find<'a, EventTopic>,
}

/// Reads one step. What is wrong is reported; `None` then.
pub fn plan(mut table: TableReader<'_>, context: &PlanContext<'_>) -> Option<StepPlan> {
    let name = table.name("name");
    let when = table.text("when");
    let timeout = table.duration("timeout");
    let retry = table.name("retry");
    About::read(&mut table);
    let found: Vec<_> = REGISTER.iter().filter(|(kind, _)| table.has(kind)).collect();
    let &[(kind, read)] = found.as_slice() else {
        report_kinds(&mut table, &found);
        return None;
    };
    let body = read(&mut table, context);
    let when = when.map(|text| context.expression(&text));
    let retry = retry.map(|name| (context.retry)(&name));
    table.finish_with(&KINDS);
    // Everything was read and reported before the first way out.
    let body = body?;
    if let Some(timeout) = timeout.as_ref().filter(|_| !body.waits()) {
        context.diagnostics.push(
            Diagnostic::new(&codes::STAGE_POINTLESS, format!("`timeout` has no effect on a `{kind}` step"))
                .at(timeout.span, "this step never waits")
                .help("remove it; expressions are bounded in work by themselves"),
        );
    }
    context.check_linger(timeout.as_ref(), &*body);
    Some(StepPlan {
        name: Arc::from(name.map_or_else(|| (*kind).to_owned(), |name| name.value)),
        kind,
        when: when.map_or(Some(None), |compiled| compiled.map(Some))?,
        timeout: timeout.map(|timeout| timeout.value).filter(|_| !body.keeps_time()),
        retry: retry.map_or(Some(None), |policy| policy.map(Some))?,
        body,
    })
}

fn report_kinds(table: &mut TableReader<'_>, found: &[&(&'static str, Read)]) {
    let rest = table.rest();
    let finding = match (found, rest.first()) {
        ([first, second, ..], _) => {
            let place = |kind: &str| table.table.get(kind).map_or(table.span(), |entry| entry.key_span);
            Diagnostic::new(
                &codes::STEP_SEVERAL_TYPES,
                format!("{} is both `{}` and `{}`", table.what, first.0, second.0),
            )
            .at(place(second.0), "a second type")
            .also(place(first.0), "the first type")
            .help("write one `[[…steps]]` for each; they run in the order of the file")
        }
        (_, None) => Diagnostic::new(&codes::STEP_NO_TYPE, format!("{} has no type", table.what))
            .at(table.span(), "no key names a type")
            .help(format!("types are {}", words(KINDS))),
        (_, Some(entry)) => {
            let help = match nearest(&entry.key, KINDS) {
                Some(kind) => format!("a type with a similar name exists: `{kind}`"),
                None => format!("types are {}", words(KINDS)),
            };
            let message = format!("{}: there is no type `{}`", table.what, entry.key);
            Diagnostic::new(&codes::STEP_UNKNOWN, message).at(entry.key_span, "no such type").help(help)
        }
    };
    table.report(finding);
}

impl PlanContext<'_> {
    /// Compiles an expression, or reports what is wrong with it.
    pub fn expression(&self, text: &Spanned<String>) -> Option<Expression> {
        let compiled = Expression::compile(&text.value, self.roots);
        let expression = self.reported(text, compiled)?;
        self.names_exist(text, expression.names()).then_some(expression)
    }

    /// Compiles a template, or reports what is wrong with it.
    pub fn template(&self, text: &Spanned<String>) -> Option<Template> {
        self.warn_of_path(text);
        let compiled = Template::compile(&text.value, self.roots);
        let template = self.reported(text, compiled)?;
        self.names_exist(text, template.names()).then_some(template)
    }

    /// Compiles a whole URL (`whole`) or the path of one, or reports what is wrong with it.
    pub fn url(&self, text: &Spanned<String>, whole: bool) -> Option<Template> {
        self.warn_of_path(text);
        let compile = if whole { Template::compile_url } else { Template::compile_url_path };
        let template = self.reported(text, compile(&text.value, self.roots))?;
        self.names_exist(text, template.names()).then_some(template)
    }

    /// Compiles every string in `node` as a template; all else is constant.
    pub fn tree(&self, node: &Node) -> Option<TemplateTree> {
        Some(match &node.value {
            NodeValue::String(_) => {
                let template = self.template(&node.as_text()?)?;
                match template.constant() {
                    Some(value) => TemplateTree::Constant(value.clone()),
                    None => TemplateTree::Leaf(template),
                }
            }
            NodeValue::Array(items) => {
                // All of them are compiled before one that is wrong ends it.
                let trees: Vec<_> = items.iter().map(|item| self.tree(item)).collect();
                TemplateTree::Array(trees.into_iter().collect::<Option<_>>()?)
            }
            NodeValue::Table(table) => {
                let field = |entry: &crate::spec::Entry| Some((entry.key.clone(), self.tree(&entry.node)?));
                let trees: Vec<_> = table.entries.iter().map(field).collect();
                TemplateTree::Object(trees.into_iter().collect::<Option<_>>()?)
            }
            _ => TemplateTree::Constant(node.to_json()),
        })
    }

    /// Reports a wait for a callback where there is no job.
    pub(super) fn check_callback(&self, place: Span, which: &str) {
        let help = "remove it, or enqueue a job that waits";
        self.check_jobs_only(place, which, "a record cannot wait for a callback", help);
    }

    /// Reports what has a meaning only in a job, where this is none.
    pub(super) fn check_jobs_only(&self, place: Span, which: &str, label: &str, help: &str) {
        if !self.roots.contains(Root::Job) {
            self.diagnostics.push(
                Diagnostic::new(&codes::STEP_JOBS_ONLY, format!("{which} has a meaning only in a job"))
                    .at(place, label.to_owned())
                    .help(help),
            );
        }
    }

    /// A record that waits for others must have time left for its answer.
    fn check_linger(&self, timeout: Option<&Spanned<Duration>>, body: &dyn StepBody) {
        let (Some(timeout), Some(gathering)) = (timeout, body.gathering()) else { return };
        let linger = &gathering.linger;
        if timeout.known && linger.known && timeout.value <= linger.value {
            let message = "a record may wait in a batch for as long as the whole step may take";
            let finding = Diagnostic::new(&codes::STEP_BATCH_LINGER, message).at(linger.span, "waits");
            let finding = finding.also(timeout.span, "the whole step");
            self.diagnostics.push(finding.help("shorten `linger`, or lengthen `timeout`"));
        }
    }

    fn reported<T>(&self, text: &Spanned<String>, compiled: Result<T, CompileError>) -> Option<T> {
        let report = |error: CompileError| {
            error.each().for_each(|error| self.diagnostics.push(finding(text, &error)));
        };
        compiled.map_err(report).ok()
    }

    /// Whether the env values and earlier steps that are named exist; reports those that do not.
    fn names_exist(&self, text: &Spanned<String>, names: &[Named]) -> bool {
        let mut all = true;
        for Named { root, name, range } in names {
            let known: Vec<&str> = match root {
                Root::Env => self.env.iter().map(String::as_str).collect(),
                Root::Job => JOB_FIELDS.to_vec(),
                Root::Window => WINDOW_FIELDS.to_vec(),
                _ => self.earlier.iter().map(|step| &**step).collect(),
            };
            if known.contains(&name.as_str()) {
                continue;
            }
            all = false;
            let near = nearest(name, known.iter().copied());
            let near = near.map(|near| format!("`{}.{near}` exists", root.as_str()));
            let meant = bracketed(*root, name, known.iter().copied())
                .map(|meant| format!("write `{meant}`: behind a dot a name ends at its first dot or hyphen"));
            let place = text.part(range.clone());
            let finding = match root {
                Root::Env => Diagnostic::new(&codes::ENV_UNDEFINED, format!("`env.{name}` is not defined"))
                    .at(place, "not in any `[env]`")
                    .help(meant.or(near).unwrap_or_else(|| {
                        format!("define it: [env] {name} = {{ var = \"{}\" }}", name.to_uppercase())
                    })),
                Root::Job | Root::Window => {
                    let message = format!("there is no `{}.{name}`", root.as_str());
                    Diagnostic::new(&codes::EXPRESSION_UNKNOWN, message)
                        .at(place, "not known")
                        .help(near.unwrap_or_else(|| format!("known are {}", words(known.iter().copied()))))
                }
                _ => Diagnostic::new(
                    &codes::EXPRESSION_UNKNOWN_STEP,
                    format!("no step `{name}` has run before this place"),
                )
                .at(place, "no earlier step has this name")
                .help(meant.or(near).unwrap_or_else(|| match known.as_slice() {
                    [] => "no step stands before this place: move it below the step that it reads".to_owned(),
                    known => format!("steps before this place are {}", words(known.iter().copied())),
                })),
            };
            self.diagnostics.push(finding);
        }
        all
    }

    fn warn_of_path(&self, text: &Spanned<String>) {
        if looks_like_path(&text.value, self.roots) {
            self.diagnostics.push(
                Diagnostic::new(
                    &codes::TEMPLATE_LOOKS_LIKE_PATH,
                    format!("`{}` is taken as text, though it looks like a path", text.value),
                )
                .at(text.span, "stands for itself")
                .help(format!("write `\"{{{{ {} }}}}\"` for the value there", text.value)),
            );
        }
    }
}

fn finding(text: &Spanned<String>, error: &CompileError) -> Diagnostic {
    let code = match error.mistake {
        Mistake::Syntax => &codes::EXPRESSION_SYNTAX,
        Mistake::Braces => &codes::EXPRESSION_BRACES,
        Mistake::Unknown => &codes::EXPRESSION_UNKNOWN,
        Mistake::Data => &codes::TEMPLATE_URL_DATA,
        Mistake::Argument => &codes::EXPRESSION_ARGUMENT,
    };
    let label = match error.mistake {
        Mistake::Syntax => "here",
        Mistake::Braces => "braces belong to templates",
        Mistake::Unknown => "not known",
        Mistake::Data => "message data",
        Mistake::Argument => "can never work",
    };
    let help = error.suggestion.as_ref().map(|suggestion| match error.mistake {
        Mistake::Braces => format!("write `{suggestion}`"),
        _ => format!("did you mean `{suggestion}`?"),
    });
    let help = help.unwrap_or_else(|| match error.mistake {
        Mistake::Syntax => "the syntax is Jinja's: docs/expressions.md shows it by example".to_owned(),
        Mistake::Braces => "write the expression bare, without `{{ }}`".to_owned(),
        Mistake::Unknown => "docs/expressions.md lists what there is".to_owned(),
        Mistake::Data => "put the address into `[env]` or the text, and message data behind the host: \
             \"{{ env.url }}/{{ value.id }}\""
            .to_owned(),
        Mistake::Argument => "docs/expressions.md shows what the filter takes".to_owned(),
    });
    Diagnostic::new(code, error.message.clone()).at(text.part(error.range.clone()), label).help(help)
}

/// Whether a text without braces is a root and names below it.
fn looks_like_path(text: &str, roots: RootSet) -> bool {
    let mut names = text.split('.');
    let first = names.next().unwrap_or_default();
    let name = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    text.contains('.') && roots.iter().any(|root| root.as_str() == first) && names.all(name)
}
