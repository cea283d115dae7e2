//! TOML as a tree that keeps the place of every key and value, in the order of the file.

use std::ops::Range;

use toml::value::Datetime;

use super::Spanned;
use crate::diag::Span;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The place of the whole value, quotes and braces included.
    pub span: Span,
    /// The value.
    pub value: NodeValue,
    /// Where a string's text begins in the file, if it stands there letter by letter.
    pub(super) content: Option<u32>,
}

/// A TOML value.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeValue {
    /// Text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Boolean(bool),
    /// A date, a time or both.
    Datetime(Datetime),
    /// Values in order.
    Array(Vec<Node>),
    /// Values by key.
    Table(Table),
}

/// Keys and values in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The place of its header, its braces or its dotted key.
    pub span: Span,
    /// The entries; each key once.
    pub entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key without quotes.
    pub key: String,
    /// The place of the key.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

impl Table {
    /// The entry under `key`.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

impl NodeValue {
    /// What it is, with an article, for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a datetime",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// The string with its place, if it is one.
    pub fn as_text(&self) -> Option<Spanned<String>> {
        match &self.value {
            NodeValue::String(text) => {
                Some(Spanned { content: self.content, ..Spanned::new(text.clone(), self.span) })
            }
            _ => None,
        }
    }

    /// The table, if it is one.
    pub fn as_table(&self) -> Option<&Table> {
        match &self.value {
            NodeValue::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Node]> {
        match &self.value {
            NodeValue::Array(nodes) => Some(nodes),
            _ => None,
        }
    }

    /// The same value as JSON; datetimes become text, numbers that JSON has not become null.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            NodeValue::String(text) => text.as_str().into(),
            NodeValue::Integer(number) => (*number).into(),
            NodeValue::Float(number) => (*number).into(),
            NodeValue::Boolean(truth) => (*truth).into(),
            NodeValue::Datetime(time) => time.to_string().into(),
            NodeValue::Array(nodes) => nodes.iter().map(Self::to_json).collect(),
            NodeValue::Table(table) => {
                let fields = table.entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json()));
                serde_json::Value::Object(fields.collect())
            }
        }
    }

    /// The place of the bytes `part` of a string's text; the whole value where escapes moved them.
    pub fn part(&self, part: Range<usize>) -> Span {
        part_of(self.span, self.content, part)
    }
}

pub(super) fn part_of(whole: Span, content: Option<u32>, part: Range<usize>) -> Span {
    let Some(start) = content else { return whole };
    let at = |offset: usize| start.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX)).min(whole.end);
    Span { file: whole.file, start: at(part.start), end: at(part.end).max(at(part.start)) }
}
