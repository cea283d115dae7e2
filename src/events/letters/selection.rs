//! Filters ready to work: what is cheap and borrowed is asked first, and a value is decoded only where
//! the expression looks at it and everything else holds.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value as Json;

use super::scope::{ERROR_NAMES, LyingScope};
use super::{Filters, FiltersError, Letter};
use crate::base::CodePattern;
use crate::diag::nearest;
use crate::expr::{Expression, Root, RootSet};
use crate::record::{Codec, JsonCodec, RawRecord};

/// How the values of each stage are read; those of others are taken for JSON.
pub type Codecs = HashMap<Arc<str>, Arc<dyn Codec>>;

/// What was found about one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// It is meant.
    Yes,
    /// It is not.
    No,
    /// The expression reads its value, which cannot be decoded.
    Undecodable,
    /// The expression failed on it.
    Failed,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Selection {
    filters: Filters,
    codes: Vec<CodePattern>,
    since: Option<Bound>,
    until: Option<Bound>,
    expression: Option<Expression>,
    codecs: Codecs,
}

/// A moment, and as the engine writes it: these texts sort as their moments do.
#[derive(Debug)]
struct Bound {
    millis: i64,
    text: String,
}

impl Bound {
    fn new(millis: i64) -> Option<Self> {
        let time = DateTime::<Utc>::from_timestamp_millis(millis)?;
        Some(Self { millis, text: time.to_rfc3339_opts(SecondsFormat::Millis, true) })
    }
}

/// Where none of the offered names is near, all are named.
fn names_checked(expression: &Expression) -> Result<(), FiltersError> {
    for name in expression.names().iter().filter(|name| name.root == Root::Error) {
        if !ERROR_NAMES.contains(&&*name.name) {
            let help = match nearest(&name.name, ERROR_NAMES) {
                Some(near) => format!("; a similar name is `error.{near}`"),
                None => format!("; there are {}", ERROR_NAMES.join(", ")),
            };
            return Err(FiltersError::Expression(format!("there is no `error.{}`{help}", name.name)));
        }
    }
    Ok(())
}

impl Selection {
    /// Compiles `filters` for dead letters.
    ///
    /// # Errors
    /// Where the expression does not compile.
    pub fn of_letters(filters: Filters, codecs: Codecs) -> Result<Self, FiltersError> {
        Self::new(filters, codecs, RootSet::DEAD_LETTER)
    }

    /// Compiles `filters` for the records of any topic.
    ///
    /// # Errors
    /// As [`Selection::of_letters`], and where a filter asks for what only a dead letter has.
    pub fn of_records(filters: Filters, codecs: Codecs) -> Result<Self, FiltersError> {
        let only = [
            ("--stage", filters.stages.is_empty()),
            ("--code", filters.codes.is_empty()),
            ("--fingerprint", filters.fingerprints.is_empty()),
        ];
        if let Some((flag, _)) = only.into_iter().find(|(_, empty)| !empty) {
            return Err(FiltersError::OnlyDeadLetters(flag));
        }
        Self::new(filters, codecs, RootSet::LYING)
    }

    fn new(filters: Filters, codecs: Codecs, roots: RootSet) -> Result<Self, FiltersError> {
        let compile = |source: &String| {
            let compiled = Expression::compile(source, roots).map_err(|error| {
                let help = error.suggestion.as_ref().map(|near| format!("; did you mean `{near}`?"));
                FiltersError::Expression(format!("{error}{}", help.unwrap_or_default()))
            })?;
            names_checked(&compiled).map(|()| compiled)
        };
        Ok(Self {
            codes: filters.codes.iter().map(|code| CodePattern::parse(code)).collect(),
            since: filters.since.and_then(Bound::new),
            until: filters.until.and_then(Bound::new),
            expression: filters.expression.as_ref().map(compile).transpose()?,
            codecs,
            filters,
        })
    }

