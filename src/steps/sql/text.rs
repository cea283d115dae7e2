//! Where the binds of a statement stand: `:name`, but not in strings, comments, casts and quoted names.
//!
//! Knows as much of SQL as that takes and no more; whether a statement makes sense is for the server to say.

use std::ops::Range;
use std::sync::Arc;

use crate::steps::ports::{SqlPart, SqlText};

/// A statement that was looked through.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Scanned {
    pub(super) text: SqlText,
    /// Where each of `text.names` stands first.
    pub(super) places: Vec<Range<usize>>,
    /// What kind of statement it is: its first word, in lower case.
    pub(super) verb: String,
}

/// Why a text cannot be one statement with named binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) place: Range<usize>,
    pub(super) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// There is no statement.
    Empty,
    /// A string, a quoted name or a comment has no end.
    Open,
    /// Another statement follows.
    Several,
    /// `$1`, which names nothing.
    Numbered,
    /// `{`, as in a template.
    Brace,
    /// The statement is about the session or the transaction, which are not its own.
    Session,
}

/// First words of statements that would outlive theirs, or end their transaction.
const SESSION: [&str; 17] = [
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "prepare",
    "execute",
    "deallocate",
    "set",
    "reset",
    "discard",
    "listen",
    "unlisten",
    "load",
];

