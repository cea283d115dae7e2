//! TOML text to a [`Table`], with every syntax error of the file as a finding.
//!
//! What can be read is read, though other places cannot; the caller decides what to make of it.

use toml::de::{DeTable, DeValue};

use super::duplicate::first_place;
use super::node::{Entry, Node, NodeValue, Table};
use crate::diag::{Diagnostic, Diagnostics, FileId, Span, codes};

/// Reads a file; the flag says whether it is free of syntax errors.
pub fn parse(text: &str, file: FileId, diagnostics: &Diagnostics) -> (Table, bool) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let converter = Converter { text, file, diagnostics };
    let table = converter.table(document.get_ref(), document.span());
    let mut seen = Vec::new();
    for error in &errors {
        let span = Span::new(file, error.span().unwrap_or(0..0));
        // The parser may report one place from two of its rules; the first says most.
        if !seen.contains(&(span.start, span.end)) {
            seen.push((span.start, span.end));
            diagnostics.push(syntax_finding(error.message(), span, text, &table));
        }
    }
    (table, errors.is_empty())
}

struct Converter<'a> {
    text: &'a str,
    file: FileId,
    diagnostics: &'a Diagnostics,
}

impl Converter<'_> {
    fn table(&self, table: &DeTable<'_>, range: std::ops::Range<usize>) -> Table {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                key_span: Span::new(self.file, key.span()),
                node: self.node(value),
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        Table { span: Span::new(self.file, range), entries }
    }

    fn node(&self, spanned: &toml::Spanned<DeValue<'_>>) -> Node {
        let range = spanned.span();
        let value = match spanned.get_ref() {
            DeValue::String(text) => {
                self.warn_of_escapes(range.clone());
                NodeValue::String(text.to_string())
            }
            DeValue::Integer(number) => self.integer(number, range.clone()),
            DeValue::Float(number) => NodeValue::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(truth) => NodeValue::Boolean(*truth),
            DeValue::Datetime(time) => {
                if time.time.is_some_and(|time| time.second.is_none()) {
                    self.warn_of_newer("a time has no seconds", range.clone(), "write the seconds");
                }
                NodeValue::Datetime(*time)
            }
            DeValue::Array(array) => NodeValue::Array(array.iter().map(|item| self.node(item)).collect()),
            DeValue::Table(table) => {
                self.warn_of_lines(range.clone());
                NodeValue::Table(self.table(table, range.clone()))
            }
        };
        let content = match &value {
            NodeValue::String(value) => self.content(value, range.clone()),
            _ => None,
        };
        Node { span: Span::new(self.file, range), value, content }
    }

    fn integer(&self, number: &toml::de::DeInteger<'_>, range: std::ops::Range<usize>) -> NodeValue {
        match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => NodeValue::Integer(value),
            Err(_) => {
                // Broken as a syntax error is: what is said of the stand-in below would be a cascade.
                self.diagnostics.push(
                    Diagnostic::new(&codes::TOML_SYNTAX, "a number is too large for TOML")
                        .at(Span::new(self.file, range), "past 64 bits")
                        .help("write it as text, in quotes, or as a smaller number"),
                );
                NodeValue::Integer(0)
            }
        }
    }

    /// Where the text of a string begins, if the file holds it without escapes.
    fn content(&self, value: &str, range: std::ops::Range<usize>) -> Option<u32> {
        let raw = self.text.get(range.clone())?;
        let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
        let inner = raw.get(quotes..raw.len().checked_sub(quotes)?)?;
        let skipped =
            if quotes == 3 { inner.len() - inner.trim_start_matches(['\r', '\n']).len() } else { 0 };
        let (skipped, inner) = if inner == value { (0, inner) } else { (skipped, inner.get(skipped..)?) };
        (inner == value).then(|| u32::try_from(range.start + quotes + skipped).ok())?
    }

    fn warn_of_escapes(&self, range: std::ops::Range<usize>) {
        let Some(raw) = self.text.get(range.clone()).filter(|raw| raw.starts_with('"')) else { return };
        if let Some(at) = newer_escape(raw) {
            let place = range.start + at..range.start + at + 2;
            self.warn_of_newer(
                "a string has an escape of TOML 1.1",
                place,
                "write the character as `\\uHHHH`",
            );
        }
    }

    fn warn_of_newer(&self, message: &str, range: std::ops::Range<usize>, help: &str) {
        let message = format!("{message}, which most TOML readers refuse");
        self.diagnostics.push(
            Diagnostic::new(&codes::TOML_NEWER_SYNTAX, message)
                .at(Span::new(self.file, range), "only in TOML 1.1")
                .help(help),
        );
    }

    fn warn_of_lines(&self, range: std::ops::Range<usize>) {
        let Some(raw) = self.text.get(range.clone()).filter(|raw| raw.starts_with('{')) else { return };
        let inside = raw.strip_suffix('}').unwrap_or(raw).trim_end();
        if !breaks_inside_braces(raw) {
            if inside.ends_with(',') {
                let at = range.start + inside.len();
                let message = "an inline table has a comma behind its last entry";
                self.warn_of_newer(message, at - 1..at, "remove the comma");
            }
        } else {
            let end = raw.find('\n').map_or(range.end, |at| range.start + at);
            self.diagnostics.push(
                Diagnostic::new(
                    &codes::TOML_MULTI_LINE_INLINE_TABLE,
                    "an inline table spans several lines, which most TOML readers refuse",
                )
                .at(Span::new(self.file, range.start..end), "begins here")
                .help("write one setting a line with dotted keys, or a table with its own header"),
            );
        }
    }
}