    /// The words it was compiled from.
    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Whether `raw` is meant; `letter` is its own account where it is a dead letter. Which offsets are
    /// looked at at all is [`Filters::range`]'s to say.
    pub fn judge(&self, raw: &RawRecord<'_>, letter: Option<&Letter<'_>>) -> Match {
        let none = Letter::default();
        let said = letter.unwrap_or(&none);
        let filters = &self.filters;
        let any = |wanted: &[String], is: Option<&str>| {
            wanted.is_empty() || is.is_some_and(|is| wanted.iter().any(|wanted| wanted == is))
        };
        let coded = || {
            let (class, code) = (said.class.unwrap_or_default(), said.code.unwrap_or_default());
            self.codes.is_empty() || self.codes.iter().any(|pattern| pattern.names(class, code))
        };
        let keyed = || filters.key.as_ref().is_none_or(|key| raw.key == Some(key.as_bytes()));
        let holds = any(&filters.stages, said.stage)
            && coded()
            && any(&filters.fingerprints, said.fingerprint)
            && keyed()
            && self.in_time(raw, said);
        match &self.expression {
            _ if !holds => Match::No,
            None => Match::Yes,
            Some(expression) => self.evaluate(expression, raw, letter),
        }
    }

    fn in_time(&self, raw: &RawRecord<'_>, said: &Letter<'_>) -> bool {
        let before = |bound: &Bound| match said.failed_at {
            Some(text) if text.len() == bound.text.len() && text.ends_with('Z') => text < &*bound.text,
            Some(text) => {
                DateTime::parse_from_rfc3339(text).is_ok_and(|time| time.timestamp_millis() < bound.millis)
            }
            None => raw.timestamp.is_some_and(|millis| millis < bound.millis),
        };
        self.since.as_ref().is_none_or(|since| !before(since)) && self.until.as_ref().is_none_or(before)
    }

    fn evaluate(&self, expression: &Expression, raw: &RawRecord<'_>, letter: Option<&Letter<'_>>) -> Match {
        let value = match expression.reads().contains(Root::Value).then(|| self.decode(raw, letter)) {
            None => None,
            Some(Some(value)) => Some(value),
            Some(None) => return Match::Undecodable,
        };
        let scope = LyingScope { raw, letter, value: value.as_deref(), timestamp: OnceLock::new() };
        match expression.truthy(&scope) {
            Ok(true) => Match::Yes,
            Ok(false) => Match::No,
            Err(_) => Match::Failed,
        }
    }

