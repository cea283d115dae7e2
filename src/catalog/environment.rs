//! The values of `[env]`: process variables win over mounted files, those over the chosen
//! environment's file, that over defaults. What is not set keeps its type, unless it is required.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};

use super::Outside;
use crate::diag::{Diagnostic, Diagnostics, codes, nearest, words};
use crate::expr::{EnvScope, Named, Root, RootSet, Template, bracketed};
use crate::spec::{
    Entry, EnvSpec, NoSettings, ReadContext, Resolved, Sections, Settings, Spanned, Table, ValueKind,
};

/// The declared environment with its values.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// Values by name; a sample of the right type stands for what is not set.
    pub(super) values: Arc<Json>,
    declared: IndexMap<String, Declared>,
}

#[derive(Debug, Clone)]
struct Declared {
    secret: bool,
    known: bool,
}

/// Where values come from.
pub(super) struct Sources<'a> {
    pub(super) outside: &'a dyn Outside,
    /// Every `environments/NAME.toml` that could be read.
    pub(super) files: &'a IndexMap<String, Table>,
    /// The chosen one.
    pub(super) chosen: Option<&'a str>,
    /// Whether the chosen one's file is broken: what it does not hold may stand where it cannot be read.
    pub(super) broken: bool,
    /// Whether a missing value is an error.
    pub(super) required: bool,
}

impl Environment {
    /// Reads `[env]` and finds each value.
    pub(super) fn read(sections: &Sections<'_>, sources: &Sources<'_>, diagnostics: &Diagnostics) -> Self {
        let context = ReadContext::new(diagnostics, &NoSettings);
        let specs: IndexMap<_, _> = sections
            .env
            .iter()
            .map(|(name, entry)| ((*name).to_owned(), EnvSpec::read(entry, context)))
            .collect();
        check_files(&specs, sources, context);
        let mut values = Map::new();
        let mut declared = IndexMap::new();
        for (name, spec) in specs {
            let Some(spec) = spec else {
                // Declared, but wrongly: whoever uses it is not to blame.
                values.insert(name.clone(), Json::Null);
                declared.insert(name, Declared { secret: true, known: false });
                continue;
            };
            let found = find(&spec, sources, diagnostics);
            declared.insert(name.clone(), Declared { secret: spec.secret, known: found.is_some() });
            values.insert(name, found.unwrap_or_else(|| sample(spec.kind)));
        }
        Self { values: Arc::new(Json::Object(values)), declared }
    }

    /// Whether every value that a template reads is marked as secret; what is not declared has been
    /// reported.
    pub(super) fn all_secret(&self, template: &Template) -> bool {
        self.read_by(template).all(|value| value.is_none_or(|value| value.secret))
    }

    fn all_public(&self, template: &Template) -> bool {
        self.read_by(template).all(|value| value.is_some_and(|value| !value.secret))
    }

    /// Whether every value that a template reads has a value.
    pub(super) fn all_known(&self, template: &Template) -> bool {
        self.read_by(template).all(|value| value.is_some_and(|value| value.known))
    }

    /// What a template reads of `env`: by name, or all of it where it looks at `env` as a whole.
    fn read_by<'t>(&'t self, template: &'t Template) -> impl Iterator<Item = Option<&'t Declared>> {
        let named = template.names().iter().filter(|named| named.root == Root::Env);
        let whole = template.reads_whole().contains(Root::Env);
        let all = self.declared.values().filter(move |_| whole).map(Some);
        named.map(|named| self.declared.get(&named.name)).chain(all)
    }

    /// Reports names under `env` that are not declared; true: there are none.
    fn check_names(&self, text: &Spanned<String>, names: &[Named], diagnostics: &Diagnostics) -> bool {
        let known = || self.declared.keys().map(String::as_str);
        let mut fine = true;
        for Named { name, range, .. } in names.iter().filter(|named| !self.declared.contains_key(&named.name))
        {
            fine = false;
            let help = match (bracketed(Root::Env, name, known()), nearest(name, known())) {
                (Some(meant), _) => {
                    format!("write `{meant}`: behind a dot a name ends at its first dot or hyphen")
                }
                (None, Some(near)) => format!("`env.{near}` exists"),
                (None, None) => {
                    format!("define it: [env] {name} = {{ var = \"{}\" }}", name.to_uppercase())
                }
            };
            diagnostics.push(
                Diagnostic::new(&codes::ENV_UNDEFINED, format!("`env.{name}` is not defined"))
                    .at(text.part(range.clone()), "not in any `[env]`")
                    .help(help),
            );
        }
        fine
    }

