//! Settings that may be templates over `env`. Evaluation is the catalog's: here only the door.

use std::ops::Range;

use super::node::part_of;
use super::{Ledger, NodeValue};
use crate::diag::{Diagnostics, Span};

/// A value, where it stands, and whether it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    /// The value; a stand-in of the right type where it is not known.
    pub value: T,
    /// The place of the whole value.
    pub span: Span,
    /// False where it hangs on a variable that is not set: then nothing may be concluded from `value`.
    pub known: bool,
    /// False where `[defaults.…]` says it and not the table itself.
    pub own: bool,
    pub(super) content: Option<u32>,
}

impl<T> Spanned<T> {
    /// A known value that the table itself says.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span, known: true, own: true, content: None }
    }

    /// The place of the bytes `part` of a string's text; the whole value where escapes moved them.
    pub fn part(&self, part: Range<usize>) -> Span {
        part_of(self.span, self.content, part)
    }

    /// Another value at the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        let Self { value, span, known, own, content } = self;
        Spanned { value: change(value), span, known, own, content }
    }
}

/// The type of an env value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// Yes or no.
    Boolean,
}

impl ValueKind {
    /// The word in TOML, with an article.
    pub const fn described(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Float => "a float",
            Self::Boolean => "a boolean",
        }
    }

    /// Whether `value` is of this type; a whole number is a number too.
    pub const fn fits(self, value: &NodeValue) -> bool {
        match self {
            Self::String => matches!(value, NodeValue::String(_)),
            Self::Integer => matches!(value, NodeValue::Integer(_)),
            Self::Float => matches!(value, NodeValue::Integer(_) | NodeValue::Float(_)),
            Self::Boolean => matches!(value, NodeValue::Boolean(_)),
        }
    }

    /// How a value of this type is written, for help.
    pub const fn example(self) -> &'static str {
        match self {
            Self::String => "in quotes: \"text\"",
            Self::Integer => "as a whole number without quotes: 16",
            Self::Float => "as a number without quotes: 0.5",
            Self::Boolean => "as `true` or `false`",
        }
    }
}

/// What a template over `env` gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolved {
    /// A value.
    Known(serde_json::Value),
    /// Something of that type, once its variable is set.
    Unknown(ValueKind),
}

/// Fills in settings.
pub trait Settings {
    /// Evaluates a template over `env` alone; `None`: it cannot be, and that has been reported.
    fn resolve(&self, template: &Spanned<String>, diagnostics: &Diagnostics) -> Option<Resolved>;

    /// Whether what `template` gives must never be shown.
    fn is_secret(&self, _template: &str) -> bool {
        false
    }
}

/// For texts without `env`: takes every template as text.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSettings;

impl Settings for NoSettings {
    fn resolve(&self, template: &Spanned<String>, _: &Diagnostics) -> Option<Resolved> {
        Some(Resolved::Known(template.value.as_str().into()))
    }
}

/// What reading needs beside the table; cheap to copy.
#[derive(Clone, Copy)]
pub struct ReadContext<'a> {
    /// Where findings go.
    pub diagnostics: &'a Diagnostics,
    /// Who fills in settings.
    pub settings: &'a dyn Settings,
    /// Where readers note what they ask for, if somebody wants to know.
    pub ledger: Option<&'a Ledger>,
}

impl<'a> ReadContext<'a> {
    /// For reading without notes.
    pub fn new(diagnostics: &'a Diagnostics, settings: &'a dyn Settings) -> Self {
        Self { diagnostics, settings, ledger: None }
    }

    /// The same, with notes in `ledger`.
    #[must_use]
    pub fn noting(self, ledger: Option<&'a Ledger>) -> Self {
        Self { ledger, ..self }
    }
}

/// Whether a string is a template at all.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}
