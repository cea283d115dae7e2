//! One finding, and the list that collects them. A finding never holds the value of a secret.

use std::cell::RefCell;

use super::{Code, SourceMap, Span, merge};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The config is not accepted.
    Error,
    /// Accepted, but hardly what was meant.
    Warning,
}

impl Severity {
    /// The word shown to people and machines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A place and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// A few words; may be empty.
    pub text: String,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of finding; fixes its severity.
    pub code: &'static Code,
    /// One line.
    pub message: String,
    /// The place; `None` where there is no file to point at.
    pub primary: Option<Label>,
    /// Further places, such as the other of two that disagree.
    pub related: Vec<Label>,
    /// What to do; one line each.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// A finding without a place yet.
    pub fn new(code: &'static Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), primary: None, related: Vec::new(), help: Vec::new() }
    }

    /// Its severity, which its code fixes.
    pub fn severity(&self) -> Severity {
        self.code.severity
    }

    /// Sets the place.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.primary = Some(Label { span, text: label.into() });
        self
    }

    /// Adds a further place.
    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push(Label { span, text: label.into() });
        self
    }

    /// Adds a line of help.
    #[must_use]
    pub fn help(mut self, line: impl Into<String>) -> Self {
        self.help.push(line.into());
        self
    }

    /// Adds a line of help if there is one.
    #[must_use]
    pub fn maybe_help(mut self, line: Option<impl Into<String>>) -> Self {
        self.help.extend(line.map(Into::into));
        self
    }
}

/// Collects findings; shared by reference among all that check one config root.
#[derive(Debug, Default)]
pub struct Diagnostics {
    list: RefCell<Vec<Diagnostic>>,
}

impl Diagnostics {
    /// Adds a finding.
    pub fn push(&self, finding: Diagnostic) {
        self.list.borrow_mut().push(finding);
    }

    /// How many errors there are so far.
    pub fn errors(&self) -> usize {
        self.list.borrow().iter().filter(|finding| finding.severity() == Severity::Error).count()
    }

    /// How many findings there are so far, warnings included.
    pub fn len(&self) -> usize {
        self.list.borrow().len()
    }

    /// Whether nothing was found so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives up those of the findings behind the first `kept` that `unwanted` names.
    pub fn drop_behind(&self, kept: usize, unwanted: impl Fn(&Diagnostic) -> bool) {
        let mut index = 0;
        self.list.borrow_mut().retain(|finding| {
            index += 1;
            index <= kept || !unwanted(finding)
        });
    }

    /// The findings by path, place and code, each once.
    pub fn into_sorted(self, sources: &SourceMap) -> Vec<Diagnostic> {
        let mut list = self.list.into_inner();
        list.sort_by_cached_key(|finding| {
            let place = finding
                .primary
                .as_ref()
                .map(|label| (sources.path(label.span.file).to_owned(), label.span.start, label.span.end));
            (place, finding.severity(), finding.code.name, finding.message.clone())
        });
        list.dedup();
        merge::merge(list)
    }
}