    /// The values that are no secrets, for the digest.
    pub(super) fn public(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.declared
            .iter()
            .filter(|(_, value)| !value.secret)
            .filter_map(|(name, _)| Some((name.as_str(), self.values.get(name)?)))
    }
}

impl Settings for Environment {
    fn resolve(&self, template: &Spanned<String>, diagnostics: &Diagnostics) -> Option<Resolved> {
        let refuse = |message: &str, range: std::ops::Range<usize>| {
            diagnostics.push(
                Diagnostic::new(&codes::ENV_TEMPLATE, format!("this setting cannot be filled in: {message}"))
                    .at(template.part(range), "settings see `env` alone")
                    .help("take it from `[env]`: \"{{ env.NAME }}\""),
            );
        };
        let compiled = match Template::compile(&template.value, RootSet::ENV) {
            Ok(compiled) => compiled,
            Err(error) => {
                error.each().for_each(|error| refuse(&error.message, error.range));
                return None;
            }
        };
        if !self.check_names(template, compiled.names(), diagnostics) {
            return None;
        }
        let known = self.all_known(&compiled);
        match compiled.render(&EnvScope(&self.values)) {
            Ok(value) if known => Some(Resolved::Known(value.into_owned())),
            Ok(value) => Some(Resolved::Unknown(kind_of(&value))),
            Err(_) if !known => Some(Resolved::Unknown(ValueKind::String)),
            Err(failure) => {
                // What failed may tell of a secret: its code says enough.
                let why = if self.all_public(&compiled) { &*failure.message } else { &*failure.code };
                refuse(why, 0..template.value.len());
                None
            }
        }
    }

    fn is_secret(&self, template: &str) -> bool {
        // What cannot be read has been reported; it is not shown either.
        Template::compile(template, RootSet::ENV).map_or(true, |template| {
            self.read_by(&template).any(|value| value.is_none_or(|value| value.secret))
        })
    }
}

fn kind_of(value: &Json) -> ValueKind {
    match value {
        Json::Bool(_) => ValueKind::Boolean,
        Json::Number(number) if number.is_f64() => ValueKind::Float,
        Json::Number(_) => ValueKind::Integer,
        _ => ValueKind::String,
    }
}

fn sample(kind: ValueKind) -> Json {
    match kind {
        ValueKind::String => "".into(),
        ValueKind::Integer => 1.into(),
        ValueKind::Float => 1.0.into(),
        ValueKind::Boolean => true.into(),
    }
}

/// The value of one declaration; `None`: not set, or set wrongly and reported.
fn find(spec: &EnvSpec, sources: &Sources<'_>, diagnostics: &Diagnostics) -> Option<Json> {
    let name = &spec.name.value;
    let outside = spec
        .variable
        .as_deref()
        .and_then(|variable| Some((sources.outside.variable(variable)?, format!("the variable {variable}"))));
    let text = match (outside, &spec.file) {
        (Some(found), _) => Some(found),
        (None, Some(file)) => match sources.outside.mounted(&file.value) {
            Ok(text) => {
                Some((text.trim_end_matches(['\r', '\n']).to_owned(), format!("the file {}", file.value)))
            }
            Err(why) if sources.required => {
                diagnostics.push(
                    Diagnostic::new(&codes::ENV_MISSING, format!("`env.{name}` has no value: {why}"))
                        .at(file.span, "cannot be read")
                        .help(match &spec.variable {
                            Some(variable) => format!("mount the file, or set {variable}"),
                            None => "mount the file".to_owned(),
                        }),
                );
                return None;
            }
            Err(_) => None,
        },
        (None, None) => None,
    };
    if let Some((text, origin)) = text {
        let value = typed(&text, spec.kind);
        if value.is_none() {
            // The text is not shown: it may be secret.
            let message = format!("`env.{name}` is not {}", spec.kind.described());
            diagnostics.push(
                Diagnostic::new(&codes::ENV_TYPE, message)
                    .at(spec.span, format!("{origin} holds something else"))
                    .help(format!("set it to {}, or declare another `type`", spec.kind.described())),
            );
        }
        return value;
    }
    let committed = sources.chosen.and_then(|chosen| sources.files.get(chosen)?.get(name));
    match committed.map(|entry| &entry.node).or(spec.default.as_ref()) {
        // One of another type has been reported.
        Some(node) => spec.kind.fits(&node.value).then(|| node.to_json()),
        None => {
            if sources.required && !sources.broken {
                diagnostics.push(missing(spec));
            }
            None
        }
    }
}

