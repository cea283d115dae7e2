//! Where a JSON pointer leads in the text of a JSON file, for findings that point into it.

use std::ops::Range;

/// The bytes of the value at `pointer` in `text`; `None` where there is none or the text is no JSON.
pub(super) fn locate(text: &str, pointer: &str) -> Option<Range<usize>> {
    let mut scanner = Scanner { text, at: 0 };
    for segment in pointer.split('/').skip(1) {
        scanner.enter(&segment.replace("~1", "/").replace("~0", "~"))?;
    }
    scanner.space();
    let start = scanner.at;
    scanner.skip()?;
    Some(start..scanner.at)
}

/// The byte at a line and column as `serde_json` counts them, from 1.
pub(super) fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(text.len())
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Moves to the member or item that `segment` names.
    fn enter(&mut self, segment: &str) -> Option<()> {
        if self.eat(b'{') {
            loop {
                self.space();
                let start = self.at;
                self.skip_string()?;
                let key: String = serde_json::from_str(self.text.get(start..self.at)?).ok()?;
                if !self.eat(b':') {
                    return None;
                }
                if key == segment {
                    return Some(());
                }
                self.skip()?;
                if !self.eat(b',') {
                    return None;
                }
            }
        }
        if !self.eat(b'[') {
            return None;
        }
        for _ in 0..segment.parse::<usize>().ok()? {
            self.skip()?;
            if !self.eat(b',') {
                return None;
            }
        }
        Some(())
    }

    /// Moves behind the next value, however deep it is.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            self.space();
            match self.peek()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b',' | b':' => return None,
                _ => {
                    while self.peek().is_some_and(|byte| !b",:]} \t\r\n".contains(&byte)) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pointer_leads_through_members_items_and_escapes() {
        let text = r#"{"a": [1, {"b/c": "x\"y"}], "d": {"e": null}}"#;
        let at = |pointer: &str| locate(text, pointer).map(|range| &text[range]);
        assert_eq!(at("/a/1/b~1c"), Some("\"x\\\"y\""));
        assert_eq!(at("/d/e"), Some("null"));
        assert_eq!(at("/a"), Some("[1, {\"b/c\": \"x\\\"y\"}]"));
        assert_eq!(at(""), Some(text));
        assert_eq!((at("/nope"), at("/a/7"), at("/d/e/f")), (None, None, None));
    }

    proptest! {
        #[test]
        fn no_text_and_no_pointer_panics(text in "[\\[\\]{}:,\"\\\\a1 ä]{0,40}", pointer in "(/[a1~0]{0,3}){0,4}") {
            locate(&text, &pointer);
            offset(&text, 3, 9);
        }
    }
}
