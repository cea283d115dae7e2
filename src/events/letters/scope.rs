//! What an expression over dead letters sees: the record that was given up, and why it was.

use std::sync::OnceLock;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value as Json;

use super::Letter;
use crate::base::Failure;
use crate::expr::{Found, Root, Scope};
use crate::record::RawRecord;

/// The names below `error`.
pub(super) const ERROR_NAMES: [&str; 11] = [
    "class",
    "code",
    "message",
    "stage",
    "step",
    "attempts",
    "first_failed_at",
    "failed_at",
    "fingerprint",
    "generation",
    "replays",
];

/// One record as it lies in a topic. `topic`, `partition`, `offset` and `timestamp` are those of the
/// original where it is a dead letter.
pub(super) struct LyingScope<'a> {
    pub(super) raw: &'a RawRecord<'a>,
    pub(super) letter: Option<&'a Letter<'a>>,
    pub(super) value: Option<&'a Json>,
    pub(super) timestamp: OnceLock<String>,
}

impl LyingScope<'_> {
    fn timestamp(&self) -> Found<'_> {
        match self.letter.and_then(|letter| letter.timestamp) {
            Some("") => return Found::Null,
            Some(text) => return Found::Text(text),
            None => {}
        }
        match self.raw.timestamp.and_then(DateTime::<Utc>::from_timestamp_millis) {
            None => Found::Null,
            Some(time) => {
                Found::Text(self.timestamp.get_or_init(|| time.to_rfc3339_opts(SecondsFormat::Millis, true)))
            }
        }
    }

    fn error(&self, name: &str) -> Option<Found<'_>> {
        let letter = self.letter?;
        let text = match name {
            "class" => letter.class,
            "code" => letter.code,
            "message" => letter.message,
            "stage" => letter.stage,
            "step" => letter.step,
            "first_failed_at" => letter.first_failed_at,
            "failed_at" => letter.failed_at,
            "fingerprint" => letter.fingerprint,
            "generation" => letter.generation,
            "attempts" => return letter.attempts?.parse().ok().map(Found::Integer),
            "replays" => return Some(Found::Integer(letter.replays.into())),
            _ => None,
        };
        text.map(Found::Text)
    }

    fn header(&self, name: &str) -> Result<Option<Found<'_>>, Failure> {
        match self.raw.headers.last(name) {
            None => Ok(None),
            Some(None) => Ok(Some(Found::Null)),
            Some(Some(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(Found::Text(text))),
                Err(_) => {
                    let message = format!("the header `{name}` is not UTF-8 text");
                    Err(Failure::poison("header-not-text", message))
                }
            },
        }
    }
}

impl Scope for LyingScope<'_> {
    fn root(&self, root: Root) -> Result<Option<Found<'_>>, Failure> {
        let (raw, letter) = (self.raw, self.letter);
        Ok(match root {
            Root::Value => self.value.map(Found::Json),
            Root::Key => Some(match raw.key {
                None => Found::Null,
                Some(bytes) => Found::Text(
                    std::str::from_utf8(bytes)
                        .map_err(|_| Failure::poison("key-not-text", "the record's key is not UTF-8 text"))?,
                ),
            }),
            Root::Topic => Some(Found::Text(letter.and_then(|letter| letter.topic).unwrap_or(raw.topic))),
            Root::Partition => {
                let partition = letter.and_then(|letter| letter.partition).unwrap_or(raw.partition);
                Some(Found::Integer(partition.into()))
            }
            Root::Offset => {
                Some(Found::Integer(letter.and_then(|letter| letter.offset).unwrap_or(raw.offset)))
            }
            Root::Timestamp => Some(self.timestamp()),
            Root::Env | Root::Headers | Root::Steps | Root::Error | Root::Item => None,
            Root::Args | Root::Job | Root::FireAt | Root::Window => None,
        })
    }

    fn named(&self, root: Root, name: &str) -> Result<Option<Found<'_>>, Failure> {
        match root {
            Root::Headers => self.header(name),
            Root::Error => Ok(self.error(name)),
            _ => Ok(None),
        }
    }

    fn names(&self, root: Root) -> Vec<String> {
        match root {
            Root::Headers => {
                let headers = self.raw.headers;
                (0..headers.len()).map(|index| headers.get(index).0.to_owned()).collect()
            }
            Root::Error => {
                let known = ERROR_NAMES.into_iter().filter(|name| self.error(name).is_some());
                known.map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }
}