    fn decode(&self, raw: &RawRecord<'_>, letter: Option<&Letter<'_>>) -> Option<Cow<'static, Json>> {
        const NULL: Json = Json::Null;
        let stage = letter.and_then(|letter| letter.stage);
        let codec = stage.and_then(|stage| self.codecs.get(stage));
        let codec: &dyn Codec = codec.map_or(&JsonCodec, |codec| &**codec);
        match raw.value {
            None => Some(Cow::Owned(NULL)),
            Some(bytes) => codec.decode(bytes).ok().map(Cow::Owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(filters: Filters) -> Match {
        judged_with(filters, b"{\"kind\": \"mail\", \"n\": 3}")
    }

    fn judged_with(filters: Filters, value: &[u8]) -> Match {
        let headers: [(&str, Option<&[u8]>); 11] = [
            ("biplane-error-class", Some(b"transient")),
            ("biplane-error-code", Some(b"http-503")),
            ("biplane-stage", Some(b"normalize")),
            ("biplane-attempts", Some(b"6")),
            ("biplane-failed-at", Some(b"2026-01-02T00:00:00.000Z")),
            ("biplane-topic", Some(b"raw")),
            ("biplane-partition", Some(b"4")),
            ("biplane-offset", Some(b"77")),
            ("biplane-timestamp", Some(b"2026-01-01T00:00:00.000Z")),
            ("biplane-fingerprint", Some(b"00ff")),
            ("trace", Some(b"t1")),
        ];
        let raw = RawRecord {
            topic: "dlq",
            partition: 0,
            offset: 5,
            timestamp: Some(1_767_312_000_001),
            log_append: false,
            key: Some(b"k"),
            value: Some(value),
            headers: &headers,
        };
        let letter = Letter::read(&raw);
        Selection::of_letters(filters, Codecs::new()).expect("it compiles").judge(&raw, Some(&letter))
    }

    fn says(expression: &str) -> Match {
        judged(Filters { expression: Some(expression.to_owned()), ..Filters::default() })
    }

    #[test]
    fn each_filter_takes_what_it_names_and_nothing_else() {
        let text = |text: &str| vec![text.to_owned()];
        let day = 86_400_000;
        let failed = 1_767_312_000_000;
        let filters = Filters::default;
        for (wanted, filters) in [
            (true, filters()),
            (true, Filters { stages: text("normalize"), ..filters() }),
            (false, Filters { stages: text("enrich"), ..filters() }),
            (true, Filters { codes: text("http-5xx"), ..filters() }),
            (true, Filters { codes: text("transient"), ..filters() }),
            (false, Filters { codes: text("http-4xx"), ..filters() }),
            (true, Filters { codes: vec!["json".into(), "http-503".into()], ..filters() }),
            (true, Filters { fingerprints: text("00ff"), ..filters() }),
            (false, Filters { fingerprints: text("00fe"), ..filters() }),
            (true, Filters { key: Some("k".into()), ..filters() }),
            (false, Filters { key: Some("other".into()), ..filters() }),
            (true, Filters { since: Some(failed), ..filters() }),
            (false, Filters { since: Some(failed + 1), ..filters() }),
            (true, Filters { until: Some(failed + 1), since: Some(failed - day), ..filters() }),
            (false, Filters { until: Some(failed), ..filters() }),
        ] {
            let judged = judged(filters.clone());
            assert_eq!(judged == Match::Yes, wanted, "{filters:?}: {judged:?}");
        }
    }

    #[test]
    fn an_expression_sees_the_original_and_why_it_failed() {
        for expression in [
            "value.kind == 'mail' and value.n > 2",
            "topic == 'raw' and partition == 4 and offset == 77",
            "timestamp == '2026-01-01T00:00:00.000Z'",
            "key == 'k' and headers.trace == 't1'",
            "error.code == 'http-503' and error.attempts >= 6",
            "error.code[:4] == 'http' and error.stage | upper == 'NORMALIZE'",
            "headers['biplane-error-code'] == error.code",
        ] {
            assert_eq!(says(expression), Match::Yes, "{expression}");
        }
        assert_eq!(says("value.kind == 'chat'"), Match::No);
        assert_eq!(says("value.nothing == 1"), Match::Failed);
    }

    #[test]
    fn a_value_is_decoded_only_where_the_expression_reads_it() {
        let filters = |text: &str| Filters { expression: Some(text.to_owned()), ..Filters::default() };
        assert_eq!(judged_with(filters("value.n == 3"), b"{no json"), Match::Undecodable);
        assert_eq!(judged_with(filters("error.code == 'http-503'"), b"{no json"), Match::Yes);
        let elsewhere = Filters { stages: vec!["enrich".into()], ..filters("value.n == 3") };
        assert_eq!(judged_with(elsewhere, b"{no json"), Match::No);
    }

    #[test]
    fn what_does_not_compile_says_what_was_meant() {
        let error = |text: &str| {
            let filters = Filters { expression: Some(text.to_owned()), ..Filters::default() };
            Selection::of_letters(filters, Codecs::new()).expect_err(text).to_string()
        };
        assert!(error("vale.n == 1").contains("did you mean `value`?"), "{}", error("vale.n == 1"));
        assert!(error("error.coed == 'x'").contains("a similar name is `error.code`"));
        assert!(error("env.secret == 'x'").contains("`env` is not in scope here"));
        let codes = Filters { codes: vec!["json".into()], ..Filters::default() };
        let refused = Selection::of_records(codes, Codecs::new()).expect_err("no dead letters").to_string();
        assert!(refused.starts_with("--code asks"), "{refused}");
        let on_error = Filters { expression: Some("error.code == 'x'".into()), ..Filters::default() };
        assert!(Selection::of_records(on_error, Codecs::new()).is_err());
    }
}