/// Where the first escape stands in a string's raw text that TOML 1.0 does not know.
fn newer_escape(raw: &str) -> Option<usize> {
    let mut characters = raw.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == '\\' && matches!(characters.next(), Some((_, 'e' | 'x'))) {
            return Some(at);
        }
    }
    None
}

/// Whether a newline stands directly inside the braces of an inline table: inside strings and arrays
/// TOML 1.0 allows it.
fn breaks_inside_braces(raw: &str) -> bool {
    let mut open = Vec::new();
    let mut rest = raw;
    while let Some(first) = rest.chars().next() {
        let skip = match first {
            '{' | '[' => {
                open.push(first);
                1
            }
            '}' | ']' => {
                open.pop();
                1
            }
            '\n' if open.last() == Some(&'{') => return true,
            '"' | '\'' => string_length(rest),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            other => other.len_utf8(),
        };
        rest = rest.get(skip..).unwrap_or_default();
    }
    false
}

/// How long the string at the start of `text` is, quotes included.
fn string_length(text: &str) -> usize {
    let quote = &text[..1];
    let triple = quote.repeat(3);
    let mark = if text.starts_with(&triple) { triple.as_str() } else { quote };
    let mut at = mark.len();
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(mark) {
            return at + mark.len();
        }
        let escaped = quote == "\"" && rest.starts_with('\\');
        at += rest.chars().take(if escaped { 2 } else { 1 }).map(char::len_utf8).sum::<usize>();
    }
    text.len()
}

fn syntax_finding(message: &str, span: Span, text: &str, table: &Table) -> Diagnostic {
    if message.starts_with("duplicate key") {
        let name = text.get(span.range()).unwrap_or_default();
        let finding = Diagnostic::new(&codes::TOML_DUPLICATE_KEY, format!("`{name}` is written twice"))
            .at(span, "again here");
        let finding = match first_place(table, text, span) {
            Some(first) => finding.also(first, "first written here"),
            None => finding,
        };
        return finding.help("keep one of the two");
    }
    if message.starts_with("cannot extend value") {
        return Diagnostic::new(&codes::TOML_REDEFINED, message.to_owned())
            .at(span, "cannot be added here")
            .help("write every setting with dotted keys (`http.url = …`), or all of them inside the braces");
    }
    if message.contains("escape") || message.contains("unicode value") {
        return Diagnostic::new(
            &codes::TOML_BAD_ESCAPE,
            "a backslash does not begin an escape that TOML knows",
        )
        .at(span, "no such escape")
        .help("use single quotes: in '…' a backslash is itself");
    }
    let syntax = |message: &str| Diagnostic::new(&codes::TOML_SYNTAX, message.to_owned());
    if message.starts_with("string values must be quoted") {
        return if span.start == span.end {
            syntax("a value is missing").at(span, "expected a value")
        } else {
            syntax("text must be in quotes")
                .at(span, "no value of TOML")
                .help("put the value in double quotes")
        };
    }
    syntax(message).at(span, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn codes_of(text: &str) -> Vec<&'static str> {
        let diagnostics = Diagnostics::default();
        parse(text, FileId(0), &diagnostics);
        let sources = crate::diag::SourceMap::default();
        diagnostics.into_sorted(&sources).iter().map(|finding| finding.code.name).collect()
    }

    #[test]
    fn several_syntax_errors_of_one_file_are_all_found() {
        assert_eq!(codes_of("a = \nb = oops\n[c\nd = 1\n").len(), 3);
    }

    #[test]
    fn the_traps_of_toml_have_codes_of_their_own() {
        assert_eq!(codes_of("a = \"\\d\"\n"), ["toml::bad-escape"]);
        assert_eq!(codes_of("a = 1\na = 2\n"), ["toml::duplicate-key"]);
        assert_eq!(codes_of("http = { a = 1 }\nhttp.b = 2\n"), ["toml::redefined"]);
        assert_eq!(codes_of("a = {\n b = 1 }\n"), ["toml::multi-line-inline-table"]);
        for newer in ["a = { b = 1, }\n", "a = \"\\e[1m\"\n", "a = \"\\x41\"\n", "a = 2026-01-01T00:00Z\n"] {
            assert_eq!(codes_of(newer), ["toml::newer-syntax"], "{newer}");
        }
        assert!(codes_of("a = { b = [1,], c = '\\e', d = \"\\\\x\" }\n").is_empty());
        assert!(codes_of("a = { b = [\n1,\n2] , c = '''\n''' }\n").is_empty());
    }

    #[test]
    fn a_part_of_a_string_is_placed_unless_escapes_moved_it() {
        let text = "a = \"{{ x }}\"\nb = \"\\n{{ x }}\"\nc = '''\nxyz'''\n";
        let (table, _) = parse(text, FileId(0), &Diagnostics::default());
        let part = |key: &str| {
            let span = table.get(key).unwrap().node.part(0..2);
            &text[span.range()]
        };
        assert_eq!((part("a"), part("b"), part("c")), ("{{", "\"\\n{{ x }}\"", "xy"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z\\[\\]{}=\"'.\\\\\n #0-9]{0,60}") {
            codes_of(&text);
        }
    }
}
