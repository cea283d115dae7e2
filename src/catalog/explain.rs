//! What one definition comes to: each setting with its value and where that came from.
//!
//! The keys are those that the readers ask for, the origins are what they noted while reading, and what
//! nobody wrote is taken from what runs. Secrets are not in it.

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::built_in::built_in;
use super::check::check_noting;
use super::language::definition;
use super::{CheckOptions, Checked, Tree};
use crate::spec::{Asked, Asks, Filled, Ledger, Origin, Shape, Takes};
use crate::steps::KINDS;

/// One setting of a definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its key, dotted where it stands in a table of the definition.
    pub key: String,
    /// What it is.
    pub value: Shown,
    /// Where it is written; `None`: it is built in.
    pub origin: Option<Origin>,
    /// The template over `env` that gave the value.
    pub template: Option<String>,
}

/// The value of a setting, as far as it can be shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// A value.
    Value(Json),
    /// A value that is never shown.
    Secret,
    /// Hangs on a variable that is not set.
    Unset,
    /// No value: what happens instead, in words.
    Said(&'static str),
}

/// A check, and what one definition comes to.
#[derive(Debug)]
pub struct Explained {
    /// The check; where it has errors, nothing is explained.
    pub checked: Checked,
    /// The settings in the order of the reference; `None`: there are errors, or no such definition.
    pub settings: Option<Vec<Setting>>,
}

/// Checks the files and explains the definition `name` of a section.
pub fn explain(tree: &Tree, options: &CheckOptions<'_>, section: &str, name: &str) -> Explained {
    let ledger = Ledger::default();
    let checked = check_noting(tree, options, Some(&ledger));
    let known = checked.places.contains_key(&(section.to_owned(), name.to_owned()));
    let shape = if known { definition(section) } else { None };
    let settings = shape.zip(checked.catalog.as_ref()).map(|(shape, catalog)| {
        let tables = ledger.into_tables();
        let notes = Notes { tables: &tables, built_in: &|key| built_in(catalog, section, name, key) };
        let mut settings = Vec::new();
        notes.walk(&format!("{section}/{name}"), "", &shape, &mut settings);
        settings
    });
    Explained { checked, settings }
}

struct Notes<'a> {
    tables: &'a IndexMap<String, Asks>,
    built_in: &'a dyn Fn(&str) -> Option<Shown>,
}

impl Notes<'_> {
    fn walk(&self, path: &str, before: &str, shape: &Shape, settings: &mut Vec<Setting>) {
        for (key, own) in &shape.keys {
            let (full, below) = (format!("{before}{key}"), format!("{path}/{key}"));
            let asked = self.tables.get(path).and_then(|asks| asks.keys.get(key));
            let written = asked.is_some_and(|asked| asked.origin.is_some());
            match own.takes.iter().find(|takes| matches!(takes, Takes::Table(_) | Takes::Tables(_))) {
                Some(Takes::Tables(_)) if written && key == "steps" => self.steps(&below, settings),
                Some(Takes::Tables(inner)) if written => {
                    let count = asked.and_then(|asked| asked.written.as_ref()?.as_array().map(Vec::len));
                    for index in 0..count.unwrap_or_default() {
                        let before = format!("{full}[{index}].");
                        self.walk(&format!("{below}/{index}"), &before, inner, settings);
                    }
                }
                Some(Takes::Table(inner)) if inner.rest.is_some() && !written => {
                    self.push(full, None, settings);
                }
                Some(Takes::Table(inner)) => {
                    self.walk(&below, &format!("{full}."), inner, settings);
                    let rest = self.tables.get(&below).into_iter().flat_map(|asks| &asks.keys);
                    for (key, asked) in rest.filter(|(key, _)| !inner.keys.contains_key(*key)) {
                        self.push(format!("{full}.{key}"), Some(asked), settings);
                    }
                }
                _ => self.push(full, asked, settings),
            }
        }
    }

    /// Of steps, what is written: what a kind takes beside that is on its page.
    fn steps(&self, path: &str, settings: &mut Vec<Setting>) {
        for index in 0.. {
            let at = format!("{path}/{index}");
            let Some(asks) = self.tables.get(&at) else { break };
            let name = asks.keys.get("name").and_then(|asked| asked.written.as_ref()?.as_str());
            let kind = || asks.keys.keys().map(String::as_str).find(|key| KINDS.contains(key));
            let name = name.or_else(kind).unwrap_or("step");
            self.written(&at, &format!("steps.{name}"), settings);
        }
    }

    fn written(&self, path: &str, before: &str, settings: &mut Vec<Setting>) {
        let Some(asks) = self.tables.get(path) else { return };
        for (key, asked) in asks.keys.iter().filter(|(_, asked)| asked.origin.is_some()) {
            let (full, below) = (format!("{before}.{key}"), format!("{path}/{key}"));
            match self.tables.get(&below) {
                Some(inner) if !inner.keys.is_empty() => self.written(&below, &full, settings),
                _ => self.push(full, Some(asked), settings),
            }
        }
    }

    fn push(&self, key: String, asked: Option<&Asked>, settings: &mut Vec<Setting>) {
        let written = asked.and_then(|asked| Some((asked, asked.origin?)));
        settings.push(match written {
            None => {
                let value = (self.built_in)(&key).unwrap_or(Shown::Said("unknown"));
                Setting { key, value, origin: None, template: None }
            }
            Some((asked, origin)) => {
                let written = asked.written.clone().unwrap_or_default();
                let template = asked.filled.as_ref().and_then(|_| written.as_str().map(str::to_owned));
                let value = match &asked.filled {
                    None => Shown::Value(written),
                    Some(Filled::Value(value)) => Shown::Value(value.clone()),
                    Some(Filled::Secret) => Shown::Secret,
                    Some(Filled::Unset) => Shown::Unset,
                };
                Setting { key, value, origin: Some(origin), template }
            }
        });
    }
}
