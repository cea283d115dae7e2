//! One record in full, for a terminal or for scripts.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::record::RawRecord;

/// One record in full. Bytes that are text are shown as text.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    topic: String,
    partition: i32,
    offset: i64,
    /// What was done about it, where something was.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    timestamp: Option<i64>,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Bytes {
    Text(String),
    Base64(String),
}

impl Bytes {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }

    /// For a terminal: control characters are escaped, so that a record cannot steer it.
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text
                .chars()
                .map(|c| match c {
                    '\n' | '\t' => c.to_string(),
                    c if c.is_control() => c.escape_unicode().to_string(),
                    c => c.to_string(),
                })
                .collect(),
            Self::Base64(text) => format!("base64:{text}"),
        }
    }
}

impl Shown {
    pub(super) fn from(raw: &RawRecord<'_>, state: Option<String>) -> Self {
        let headers = (0..raw.headers.len()).map(|index| {
            let (name, value) = raw.headers.get(index);
            (name.to_owned(), value.map(Bytes::new))
        });
        Self {
            topic: raw.topic.to_owned(),
            partition: raw.partition,
            offset: raw.offset,
            state,
            timestamp: raw.timestamp,
            key: raw.key.map(Bytes::new),
            value: raw.value.map(Bytes::new),
            headers: headers.collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let shown = |value: &Option<Bytes>| value.as_ref().map_or_else(|| "null".to_owned(), Bytes::text);
        let mut text = format!("record  {}[{}]@{}\n", self.topic, self.partition, self.offset);
        // Writing into a string cannot fail.
        if let Some(state) = &self.state {
            let _ = writeln!(text, "state   {state}");
        }
        let _ = writeln!(text, "key     {}\n\nheaders", shown(&self.key));
        let width = self.headers.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in &self.headers {
            let _ = writeln!(text, "  {name:<width$}  {}", shown(value));
        }
        let _ = writeln!(text, "\nvalue\n{}", shown(&self.value));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers = [(&'static str, Option<&'static [u8]>); 2];

    fn raw<'a>(headers: &'a Headers, value: &'a [u8]) -> RawRecord<'a> {
        let (topic, key) = ("dlq", Some(b"k".as_slice()));
        RawRecord {
            topic,
            partition: 1,
            offset: 2,
            timestamp: None,
            log_append: false,
            key,
            value: Some(value),
            headers,
        }
    }

    #[test]
    fn a_record_is_shown_whole_and_cannot_steer_the_terminal() {
        let headers: Headers = [("h", Some(b"\x1b[2J")), ("b", Some(b"\xff"))];
        let text = Shown::from(&raw(&headers, b"{\"a\":1}\n\x07"), None).text();
        assert!(text.starts_with("record  dlq[1]@2\nkey     k\n"), "{text}");
        assert!(text.contains("{\"a\":1}\n\\u{7}") && text.contains("\\u{1b}[2J"), "{text}");
        assert!(text.contains("base64:/w=="), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
