//! Reads one table key by key: types, units, words and bounds are checked on the way, and what nobody
//! asked for is reported at the end.
//!
//! A getter gives `None` where the key is absent or wrong; what is wrong has been reported then, so
//! that one mistake gives one finding. Read all keys and [`TableReader::finish`] before the first `?`.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::value::Datetime;

use super::ledger::{Filled, Kind, Origin};
use super::mismatch::{Mismatch, bounds_text, example, type_help};
use super::setting::is_template;
use super::{Entry, Node, NodeValue, ReadContext, Resolved, Spanned, Table, ValueKind};
use crate::base::{ByteSize, Rate, parse_duration};
use crate::diag::{Diagnostic, Span, codes, nearest, words};

/// Reads one table.
pub struct TableReader<'a> {
    /// The table.
    pub table: &'a Table,
    /// What it is, for messages: ``stage `normalize` ``.
    pub what: String,
    /// Findings and settings.
    pub context: ReadContext<'a>,
    defaults: Option<&'a Table>,
    partial: bool,
    asked: Vec<String>,
    /// Where the ledger keeps what is asked of this table.
    path: String,
    /// Whether the whole table comes from defaults.
    inherited: bool,
}

impl<'a> TableReader<'a> {
    /// A reader for `table`; `what` names it in messages.
    pub fn new(table: &'a Table, what: impl Into<String>, context: ReadContext<'a>) -> Self {
        let (asked, path) = (Vec::new(), String::new());
        let what = what.into();
        Self { table, what, context, defaults: None, partial: false, asked, path, inherited: false }
    }

    /// The same reader, whose notes stand under `path` in the ledger.
    #[must_use]
    pub fn noted_as(mut self, path: impl FnOnce() -> String) -> Self {
        if let Some(ledger) = self.context.ledger {
            self.path = path();
            ledger.open(&self.path);
        }
        self
    }

    /// The same reader, which takes from `defaults` what the table leaves out.
    #[must_use]
    pub fn with_defaults(mut self, defaults: Option<&'a Table>) -> Self {
        self.defaults = defaults;
        self
    }

    /// The same reader for a table that need not be whole, such as defaults: nothing is required.
    #[must_use]
    pub fn partial(mut self) -> Self {
        self.partial = true;
        self
    }

    /// The place of the table.
    pub fn span(&self) -> Span {
        self.table.span
    }

    /// Adds a finding.
    pub fn report(&self, finding: Diagnostic) {
        self.context.diagnostics.push(finding);
    }

