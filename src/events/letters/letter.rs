//! What the headers of a dead letter say, read in one go and borrowed.

use chrono::DateTime;

use super::Origin;
use crate::record::RawRecord;

/// The prefix of the engine's own headers.
const OWN: &str = "biplane-";

/// A dead letter's own account. A part that is missing, or that is no text, is `None`: anybody may write
/// to the topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Letter<'a> {
    /// The class of the failure.
    pub class: Option<&'a str>,
    /// Its code.
    pub code: Option<&'a str>,
    /// Its message.
    pub message: Option<&'a str>,
    /// The stage that gave the record up.
    pub stage: Option<&'a str>,
    /// The step that failed; empty where none did.
    pub step: Option<&'a str>,
    /// How many attempts it had.
    pub attempts: Option<&'a str>,
    /// When the first of them failed, RFC 3339.
    pub first_failed_at: Option<&'a str>,
    /// When the last of them failed, RFC 3339.
    pub failed_at: Option<&'a str>,
    /// Where the record was read.
    pub topic: Option<&'a str>,
    /// Its partition there.
    pub partition: Option<i32>,
    /// Its offset there.
    pub offset: Option<i64>,
    /// Its time, RFC 3339; empty where it had none.
    pub timestamp: Option<&'a str>,
    /// Whether the broker set that time.
    pub log_append: bool,
    /// Equal for failures that are alike.
    pub fingerprint: Option<&'a str>,
    /// The config that was in force.
    pub generation: Option<&'a str>,
    /// How often the record was sent again.
    pub replays: u32,
    /// Whether parts of it were left out because the DLQ refused its size.
    pub truncated: bool,
}

impl<'a> Letter<'a> {
    /// Reads the headers of `raw`; the last of a name counts.
    pub fn read(raw: &RawRecord<'a>) -> Self {
        Self::read_with(raw, |_| {})
    }

    /// The same, and calls `others` with the index of each header that dead-lettering did not add.
    pub(super) fn read_with(raw: &RawRecord<'a>, mut others: impl FnMut(usize)) -> Self {
        let headers = raw.headers;
        let mut letter = Self::default();
        for index in 0..headers.len() {
            let (name, value) = headers.get(index);
            let Some(name) = name.strip_prefix(OWN) else {
                others(index);
                continue;
            };
            let text = value.and_then(|bytes| std::str::from_utf8(bytes).ok());
            match name {
                "error-class" => letter.class = text,
                "error-code" => letter.code = text,
                "error-message" => letter.message = text,
                "stage" => letter.stage = text,
                "step" => letter.step = text,
                "attempts" => letter.attempts = text,
                "first-failed-at" => letter.first_failed_at = text,
                "failed-at" => letter.failed_at = text,
                "topic" => letter.topic = text,
                "partition" => letter.partition = text.and_then(|text| text.parse().ok()),
                "offset" => letter.offset = text.and_then(|text| text.parse().ok()),
                "timestamp" => letter.timestamp = text,
                "timestamp-type" => letter.log_append = text == Some("log-append"),
                "fingerprint" => letter.fingerprint = text,
                "generation" => letter.generation = text,
                "replays" => letter.replays = text.and_then(|text| text.parse().ok()).unwrap_or_default(),
                "truncated" | "truncated-key" | "truncated-headers" => letter.truncated = true,
                "dlq-id" | "origin" => {}
                _ => others(index),
            }
        }
        letter
    }

    /// Where the record was read that was given up; the place of `raw` itself where that is not said, as
    /// with records that another program wrote.
    pub fn origin(&self, raw: &RawRecord<'a>) -> Origin<'a> {
        let (Some(topic), Some(partition), Some(offset)) = (self.topic, self.partition, self.offset) else {
            let RawRecord { topic, partition, offset, timestamp, log_append, .. } = *raw;
            return Origin { topic, partition, offset, timestamp, log_append };
        };
        let time = self.timestamp.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        let timestamp = time.map(|time| time.timestamp_millis());
        Origin { topic, partition, offset, timestamp, log_append: self.log_append && timestamp.is_some() }
    }
}
