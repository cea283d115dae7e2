//! Pauses of stages, and the word that lets a halted stage go on.
//!
//! A pause stands until it is taken away; a resume is said once, to the engines that run then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::topic::{ControlError, Writer, read};
use crate::broker::ClientSettings;

pub(super) const PAUSE: &str = "pause/";
pub(super) const RESUME: &str = "resume/";

/// Why a stage stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who said so.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
    /// Why, where they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Somebody let a stage go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Who said so.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
}

impl Pause {
    /// As it stands in the status of the stage.
    pub fn text(&self) -> String {
        let at = chrono::DateTime::from_timestamp_millis(self.at);
        let at = at.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)).unwrap_or_default();
        let why = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("paused by {} at {at}{why}", self.by)
    }
}

/// The version of the entries that this writes.
const VERSION: u32 = 1;

pub(super) fn versioned(entry: &impl Serialize) -> Json {
    let mut entry = serde_json::to_value(entry).unwrap_or_default();
    entry["version"] = json!(VERSION);
    entry
}

/// The entry, where this version of Biplane knows how to read it.
pub(super) fn understood<T: serde::de::DeserializeOwned>(entry: &Json) -> Option<T> {
    T::deserialize(entry).ok().filter(|_| entry["version"] == VERSION)
}

/// The stages that are paused.
///
/// # Errors
/// Where the control topic cannot be read.
pub fn pauses(client: &ClientSettings, namespace: &str) -> Result<BTreeMap<String, Pause>, ControlError> {
    let entries = read(client, namespace, PAUSE)?;
    let known =
        entries.iter().filter_map(|(key, entry)| Some((key[PAUSE.len()..].to_owned(), understood(entry)?)));
    Ok(known.collect())
}

/// Pauses a stage in every engine of the namespace, until it is resumed.
///
/// # Errors
/// Where the control topic cannot be written.
pub fn pause(
    client: &ClientSettings,
    namespace: &str,
    stage: &str,
    pause: &Pause,
) -> Result<(), ControlError> {
    let writer = Writer::open(client, namespace)?;
    writer.put(&format!("{PAUSE}{stage}"), Some(&versioned(pause)))?;
    writer.flush()
}

/// Ends the pause of a stage, and lets it go on in the engines where it has halted.
///
/// # Errors
/// Where the control topic cannot be written.
pub fn resume(
    client: &ClientSettings,
    namespace: &str,
    stage: &str,
    resume: &Resume,
) -> Result<(), ControlError> {
    let writer = Writer::open(client, namespace)?;
    writer.put(&format!("{PAUSE}{stage}"), None)?;
    writer.put(&format!("{RESUME}{stage}"), Some(&versioned(resume)))?;
    writer.flush()
}