    /// The entry under `key`, of whatever type; the key counts as known from now on.
    pub fn entry(&mut self, key: &str) -> Option<&'a Entry> {
        self.note(key, || Kind::Any);
        self.look(key)
    }

    /// The value under `key`, of whatever type.
    pub fn node(&mut self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// Whether the table itself has `key`; asks for nothing.
    pub fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// Whether `key` is said by the table itself and not by defaults.
    pub fn is_own(&self, key: &str) -> bool {
        !self.inherited && self.has(key)
    }

    /// The entries that nobody asked for so far, those of the defaults behind them; they count as known
    /// from now on. For tables whose keys are the user's own.
    pub fn rest(&mut self) -> Vec<&'a Entry> {
        let mut rest: Vec<_> = self.unasked().collect();
        let behind = self.defaults.iter().flat_map(|defaults| &defaults.entries);
        rest.extend(behind.filter(|entry| !self.has(&entry.key) && !self.asked.contains(&entry.key)));
        for entry in &rest {
            self.entry(&entry.key);
        }
        rest
    }

    /// The entries under `keys` that nobody asked for and nobody reads here; they count as known from now
    /// on, so that they get a finding of their own.
    pub fn strays(&mut self, keys: &[&str]) -> Vec<&'a Entry> {
        let strays: Vec<_> = self.unasked().filter(|entry| keys.contains(&entry.key.as_str())).collect();
        self.asked.extend(strays.iter().map(|entry| entry.key.clone()));
        strays
    }

    /// Reads a key that has to be there: `table.required("url", TableReader::string)`.
    pub fn required<T>(&mut self, key: &str, read: impl FnOnce(&mut Self, &str) -> Option<T>) -> Option<T> {
        if let Some(ledger) = self.context.ledger {
            ledger.required(&self.path, key);
        }
        if self.look(key).is_none() {
            if self.partial {
                return None;
            }
            self.report(
                Diagnostic::new(&codes::KEY_MISSING, format!("{} has no `{key}`", self.what))
                    .at(self.table.span, format!("`{key}` is missing"))
                    .help(format!("add `{}`", example(key))),
            );
            return None;
        }
        read(self, key)
    }

    /// A string setting, templates over `env` filled in.
    pub fn string(&mut self, key: &str) -> Option<Spanned<String>> {
        self.note(key, || Kind::Setting);
        self.setting(key)
    }

    fn setting(&mut self, key: &str) -> Option<Spanned<String>> {
        self.scalar(key, "a string", String::new(), |value| match value {
            NodeValue::String(text) => Ok(text.clone()),
            _ => Err(Mismatch::Type),
        })
    }

    /// A string as it stands: an expression, or a template over data.
    pub fn text(&mut self, key: &str) -> Option<Spanned<String>> {
        self.note(key, || Kind::Text);
        self.plain(key)
    }

    fn plain(&mut self, key: &str) -> Option<Spanned<String>> {
        let node = self.value(key)?;
        let text = node.as_text();
        if text.is_none() {
            self.wrong_type(key, node, "a string");
        }
        text.map(|text| self.tagged(key, text))
    }

    /// The name of something; never a template, so that every edge is static.
    pub fn name(&mut self, key: &str) -> Option<Spanned<String>> {
        self.note(key, || Kind::Name);
        let text = self.plain(key)?;
        self.plain_name(key, text)
    }

    /// As [`TableReader::name`], of a key that defaults cannot fill.
    pub fn own_name(&mut self, key: &str) -> Option<Spanned<String>> {
        if self.partial { None } else { self.name(key).filter(|name| name.own) }
    }

    /// One name or an array of names.
    pub fn names(&mut self, key: &str) -> Option<Vec<Spanned<String>>> {
        self.note(key, || Kind::Texts(true));
        let texts = self.list(key)?;
        let count = texts.len();
        let names: Vec<_> = texts.into_iter().filter_map(|text| self.plain_name(key, text)).collect();
        (names.len() == count).then_some(names)
    }

    /// One string or an array of strings, as they stand; never empty.
    pub fn texts(&mut self, key: &str) -> Option<Vec<Spanned<String>>> {
        self.note(key, || Kind::Texts(false));
        self.list(key)
    }

    fn list(&mut self, key: &str) -> Option<Vec<Spanned<String>>> {
        let node = self.value(key)?;
        if let Some(text) = node.as_text() {
            return Some(vec![self.tagged(key, text)]);
        }
        let Some(nodes) = node.as_array() else {
            self.wrong_type(key, node, "a string or an array of strings");
            return None;
        };
        if nodes.is_empty() {
            self.report(
                Diagnostic::new(&codes::VALUE_EMPTY, format!("`{key}` of {} is empty", self.what))
                    .at(node.span, "needs at least one")
                    .help("name at least one, or leave the key out"),
            );
            return None;
        }
        let mut texts = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node.as_text() {
                Some(text) => texts.push(self.tagged(key, text)),
                None => self.wrong_type(key, node, "a string"),
            }
        }
        (texts.len() == nodes.len()).then_some(texts)
    }

    /// As [`TableReader::texts`], templates over `env` filled in.
    pub fn strings(&mut self, key: &str) -> Option<Vec<Spanned<String>>> {
        self.note(key, || Kind::Texts(false));
        self.filled_list(key)
    }

    fn filled_list(&mut self, key: &str) -> Option<Vec<Spanned<String>>> {
        let texts = self.list(key)?;
        let count = texts.len();
        let filled: Vec<_> = texts.into_iter().filter_map(|text| self.filled(key, text)).collect();
        (filled.len() == count).then_some(filled)
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, key: &str, bounds: RangeInclusive<i64>) -> Option<Spanned<i64>> {
        self.note(key, || Kind::Integer(*bounds.start(), *bounds.end()));
        self.scalar(key, "an integer", *bounds.start(), |value| match value {
            NodeValue::Integer(number) if bounds.contains(number) => Ok(*number),
            NodeValue::Integer(number) => {
                let near = (*number).clamp(*bounds.start(), *bounds.end());
                let help = format!("the nearest that works is {near}");
                Err(Mismatch::Other(&codes::VALUE_RANGE, bounds_text(&bounds), help))
            }
            _ => Err(Mismatch::Type),
        })
    }

    /// A number within bounds.
    pub fn float(&mut self, key: &str, bounds: RangeInclusive<f64>) -> Option<Spanned<f64>> {
        self.note(key, || Kind::Float(*bounds.start(), *bounds.end()));
        self.scalar(key, "a number", *bounds.start(), |value| {
            let number = match value {
                NodeValue::Integer(number) => *number as f64,
                NodeValue::Float(number) => *number,
                _ => return Err(Mismatch::Type),
            };
            if bounds.contains(&number) {
                Ok(number)
            } else {
                let text = format!("must be from {} to {}", bounds.start(), bounds.end());
                let near = if number > *bounds.end() { bounds.end() } else { bounds.start() };
                Err(Mismatch::Other(&codes::VALUE_RANGE, text, format!("the nearest that works is {near}")))
            }
        })
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &str) -> Option<Spanned<bool>> {
        self.note(key, || Kind::Boolean);
        self.scalar(key, "a boolean", false, |value| match value {
            NodeValue::Boolean(truth) => Ok(*truth),
            _ => Err(Mismatch::Type),
        })
    }

    /// A duration above zero such as `"5s"`.
    pub fn duration(&mut self, key: &str) -> Option<Spanned<Duration>> {
        self.parsed(key, "a duration such as \"5s\"", Duration::from_secs(1), |text| {
            match parse_duration(text) {
                Ok(duration) if duration.is_zero() => Err("must be more than nothing".to_owned()),
                Ok(duration) => Ok(duration),
                Err(error) => Err(error.0),
            }
        })
    }

    /// A size above zero such as `"16MiB"`.
    pub fn size(&mut self, key: &str) -> Option<Spanned<ByteSize>> {
        self.parsed(key, "a size such as \"16MiB\"", ByteSize(1 << 20), |text| match ByteSize::parse(text) {
            Ok(ByteSize(0)) => Err("must be more than nothing".to_owned()),
            Ok(size) => Ok(size),
            Err(error) => Err(error.0),
        })
    }

    /// A rate such as `"500/s"`.
    pub fn rate(&mut self, key: &str) -> Option<Spanned<Rate>> {
        self.parsed(key, "a rate such as \"500/s\"", Rate { per_second: 1.0 }, |text| {
            Rate::parse(text).map_err(|error| error.0)
        })
    }

    /// A string setting that `parse` understands; what it says otherwise is shown.
    pub fn parsed<T: Clone>(
        &mut self,
        key: &str,
        expected: &str,
        stand_in: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        self.note(key, || Kind::Form(expected.to_owned()));
        self.scalar(key, expected, stand_in, |value| match value {
            NodeValue::String(text) => parse(text).map_err(|why| Mismatch::unit(&why, expected)),
            _ => Err(Mismatch::Type),
        })
    }

    /// One of a few words.
    pub fn word<T: Clone>(&mut self, key: &str, known: &[(&str, T)]) -> Option<Spanned<T>> {
        self.note(key, || Kind::Word(known.iter().map(|(word, _)| (*word).to_owned()).collect()));
        let text = self.setting(key)?;
        if !text.known {
            return known.first().map(|(_, meaning)| text.map(|_| meaning.clone()));
        }
        self.meaning(key, text, "be", known)
    }

    /// One of a few words, or an array of them; those that are known.
    pub fn words<T: Clone>(&mut self, key: &str, known: &[(&str, T)]) -> Option<Vec<Spanned<T>>> {
        self.note(key, || Kind::Words(known.iter().map(|(word, _)| (*word).to_owned()).collect()));
        let texts = self.filled_list(key)?;
        let texts = texts.into_iter().filter(|text| text.known);
        Some(texts.filter_map(|text| self.meaning(key, text, "hold", known)).collect())
    }

    fn meaning<T: Clone>(
        &self,
        key: &str,
        text: Spanned<String>,
        verb: &str,
        known: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        match known.iter().find(|(word, _)| *word == text.value) {
            Some((_, meaning)) => Some(text.map(|_| meaning.clone())),
            None => {
                self.no_word(key, verb, &text, known.iter().map(|(word, _)| *word));
                None
            }
        }
    }

    /// Reports that `key` holds none of the words that it takes.
    pub fn no_word<'w>(
        &self,
        key: &str,
        verb: &str,
        text: &Spanned<String>,
        known: impl Iterator<Item = &'w str> + Clone,
    ) {
        let help = match nearest(&text.value, known.clone()) {
            Some(word) => format!("did you mean `{word}`? known are {}", words(known)),
            None => format!("known are {}", words(known)),
        };
        // What was filled in may be secret.
        let written = self.table.get(key).or_else(|| self.defaults?.get(key));
        let filled =
            written.is_some_and(|entry| entry.node.as_text().is_some_and(|text| is_template(&text.value)));
        let what = if filled { "what it is filled in with".to_owned() } else { format!("`{}`", text.value) };
        let message = format!("`{key}` of {} cannot {verb} {what}", self.what);
        self.report(Diagnostic::new(&codes::VALUE_WORD, message).at(text.span, "no such word").help(help));
    }

    /// A datetime with a date, a time and an offset.
    pub fn datetime(&mut self, key: &str) -> Option<Spanned<Datetime>> {
        self.note(key, || Kind::Datetime);
        let node = self.value(key)?;
        match &node.value {
            NodeValue::Datetime(time) if time.date.is_some() && time.offset.is_some() => {
                Some(self.tagged(key, Spanned::new(*time, node.span)))
            }
            _ => {
                self.wrong_type(key, node, "a datetime with an offset such as 2026-01-01T00:00:00Z");
                None
            }
        }
    }

    /// A table, read by a reader of its own, which has to be finished as well. What it leaves out comes
    /// from the table of that key in the defaults.
    pub fn table(&mut self, key: &str) -> Option<TableReader<'a>> {
        self.note(key, || Kind::Table);
        let node = self.value(key)?;
        let NodeValue::Table(table) = &node.value else {
            self.wrong_type(key, node, "a table");
            return None;
        };
        let what = format!("`{key}` of {}", self.what);
        let mut inner =
            TableReader::new(table, what, self.context).noted_as(|| format!("{}/{key}", self.path));
        inner.partial = self.partial;
        inner.inherited = !self.is_own(key);
        if self.has(key) {
            inner.defaults =
                self.defaults.and_then(|defaults| defaults.get(key)).and_then(|entry| entry.node.as_table());
        }
        Some(inner)
    }

    /// An array of tables (`[[…]]`), each with a reader of its own.
    pub fn tables(&mut self, key: &str) -> Option<Vec<TableReader<'a>>> {
        self.note(key, || Kind::Tables);
        let node = self.value(key)?;
        let Some(nodes) = node.as_array() else {
            self.wrong_type(key, node, "an array of tables");
            return None;
        };
        let mut readers = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            match node.as_table() {
                Some(table) => {
                    let what = format!("`{key}` {} of {}", index + 1, self.what);
                    let mut reader = TableReader::new(table, what, self.context)
                        .noted_as(|| format!("{}/{key}/{index}", self.path));
                    reader.inherited = self.inherited || !self.has(key);
                    readers.push(reader);
                }
                None => self.wrong_type(key, node, "a table"),
            }
        }
        (readers.len() == nodes.len()).then_some(readers)
    }

    /// Reports that `key` holds a value of the wrong type.
    pub fn wrong_type(&self, key: &str, node: &Node, expected: &str) {
        if let Some(ledger) = self.context.ledger {
            ledger.refused(&self.path, key, &node.value);
        }
        self.report(
            Diagnostic::new(&codes::VALUE_TYPE, format!("`{key}` of {} is {}", self.what, node.value.kind()))
                .at(node.span, format!("expected {expected}"))
                .help(type_help(&node.value, expected)),
        );
    }

    /// Reports every key that nobody asked for, with the nearest known one.
    pub fn finish(self) {
        self.finish_with(&[]);
    }

    /// As [`TableReader::finish`], with further keys that may be suggested.
    pub fn finish_with(self, also_known: &[&str]) {
        if let Some(ledger) = self.context.ledger {
            ledger.close(&self.path);
        }
        for entry in self.unasked() {
            let known = self.asked.iter().map(String::as_str).chain(also_known.iter().copied());
            let help = match nearest(&entry.key, known.clone()) {
                Some(near) => format!("a key with a similar name exists: `{near}`"),
                None => {
                    let mut all: Vec<_> = known.collect();
                    all.sort_unstable();
                    format!("known keys are {}", words(all))
                }
            };
            self.report(
                Diagnostic::new(&codes::KEY_UNKNOWN, format!("{} has no key `{}`", self.what, entry.key))
                    .at(entry.key_span, "unknown key")
                    .help(help),
            );
        }
    }

    fn note(&self, key: &str, kind: impl FnOnce() -> Kind) {
        if let Some(ledger) = self.context.ledger {
            ledger.asked(&self.path, key, kind());
        }
    }

    /// The entry under `key`, for a getter that has noted what it takes.
    fn look(&mut self, key: &str) -> Option<&'a Entry> {
        if !self.asked.iter().any(|known| known == key) {
            self.asked.push(key.to_owned());
        }
        let own = self.table.get(key);
        let entry = own.or_else(|| self.defaults.and_then(|defaults| defaults.get(key)))?;
        if let Some(ledger) = self.context.ledger {
            let inherited = self.inherited || own.is_none();
            let origin = if inherited { Origin::Defaults } else { Origin::Own };
            ledger.found(&self.path, entry, origin(entry.key_span));
        }
        Some(entry)
    }

    fn value(&mut self, key: &str) -> Option<&'a Node> {
        self.look(key).map(|entry| &entry.node)
    }

    /// Notes what a template became.
    fn note_filled(&self, key: &str, template: &str, filled: impl FnOnce() -> Filled) {
        if let Some(ledger) = self.context.ledger {
            let secret = self.context.settings.is_secret(template);
            ledger.filled(&self.path, key, if secret { Filled::Secret } else { filled() });
        }
    }

    fn unasked(&self) -> impl Iterator<Item = &'a Entry> {
        self.table.entries.iter().filter(|entry| !self.asked.contains(&entry.key))
    }

    fn plain_name(&self, key: &str, text: Spanned<String>) -> Option<Spanned<String>> {
        if !is_template(&text.value) {
            return Some(text);
        }
        let message = format!("`{key}` of {} is a reference and cannot be a template", self.what);
        self.report(
            Diagnostic::new(&codes::ENV_REFERENCE, message)
                .at(text.span, "write the name itself")
                .help("what differs between environments can be behind the name: `[topics.x] topic = \"{{ env.x }}\"`"),
        );
        None
    }

    fn scalar<T: Clone>(
        &mut self,
        key: &str,
        expected: &str,
        stand_in: T,
        convert: impl Fn(&NodeValue) -> Result<T, Mismatch>,
    ) -> Option<Spanned<T>> {
        let node = self.value(key)?;
        let made;
        let value = match node.as_text().filter(|text| is_template(&text.value)) {
            None => &node.value,
            Some(template) => match self.context.settings.resolve(&template, self.context.diagnostics)? {
                Resolved::Unknown(kind) => {
                    self.note_filled(key, &template.value, || Filled::Unset);
                    return self.unknown(key, template, expected, stand_in, kind, convert);
                }
                Resolved::Known(json) => {
                    self.note_filled(key, &template.value, || Filled::Value(json.clone()));
                    made = from_json(&json);
                    &made
                }
            },
        };
        let filled = !std::ptr::eq(value, &node.value);
        match convert(value) {
            Ok(value) => {
                let content = node.content.filter(|_| !filled);
                Some(self.tagged(key, Spanned { content, ..Spanned::new(value, node.span) }))
            }
            Err(wrong) => {
                self.mismatch(key, node, (value, filled), wrong, expected);
                None
            }
        }
    }

    /// Reports a value that is not what `key` takes. What was filled in may be secret: of that only the
    /// type is said.
    fn mismatch(
        &self,
        key: &str,
        node: &Node,
        (value, filled): (&NodeValue, bool),
        wrong: Mismatch,
        expected: &str,
    ) {
        let another = "give the env value another `type` or value".to_owned();
        let finding = match wrong {
            Mismatch::Type => {
                let message = format!("`{key}` of {} is {}", self.what, value.kind());
                let help = if filled { another } else { type_help(value, expected) };
                let finding = Diagnostic::new(&codes::VALUE_TYPE, message);
                finding.at(node.span, format!("expected {expected}")).help(help)
            }
            Mismatch::Other(code, why, help) => {
                let message = if *code == codes::VALUE_RANGE {
                    format!("`{key}` of {} is out of range", self.what)
                } else {
                    format!("`{key}` of {} is not {expected}", self.what)
                };
                let hidden = filled && *code != codes::VALUE_RANGE;
                let why = if hidden { "is filled in with something else".to_owned() } else { why };
                Diagnostic::new(code, message).at(node.span, why).help(help)
            }
        };
        self.report(finding);
    }

    /// One of several texts, filled in.
    fn filled(&self, key: &str, text: Spanned<String>) -> Option<Spanned<String>> {
        if !is_template(&text.value) {
            return Some(text);
        }
        let kind = match self.context.settings.resolve(&text, self.context.diagnostics)? {
            Resolved::Known(serde_json::Value::String(value)) => return Some(text.map(|_| value)),
            Resolved::Unknown(ValueKind::String) => {
                return Some(Spanned { known: false, ..text.map(|_| String::new()) });
            }
            Resolved::Known(other) => from_json(&other).kind(),
            Resolved::Unknown(kind) => kind.described(),
        };
        self.report(
            Diagnostic::new(&codes::VALUE_TYPE, format!("`{key}` of {} holds {kind}", self.what))
                .at(text.span, "expected a string")
                .help("name an env value of the type `string`"),
        );
        None
    }

    /// The value, and whether it is the table's own.
    fn tagged<T>(&self, key: &str, value: Spanned<T>) -> Spanned<T> {
        Spanned { own: self.is_own(key), ..value }
    }

    /// A variable that is not set has a type all the same.
    fn unknown<T: Clone>(
        &self,
        key: &str,
        template: Spanned<String>,
        expected: &str,
        stand_in: T,
        kind: ValueKind,
        convert: impl Fn(&NodeValue) -> Result<T, Mismatch>,
    ) -> Option<Spanned<T>> {
        let sample = match kind {
            ValueKind::String => NodeValue::String(String::new()),
            ValueKind::Integer => NodeValue::Integer(1),
            ValueKind::Float => NodeValue::Float(1.0),
            ValueKind::Boolean => NodeValue::Boolean(true),
        };
        if matches!(convert(&sample), Err(Mismatch::Type)) {
            let message = format!("`{key}` of {} is {}", self.what, kind.described());
            self.report(
                Diagnostic::new(&codes::VALUE_TYPE, message)
                    .at(template.span, format!("expected {expected}"))
                    .help("give the env value another `type`, or name another one"),
            );
            return None;
        }
        let stand_in = Spanned { known: false, ..Spanned::new(stand_in, template.span) };
        Some(self.tagged(key, stand_in))
    }
}