/// Looks a text through.
pub(super) fn scan(text: &str) -> Result<Scanned, Problem> {
    let mut scanner = Scanner { text, at: 0, kept: 0, found: Scanned::default(), ended: None };
    scanner.run()?;
    Ok(scanner.found)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// What stands before is part of a part.
    kept: usize,
    found: Scanned,
    /// Where a semicolon ended the statement.
    ended: Option<usize>,
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), Problem> {
        while let Some(byte) = self.byte(0) {
            let start = self.at;
            match (byte, self.byte(1)) {
                (b'-', Some(b'-')) => self.at = self.find("\n", start + 2).unwrap_or(self.text.len()),
                (b'/', Some(b'*')) => self.comment()?,
                (byte, _) if byte.is_ascii_whitespace() => self.at += 1,
                (b';', _) => {
                    self.ended.get_or_insert(start);
                    self.at += 1;
                }
                _ if self.ended.is_some() => {
                    let first = self.text[start..].chars().next().map_or(1, char::len_utf8);
                    return Err(self.problem(Why::Several, start, start + first));
                }
                (b'\'' | b'"', _) => self.quoted(byte, false)?,
                (b'$', Some(next)) if next.is_ascii_digit() => {
                    return Err(self.problem(Why::Numbered, start, start + 2));
                }
                (b'$', _) => self.dollar()?,
                (b'{', _) => return Err(self.problem(Why::Brace, start, start + 1)),
                (b':', Some(b':')) => self.at += 2,
                (b':', Some(next)) if begins_name(next) => self.bind(),
                (byte, _) if begins_word(byte) => self.word()?,
                // A number may end in letters, and these begin no word.
                (b'0'..=b'9', _) => self.pass(goes_on),
                _ => self.at += 1,
            }
        }
        self.keep(self.ended.unwrap_or(self.text.len()));
        match self.found.verb.is_empty() {
            true => Err(self.problem(Why::Empty, 0, self.text.len())),
            false => Ok(()),
        }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn find(&self, what: &str, from: usize) -> Option<usize> {
        Some(from + self.text.get(from..)?.find(what)?)
    }

    fn pass(&mut self, fits: fn(u8) -> bool) {
        while self.byte(0).is_some_and(fits) {
            self.at += 1;
        }
    }

    fn problem(&self, why: Why, start: usize, end: usize) -> Problem {
        Problem { place: start..end.min(self.text.len()), why }
    }

    /// Comments of this kind hold others.
    fn comment(&mut self) -> Result<(), Problem> {
        let (start, mut depth) = (self.at, 0_usize);
        loop {
            match (self.byte(0), self.byte(1)) {
                (Some(b'/'), Some(b'*')) => depth += 1,
                (Some(b'*'), Some(b'/')) => depth -= 1,
                (Some(_), _) => {
                    self.at += 1;
                    continue;
                }
                (None, _) => return Err(self.problem(Why::Open, start, start + 2)),
            }
            self.at += 2;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// A string or a quoted name; a quote in it is doubled, which looks like two of them.
    fn quoted(&mut self, quote: u8, escapes: bool) -> Result<(), Problem> {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.byte(0) {
            self.at += 1;
            if escapes && byte == b'\\' {
                self.at += 1;
            } else if byte == quote {
                return Ok(());
            }
        }
        Err(self.problem(Why::Open, start, start + 1))
    }

    /// `$tag$ … $tag$`; any other `$` is nobody's business.
    fn dollar(&mut self) -> Result<(), Problem> {
        let start = self.at;
        self.at += 1;
        self.pass(|byte| goes_on(byte) && byte != b'$');
        if self.byte(0) != Some(b'$') {
            return Ok(());
        }
        self.at += 1;
        let tag = &self.text[start..self.at];
        match self.find(tag, self.at) {
            Some(end) => {
                self.at = end + tag.len();
                Ok(())
            }
            None => Err(self.problem(Why::Open, start, self.at)),
        }
    }

    fn bind(&mut self) {
        let start = self.at;
        self.keep(start);
        self.at += 1;
        self.pass(|byte| goes_on(byte) && byte != b'$' && byte.is_ascii());
        let (name, place) = (&self.text[start + 1..self.at], start..self.at);
        let names = &mut self.found.text.names;
        let known = names.iter().position(|known| **known == *name).unwrap_or_else(|| {
            names.push(Arc::from(name));
            self.found.places.push(place);
            names.len() - 1
        });
        self.found.text.parts.push(SqlPart::Bind(known));
        self.kept = self.at;
    }

    fn word(&mut self) -> Result<(), Problem> {
        let start = self.at;
        self.pass(goes_on);
        let word = self.text[start..self.at].to_ascii_lowercase();
        if word == "e" && self.byte(0) == Some(b'\'') {
            return self.quoted(b'\'', true);
        }
        if self.found.verb.is_empty() {
            if SESSION.contains(&&*word) && !self.is_local(&word) {
                return Err(self.problem(Why::Session, start, self.at));
            }
            self.found.verb = word;
        }
        Ok(())
    }

    /// `set local` ends with the transaction.
    fn is_local(&self, word: &str) -> bool {
        let next = self.text[self.at..].split_whitespace().next();
        word == "set" && next.is_some_and(|next| next.eq_ignore_ascii_case("local"))
    }

    fn keep(&mut self, end: usize) {
        if self.kept < end {
            self.found.text.parts.push(SqlPart::Text(self.text[self.kept..end].to_owned()));
            self.kept = end;
        }
    }
}

fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

/// Every letter beyond ASCII may be part of a word.
fn begins_word(byte: u8) -> bool {
    begins_name(byte) || !byte.is_ascii()
}

fn goes_on(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbered(text: &str) -> String {
        scan(text).unwrap().text.numbered(|_, number| number)
    }

    fn why(text: &str) -> Why {
        scan(text).unwrap_err().why
    }

    #[test]
    fn binds_are_numbered_by_their_names() {
        let scanned = scan("select :a, :b_2, :a::int from t where x=:c").unwrap();
        assert_eq!(scanned.text.numbered(|_, number| number), "select $1, $2, $1::int from t where x=$3");
        assert_eq!(scanned.text.names.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b_2", "c"]);
        assert_eq!((scanned.places[1].clone(), &*scanned.verb), (11..15, "select"));
    }

    #[test]
    fn what_only_looks_like_a_bind_is_left_alone() {
        for text in [
            "select ':a', 'it''s :a', E'\\':a', e'a\\\\', \":a\", U&':a'",
            "select 1 -- :a\n, 2",
            "select /* :a /* :b */ :c */ 1",
            "select $$ :a $$, $x$ :a $$ :b $x$, $é$ :a $é$",
            "select a::int, b :: text, c[1 : 2], f(a := 1)",
            "select 'ü:a' as größe, '12:30:00'::time",
            "select a$b, a$b$c from t$1",
        ] {
            assert_eq!(numbered(text), text);
        }
    }

    #[test]
    fn a_statement_may_end_in_a_semicolon_and_has_a_verb() {
        assert_eq!(numbered("delete from t where a < :n ; -- done\n"), "delete from t where a < $1 ");
        assert_eq!(scan("/* first */ ( SELECT 1 )").unwrap().verb, "select");
        assert_eq!(scan("set local work_mem = '64MB'").unwrap().verb, "set");
    }

    #[test]
    fn what_cannot_be_one_statement_is_told() {
        assert_eq!([why(""), why(" -- :a"), why(";")], [Why::Empty; 3]);
        assert_eq!(
            [why("select 'a"), why("select \"a"), why("select $a$ $"), why("/* /* */")],
            [Why::Open; 4]
        );
        assert_eq!(why("select 1; select 2"), Why::Several);
        assert_eq!(why("select $1"), Why::Numbered);
        assert_eq!(why("select {{ args.a }}"), Why::Brace);
        assert_eq!([why("Commit"), why("set role x"), why("listen a")], [Why::Session; 3]);
        assert_eq!(scan("select 1; select 2").unwrap_err().place, 10..11);
    }

    /// Pieces of a statement: what is written, and what it becomes.
    fn piece() -> impl Strategy<Value = (String, Option<String>)> {
        let text = |text: &'static str| text.prop_map(|text: String| (text, None));
        prop_oneof![
            "[a-c]{1,3}".prop_map(|name| (format!(" :{name} "), Some(name))),
            text("'([a-c:; {$]|'')*'"),
            text("\"[a-c:; {$']*\""),
            text(" e'([a-c:; {$]|\\\\'|\\\\\\\\)*' "),
            text("--[a-c:'$\"]*\n"),
            text("/\\*[a-c:' ]*\\*/"),
            text(" [$]q[$][a-c:' ]*[$]q[$] "),
            text("::[a-c]{1,3}"),
            text(" [a-z][a-z0-9$]{0,4} "),
            text(" [0-9]{1,3}[.]?[0-9]* "),
            text(" [(),+<>=*] "),
        ]
    }

    proptest! {
        #[test]
        fn only_binds_are_changed(pieces in prop::collection::vec(piece(), 0..12)) {
            let text: String = pieces.iter().map(|(text, _)| text.as_str()).collect();
            let text = format!("select {text}");
            let scanned = scan(&text).unwrap();
            let names = scanned.text.names.clone();
            prop_assert_eq!(scanned.text.numbered(|place, _| format!(":{}", names[place])), text);
            let mut expected: Vec<_> = Vec::new();
            for name in pieces.iter().filter_map(|(_, name)| name.as_deref()) {
                if !expected.contains(&name) {
                    expected.push(name);
                }
            }
            prop_assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn no_text_panics(text in "[:;$'\"{}\\\\/*eEü a1\n-]{0,40}") {
            if let Err(problem) = scan(&text) {
                prop_assert!(text.get(problem.place).is_some());
            }
        }
    }
}
