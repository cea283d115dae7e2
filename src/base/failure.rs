//! What went wrong with a record or a job, in a form that a retry policy can judge.
//!
//! Every error that ends an attempt becomes a [`Failure`]; its class and code are the only things
//! a policy looks at, its message is for people. Codes form a small, fixed vocabulary, so that they
//! may label metrics.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::units::format_duration;

/// The kind of an error, which decides what may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// May pass by itself: a timeout, a refused connection, 429, 5xx.
    Transient,
    /// Will fail again on the same input: a schema, a template, 4xx.
    Permanent,
    /// The bytes cannot be decoded at all.
    Poison,
    /// The deployment is wrong: a missing permission, a bad setting.
    Fatal,
}

impl Class {
    /// All classes, in the order the documentation lists them.
    pub const ALL: [Self; 4] = [Self::Transient, Self::Permanent, Self::Poison, Self::Fatal];

    /// The word used in TOML, headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Poison => "poison",
            Self::Fatal => "fatal",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who decides what comes after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Remedy {
    /// The retry policy, by class and code.
    #[default]
    Policy,
    /// There is no further attempt; the policy's `on_exhausted` decides what becomes of the record.
    None,
    /// There is no further attempt: a setting of its own says dead-letter, whatever `on_exhausted`
    /// says. Where there is no DLQ, `on_exhausted` decides.
    DeadLetter,
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of error it is.
    pub class: Class,
    /// A stable code such as `schema` or `http-503`; kebab-case.
    pub code: Cow<'static, str>,
    /// One line for people; never holds a secret.
    pub message: String,
    /// The name of the step that failed; `None` before the first step and after the last.
    pub step: Option<String>,
    /// How long the other side asked to wait (`Retry-After`), if it did.
    pub retry_after: Option<Duration>,
    /// Who decides what comes next.
    pub remedy: Remedy,
}

impl Failure {
    /// A failure of `class` with `code`, before it is known which step it belongs to.
    pub fn new(class: Class, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self { class, code, message, step: None, retry_after: None, remedy: Remedy::Policy }
    }

    /// A [`Class::Transient`] failure.
    pub fn transient(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Class::Transient, code, message)
    }

    /// That of `what` (`the step`), which took longer than `limit`: transient, `timeout`.
    pub fn took_longer(what: &str, limit: Duration) -> Self {
        Self::transient("timeout", format!("{what} took longer than {}", format_duration(limit)))
    }

    /// A [`Class::Permanent`] failure.
    pub fn permanent(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Class::Permanent, code, message)
    }

    /// A [`Class::Poison`] failure.
    pub fn poison(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Class::Poison, code, message)
    }

    /// A [`Class::Fatal`] failure.
    pub fn fatal(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Class::Fatal, code, message)
    }

    /// The same failure, said to have happened in `step` unless a deeper step was named already.
    #[must_use]
    pub fn in_step(mut self, step: &str) -> Self {
        self.step.get_or_insert_with(|| step.to_owned());
        self
    }

    /// The same failure, which no further attempt follows whatever the policy covers.
    #[must_use]
    pub fn given_up(mut self) -> Self {
        self.remedy = Remedy::None;
        self
    }

    /// The same failure, which a setting of its own sends to the DLQ at once.
    #[must_use]
    pub fn dead_lettered(mut self) -> Self {
        self.remedy = Remedy::DeadLetter;
        self
    }

    /// The same failure with the wait that the other side asked for.
    #[must_use]
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.class, self.message)
    }
}

impl std::error::Error for Failure {}

/// What `on` and `not_on` list: a class (`transient`), an exact code (`http-503`) or a pattern over
/// codes, in which a trailing run of `x` behind a digit or a hyphen stands for as many digits (`http-5xx`) and `*` for anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CodePattern {
    /// Every failure of that class.
    Class(Class),
    /// Codes that match.
    Code(String),
}

impl CodePattern {
    /// Reads a pattern; a class's word means the class.
    pub fn parse(text: &str) -> Self {
        Class::ALL
            .into_iter()
            .find(|class| class.as_str() == text)
            .map_or_else(|| Self::Code(text.to_owned()), Self::Class)
    }

    /// Whether `failure` is one of those meant.
    pub fn matches(&self, failure: &Failure) -> bool {
        match self {
            Self::Class(class) => failure.class == *class,
            Self::Code(pattern) => code_matches(pattern, &failure.code),
        }
    }

    /// Whether a failure of which only the words are known is one of those meant.
    pub fn names(&self, class: &str, code: &str) -> bool {
        match self {
            Self::Class(known) => known.as_str() == class,
            Self::Code(pattern) => code_matches(pattern, code),
        }
    }
}

fn code_matches(pattern: &str, code: &str) -> bool {
    if let Some(prefix) = pattern.strip_suffix('*') {
        return code.starts_with(prefix);
    }
    let stem = pattern.trim_end_matches('x');
    let digits = pattern.len() - stem.len();
    if digits == 0 || !stem.ends_with(|end: char| end == '-' || end.is_ascii_digit()) {
        return pattern == code;
    }
    code.strip_prefix(stem)
        .is_some_and(|tail| tail.len() == digits && tail.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, class: Class, code: &'static str) -> bool {
        CodePattern::parse(pattern).matches(&Failure::new(class, code, ""))
    }

    #[test]
    fn a_class_an_exact_code_and_a_pattern_each_match_only_what_they_name() {
        assert!(matches("transient", Class::Transient, "anything"));
        assert!(!matches("transient", Class::Permanent, "transient"));
        assert!(matches("http-503", Class::Transient, "http-503"));
        assert!(matches("http-5xx", Class::Transient, "http-503"));
        assert!(matches("http-50x", Class::Transient, "http-503"));
        assert!(!matches("http-5xx", Class::Transient, "http-5033"));
        assert!(!matches("http-5xx", Class::Transient, "http-404"));
        assert!(matches("http-*", Class::Transient, "http-body-too-large"));
        assert!(!matches("x", Class::Permanent, "1"), "a bare x is a code, not a digit");
        assert!(matches("mail-index", Class::Permanent, "mail-index"));
    }
}