fn from_json(json: &serde_json::Value) -> NodeValue {
    use serde_json::Value as Json;
    match json {
        Json::Bool(truth) => NodeValue::Boolean(*truth),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => NodeValue::Integer(whole),
            None => NodeValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => NodeValue::String(text.clone()),
        other => NodeValue::String(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Diagnostics, FileId, SourceMap, Style, render};
    use crate::spec::{NoSettings, parse};

    /// What reading `text` reports, one line a finding.
    fn findings(text: &str, read: impl FnOnce(&mut TableReader<'_>)) -> Vec<String> {
        let diagnostics = Diagnostics::default();
        let (table, _) = parse(text, FileId(0), &diagnostics);
        let context = ReadContext::new(&diagnostics, &NoSettings);
        let mut reader = TableReader::new(&table, "table `t`", context);
        read(&mut reader);
        reader.finish();
        let mut sources = SourceMap::default();
        sources.add("t.toml", text);
        let list = diagnostics.into_sorted(&sources);
        list.iter().map(|finding| render(finding, &sources, Style::Plain)).collect()
    }

    #[test]
    fn an_unknown_key_is_reported_with_the_nearest_known_one() {
        let found = findings("partition = 6\n", |table| {
            assert_eq!(table.integer("partitions", 1..=100), None);
        });
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("error[key::unknown]: table `t` has no key `partition`"), "{}", found[0]);
        assert!(found[0].contains("a key with a similar name exists: `partitions`"), "{}", found[0]);
    }

    #[test]
    fn each_wrong_value_gives_one_finding_and_no_value() {
        let text = "a = 0\nb = \"5\"\nc = \"x\"\nd = [1]\ne = \"{{ env.x }}\"\nf = []\n";
        let found = findings(text, |table| {
            assert_eq!(table.integer("a", 1..=9), None);
            assert_eq!(table.duration("b"), None);
            assert_eq!(table.word("c", &[("y", 1)]), None);
            assert_eq!(table.texts("d"), None);
            assert_eq!(table.name("e"), None);
            assert_eq!(table.names("f"), None);
            assert_eq!(table.required("g", TableReader::string), None);
        });
        let codes: Vec<_> =
            found.iter().map(|text| text.split(['[', ']']).nth(1).unwrap_or_default()).collect();
        let mut expected = vec![
            "key::missing",
            "value::range",
            "value::unit",
            "value::word",
            "value::type",
            "env::reference",
            "value::empty",
        ];
        expected.sort_unstable();
        let mut codes = codes;
        codes.sort_unstable();
        assert_eq!(codes, expected);
    }

    #[test]
    fn what_a_table_leaves_out_comes_from_its_defaults() {
        let diagnostics = Diagnostics::default();
        let (own, _) = parse("a = 1\n", FileId(0), &diagnostics);
        let (defaults, _) = parse("a = 2\nb = 3\n", FileId(1), &diagnostics);
        let context = ReadContext::new(&diagnostics, &NoSettings);
        let mut reader = TableReader::new(&own, "t", context).with_defaults(Some(&defaults));
        assert_eq!(reader.integer("a", 0..=9).unwrap().value, 1);
        assert_eq!(reader.integer("b", 0..=9).unwrap().value, 3);
        reader.finish();
        assert!(diagnostics.is_empty());
    }
}
