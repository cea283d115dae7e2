//! Which records are meant, in words: what the command line says and what a replay remembers.

use serde::{Deserialize, Serialize};

/// Every part that is said must hold; of several values of one part, any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filters {
    /// The stages that gave the record up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<String>,
    /// Codes, patterns of codes, and classes, as a retry policy takes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<String>,
    /// Fingerprints of failures that are alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fingerprints: Vec<String>,
    /// Not before then, in milliseconds since the Unix epoch: when a dead letter failed last, or any other
    /// record's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// The key as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The partition that it lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// The first offset in that partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_offset: Option<i64>,
    /// The offset behind the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_offset: Option<i64>,
    /// An expression that is true for it.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
}

/// Filters that mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FiltersError {
    /// The expression does not compile.
    #[error("--where: {0}")]
    Expression(String),
    /// Only dead letters have what it asks for.
    #[error("{0} asks for what only a dead letter has: it goes with --dlq")]
    OnlyDeadLetters(&'static str),
}

impl Filters {
    /// Whether everything is meant.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What of one partition may be meant, of the offsets from `from` to `end`.
    pub fn range(&self, partition: i32, from: i64, end: i64) -> (i64, i64) {
        if self.partition.is_some_and(|only| only != partition) {
            return (end, end);
        }
        (from.max(self.from_offset.unwrap_or(from)), end.min(self.to_offset.unwrap_or(end)))
    }
}
