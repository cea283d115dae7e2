//! What a replay is, as the control topic keeps it: fixed at its start, so that whoever goes on with it
//! does the same.

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use crate::events::letters::Filters;

/// Where the records lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Dead letters of the DLQ of this name.
    Dlq(String),
    /// All records of the topic of this physical name.
    Topic(String),
}

/// Where they go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Each to the stage that gave it up.
    Origin,
    /// All to this stage.
    Stage(String),
    /// All to the topic of this physical name.
    Topic(String),
}

/// What is read of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The one behind the last.
    pub end: i64,
}

/// One replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// What it is called; a part of its group's name.
    pub id: String,
    /// Where the records lie.
    pub source: Source,
    /// The physical name of the topic that is read.
    pub topic: String,
    /// Which of them are meant.
    #[serde(default)]
    pub filters: Filters,
    /// Whether those are meant as well that were replayed or discarded before.
    #[serde(default)]
    pub all: bool,
    /// Where they go.
    pub target: Target,
    /// At most so many a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// How often one record may be sent again in all.
    pub max_replays: u32,
    /// What is read.
    pub ranges: Vec<Range>,
    /// Who started it.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
}

/// The command that works on a replay; the newest counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Tells it from any other.
    pub token: String,
    /// Who started it.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
}

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All was read, and all that was meant was sent.
    Done,
    /// Somebody cancelled it.
    Cancelled,
}

/// The end of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How it ended.
    pub outcome: Outcome,
    /// Who ended it.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
    /// What became of the records, where the one that ended it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
}

impl Spec {
    /// The group whose offsets are the replay's cursor.
    pub fn group(namespace: &str, id: &str) -> String {
        format!("{namespace}.replay.{id}")
    }

    /// Whether what is sent counts as settled.
    pub fn settles(&self) -> bool {
        matches!(self.source, Source::Dlq(_))
    }
}
