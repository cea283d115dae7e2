//! What is wrong with the text of an expression or template.

use std::fmt;
use std::ops::Range;

/// What kind of mistake it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// It cannot be read.
    Syntax,
    /// `{{ }}` around a bare expression.
    Braces,
    /// A name of something that does not exist.
    Unknown,
    /// Message data where only text and `env` may stand.
    Data,
    /// An argument that can never work: a pattern that is none, a time zone that does not exist.
    Argument,
}

/// A text that does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// What kind of mistake it is.
    pub mistake: Mistake,
    /// What is wrong, in one line.
    pub message: String,
    /// Where: bytes of the source; may be empty where only a place is known.
    pub range: Range<usize>,
    /// What may have been meant; a name or a text to write instead.
    pub suggestion: Option<String>,
    /// The further mistakes of the same text.
    pub more: Vec<CompileError>,
}

impl CompileError {
    pub(super) fn new(message: impl Into<String>, range: Range<usize>) -> Self {
        let message = message.into();
        Self { mistake: Mistake::Syntax, message, range, suggestion: None, more: Vec::new() }
    }

    /// Several mistakes of one text as one error; `None`: there are none.
    pub(super) fn joined(errors: Vec<Self>) -> Option<Self> {
        let mut all: Vec<_> = errors.into_iter().flat_map(Self::each).collect();
        all.sort_by_key(|error| error.range.start);
        let mut all = all.into_iter();
        let mut first = all.next()?;
        first.more = all.collect();
        Some(first)
    }

    /// The mistakes one by one, in the order of the text.
    pub fn each(mut self) -> impl Iterator<Item = Self> {
        let more = std::mem::take(&mut self.more);
        std::iter::once(self).chain(more)
    }

    /// The same error, of another kind.
    pub(super) fn of(self, mistake: Mistake) -> Self {
        Self { mistake, ..self }
    }

    /// The same error with the nearest of `known` to `name`, if one is near.
    pub(super) fn near<'a>(mut self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        self.suggestion = known
            .into_iter()
            .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
            .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 4)
            .min()
            .map(|(_, candidate)| candidate.to_owned());
        self
    }

    /// The same error in a text that begins `offset` bytes further on.
    pub(super) fn shifted(mut self, offset: usize) -> Self {
        self.range = self.range.start + offset..self.range.end + offset;
        self.more = self.more.into_iter().map(|error| error.shifted(offset)).collect();
        self
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CompileError {}
