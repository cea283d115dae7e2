//! What readers ask of tables, noted down while they read: each key, what it takes and where its value
//! came from. From it come the language's schema and what `explain` says about a setting, so that
//! neither can know a key that nobody reads.
//!
//! Nothing is noted unless a [`Ledger`] is there; a check without one pays nothing.

use std::cell::RefCell;

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::{Entry, NodeValue};
use crate::diag::Span;

/// What a key takes, as its getter knows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A string, which may be a template over `env`.
    Setting,
    /// A string as it stands: an expression, or a template over data.
    Text,
    /// The name of something.
    Name,
    /// One string or an array of them; `true`: they are names.
    Texts(bool),
    /// A whole number within bounds.
    Integer(i64, i64),
    /// A number within bounds.
    Float(f64, f64),
    /// Yes or no.
    Boolean,
    /// A string in a form of its own, described in words.
    Form(String),
    /// One of these words.
    Word(Vec<String>),
    /// One of these words or an array of them.
    Words(Vec<String>),
    /// A datetime with an offset.
    Datetime,
    /// A table.
    Table,
    /// An array of tables.
    Tables,
    /// Looked at by whoever reads it, who knows what it takes.
    Any,
}

/// The type of a TOML value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// Yes or no.
    Boolean,
    /// A date, a time or both.
    Datetime,
    /// Values in order.
    Array,
    /// Values by key.
    Table,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The table itself; the place of the key.
    Own(Span),
    /// The defaults of its section; the place of the key.
    Defaults(Span),
}

/// What is known about one key of one table.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// What it was asked for as, each once.
    pub kinds: Vec<Kind>,
    /// Whether it has to be there.
    pub required: bool,
    /// The types of values that were refused for it.
    pub refused: Vec<Type>,
    /// Where its value came from; `None`: nothing is written.
    pub origin: Option<Origin>,
    /// What is written, as JSON.
    pub written: Option<Json>,
    /// What a template over `env` made of it; null where a variable is not set or a secret.
    pub filled: Option<Filled>,
}

/// What a template over `env` became.
#[derive(Debug, Clone, PartialEq)]
pub enum Filled {
    /// A value.
    Value(Json),
    /// A value that is never shown.
    Secret,
    /// Nothing yet: a variable is not set.
    Unset,
}

/// What is known about one table.
#[derive(Debug, Clone, Default)]
pub struct Asks {
    /// Its keys in the order of reading.
    pub keys: IndexMap<String, Asked>,
    /// Whether its reader refuses other keys.
    pub closed: bool,
}

/// The notes of all readers by the path of their table, such as `stages/normalize/window`.
#[derive(Debug, Default)]
pub struct Ledger {
    tables: RefCell<IndexMap<String, Asks>>,
}

impl Ledger {
    /// All notes.
    pub fn into_tables(self) -> IndexMap<String, Asks> {
        self.tables.into_inner()
    }

    /// Begins a table, so that one of which nothing is asked is known as well.
    pub(super) fn open(&self, path: &str) {
        self.tables.borrow_mut().entry(path.to_owned()).or_default();
    }

    pub(super) fn close(&self, path: &str) {
        self.tables.borrow_mut().entry(path.to_owned()).or_default().closed = true;
    }

    pub(super) fn asked(&self, path: &str, key: &str, kind: Kind) {
        self.change(path, key, |asked| {
            if !asked.kinds.contains(&kind) {
                asked.kinds.push(kind);
            }
        });
    }

    pub(super) fn required(&self, path: &str, key: &str) {
        self.change(path, key, |asked| asked.required = true);
    }

    pub(super) fn refused(&self, path: &str, key: &str, value: &NodeValue) {
        self.change(path, key, |asked| asked.refused.push(Type::of(value)));
    }

    pub(super) fn found(&self, path: &str, entry: &Entry, origin: Origin) {
        self.change(path, &entry.key, |asked| {
            asked.origin = Some(origin);
            asked.written = Some(entry.node.to_json());
        });
    }

    pub(super) fn filled(&self, path: &str, key: &str, filled: Filled) {
        self.change(path, key, |asked| asked.filled = Some(filled));
    }

    fn change(&self, path: &str, key: &str, change: impl FnOnce(&mut Asked)) {
        let mut tables = self.tables.borrow_mut();
        let table = tables.entry(path.to_owned()).or_default();
        change(table.keys.entry(key.to_owned()).or_default());
    }
}

impl Type {
    /// The type of `value`.
    pub fn of(value: &NodeValue) -> Self {
        match value {
            NodeValue::String(_) => Self::String,
            NodeValue::Integer(_) => Self::Integer,
            NodeValue::Float(_) => Self::Float,
            NodeValue::Boolean(_) => Self::Boolean,
            NodeValue::Datetime(_) => Self::Datetime,
            NodeValue::Array(_) => Self::Array,
            NodeValue::Table(_) => Self::Table,
        }
    }
}