fn missing(spec: &EnvSpec) -> Diagnostic {
    let name = &spec.name.value;
    let (why, help) = match &spec.variable {
        Some(variable) => (
            format!("the variable {variable} is not set"),
            format!("set {variable}, give a `default`, or write it in environments/NAME.toml"),
        ),
        None => (
            "it names no variable, no file and no default".to_owned(),
            format!("name a variable: {name} = {{ var = \"{}\" }}", name.to_uppercase()),
        ),
    };
    Diagnostic::new(&codes::ENV_MISSING, format!("`env.{name}` has no value: {why}"))
        .at(spec.name.span, "needs a value")
        .help(if spec.secret && spec.variable.is_some() {
            let variable = spec.variable.as_deref().unwrap_or_default();
            format!("set {variable}, or name a mounted file: `file = \"/run/secrets/…\"`")
        } else {
            help
        })
}

fn typed(text: &str, kind: ValueKind) -> Option<Json> {
    match kind {
        ValueKind::String => Some(text.into()),
        ValueKind::Integer => text.trim().parse::<i64>().ok().map(Json::from),
        ValueKind::Float => {
            text.trim().parse::<f64>().ok().filter(|number| number.is_finite()).map(Json::from)
        }
        ValueKind::Boolean => text.trim().parse::<bool>().ok().map(Json::from),
    }
}

/// The chosen environment has a file; every file names only what is declared, in its type, and no secrets.
fn check_files(specs: &IndexMap<String, Option<EnvSpec>>, sources: &Sources<'_>, context: ReadContext<'_>) {
    let diagnostics = context.diagnostics;
    if let Some(chosen) = sources.chosen.filter(|chosen| !sources.files.contains_key(*chosen)) {
        let known = || sources.files.keys().map(String::as_str);
        let help = match nearest(chosen, known()) {
            Some(near) => format!("an environment with a similar name exists: `{near}`"),
            None => format!("there are environments for {}", words(known())),
        };
        let message = format!("there is no environments/{chosen}.toml");
        diagnostics.push(Diagnostic::new(&codes::ENVIRONMENT_UNDEFINED, message).help(help));
    }
    for entry in sources.files.values().flat_map(|table| &table.entries) {
        match specs.get(&entry.key) {
            None => diagnostics.push(undeclared(entry, specs)),
            Some(Some(spec)) if spec.secret => diagnostics.push(
                Diagnostic::new(
                    &codes::SECRET_LITERAL,
                    format!("secret env value `{}` is written in a file", entry.key),
                )
                .at(entry.node.span, "readable by all who read the file")
                .also(spec.name.span, "declared as a secret here")
                .help("remove it and set the variable, or name a mounted file"),
            ),
            Some(Some(spec)) => spec.check_type(&entry.node, context),
            Some(None) => {}
        }
    }
}

fn undeclared(entry: &Entry, specs: &IndexMap<String, Option<EnvSpec>>) -> Diagnostic {
    let near = nearest(&entry.key, specs.keys().map(String::as_str));
    Diagnostic::new(&codes::ENV_UNDEFINED, format!("`{}` is not declared in `[env]`", entry.key))
        .at(entry.key_span, "no such value")
        .help(match near {
            Some(near) => format!("a value with a similar name exists: `{near}`"),
            None => format!("declare it: [env] {} = {{ var = \"{}\" }}", entry.key, entry.key.to_uppercase()),
        })
}
