//! What a dead letter carries: the original bytes, and in its headers why and where it failed.
//!
//! The names other tools read are written beside Biplane's own where the DLQ asks for them: Kafka
//! Connect's `__connect.errors.*` (KIP-298), Kafka Streams' `__streams.errors.*` (KIP-1034), Spring
//! Kafka's `kafka_dlt-*`.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use sha2::{Digest, Sha256};

use super::partitions::Cut;
use super::program::{Batch, Part, Prepared, Program, Target};
use crate::base::Failure;
use crate::catalog::DlqHeaders;
use crate::record::{HeaderChange, RawRecord};

/// The most bytes of an error message that go into a header.
const MAX_MESSAGE: usize = 2_048;
/// How much of the value is kept where the DLQ refuses its size.
const CUT_VALUE: usize = 16 * 1_024;
/// How much of value and key is kept where that is not enough either.
const SHORT: usize = 512;

/// One exhausted record.
pub(super) struct DeadLetter<'a> {
    /// The record as it was read.
    pub(super) raw: RawRecord<'a>,
    /// Its last failure.
    pub(super) failure: &'a Failure,
    /// How many attempts it had.
    pub(super) attempts: u32,
    /// When the first of them failed, in milliseconds since the Unix epoch.
    pub(super) first_failed_at: i64,
    /// When the last of them failed.
    pub(super) failed_at: i64,
    /// What is left out of it, because the DLQ refused its size.
    pub(super) cut: Cut,
}

impl DeadLetter<'_> {
    /// Prepares the record for the DLQ of `program`'s stage.
    pub(super) fn prepare(&self, program: &Program, batch: &mut Batch) {
        let mut headers = Headers(Vec::new());
        self.own(program, &mut headers);
        for convention in program.stage.dlq.iter().flat_map(|dlq| &dlq.headers) {
            match convention {
                DlqHeaders::Biplane => {}
                DlqHeaders::Connect => self.connect(program, &mut headers),
                DlqHeaders::Streams => self.streams(program, &mut headers),
                DlqHeaders::Spring => self.spring(program, &mut headers),
            }
        }
        if self.cut >= Cut::Headers {
            headers.text("biplane-truncated-headers", &self.raw.headers.len().to_string());
            let names = (0..self.raw.headers.len()).map(|index| self.raw.headers.get(index).0);
            let left_out = names.filter(|name| *name != "biplane-replays");
            // First of all, since what is written for the failure stays, whatever names the record used.
            headers.0.splice(0..0, left_out.map(|name| HeaderChange::Remove(Arc::from(name))));
        }
        let most_value = match self.cut {
            Cut::Nothing => usize::MAX,
            Cut::Value | Cut::Headers => CUT_VALUE,
            Cut::Key => SHORT,
        };
        let most_key = if self.cut == Cut::Key { SHORT } else { usize::MAX };
        let value = kept(self.raw.value, most_value, "biplane-truncated", &mut headers, batch);
        let key = kept(self.raw.key, most_key, "biplane-truncated-key", &mut headers, batch);
        batch.outputs.push(Prepared { target: Target::DeadLetter, key, value, headers: headers.0 });
    }

    fn own(&self, program: &Program, headers: &mut Headers) {
        let step = self.failure.step.as_deref().unwrap_or_default();
        headers.text("biplane-error-class", self.failure.class.as_str());
        headers.text("biplane-error-code", &self.failure.code);
        headers.text("biplane-error-message", cut(&self.failure.message));
        headers.text("biplane-stage", &program.stage.name);
        headers.text("biplane-step", step);
        headers.text("biplane-attempts", &self.attempts.to_string());
        headers.text("biplane-first-failed-at", &time(self.first_failed_at));
        headers.text("biplane-failed-at", &time(self.failed_at));
        headers.text("biplane-topic", self.raw.topic);
        headers.text("biplane-partition", &self.raw.partition.to_string());
        headers.text("biplane-offset", &self.raw.offset.to_string());
        headers.text("biplane-timestamp", &self.raw.timestamp.map(time).unwrap_or_default());
        if self.raw.log_append && self.raw.timestamp.is_some() {
            headers.text("biplane-timestamp-type", "log-append");
        }
        headers.text("biplane-fingerprint", &fingerprint(&program.stage.name, self.failure));
        headers.text("biplane-generation", &program.generation);
        if self.raw.headers.last("biplane-replays").is_none() {
            headers.text("biplane-replays", "0");
        }
    }

    fn connect(&self, program: &Program, headers: &mut Headers) {
        headers.text("__connect.errors.topic", self.raw.topic);
        headers.text("__connect.errors.partition", &self.raw.partition.to_string());
        headers.text("__connect.errors.offset", &self.raw.offset.to_string());
        headers.text("__connect.errors.connector.name", &program.stage.name);
        headers.text("__connect.errors.task.id", "0");
        headers.text("__connect.errors.stage", self.failure.step.as_deref().unwrap_or("TRANSFORMATION"));
        headers.text("__connect.errors.class.name", "biplane");
        headers.text("__connect.errors.exception.class.name", &self.failure.code);
        headers.text("__connect.errors.exception.message", cut(&self.failure.message));
        headers.text("__connect.errors.exception.stacktrace", &self.trace(program));
    }

    /// What stands in for the stack of an exception: the failure, and where it happened.
    fn trace(&self, program: &Program) -> String {
        let Failure { code, message, step, .. } = self.failure;
        let step = step.as_deref().map(|step| format!("/{step}")).unwrap_or_default();
        format!("{code}: {}\n\tat {}{step}", cut(message), program.group)
    }

    fn streams(&self, program: &Program, headers: &mut Headers) {
        headers.text("__streams.errors.exception", &self.failure.code);
        headers.text("__streams.errors.stacktrace", &self.trace(program));
        headers.text("__streams.errors.message", cut(&self.failure.message));
        headers.text("__streams.errors.topic", self.raw.topic);
        headers.text("__streams.errors.partition", &self.raw.partition.to_string());
        headers.text("__streams.errors.offset", &self.raw.offset.to_string());
    }

    /// Spring writes numbers as big-endian binary, so that its own recoverers can read them.
    fn spring(&self, program: &Program, headers: &mut Headers) {
        headers.text("kafka_dlt-original-topic", self.raw.topic);
        headers.bytes("kafka_dlt-original-partition", self.raw.partition.to_be_bytes().to_vec());
        headers.bytes("kafka_dlt-original-offset", self.raw.offset.to_be_bytes().to_vec());
        let timestamp = self.raw.timestamp.unwrap_or(-1);
        headers.bytes("kafka_dlt-original-timestamp", timestamp.to_be_bytes().to_vec());
        headers.text("kafka_dlt-original-timestamp-type", self.timestamp_type());
        headers.text("kafka_dlt-original-consumer-group", &program.group);
        headers.text("kafka_dlt-exception-fqcn", &self.failure.code);
        headers.text("kafka_dlt-exception-message", cut(&self.failure.message));
        headers.text("kafka_dlt-exception-stacktrace", &self.trace(program));
    }

    /// The word of Java's client.
    fn timestamp_type(&self) -> &'static str {
        match (self.raw.timestamp, self.raw.log_append) {
            (None, _) => "NoTimestampType",
            (Some(_), true) => "LogAppendTime",
            (Some(_), false) => "CreateTime",
        }
    }
}

/// The first `most` bytes; where there are more, `marker` says how many there were.
fn kept(bytes: Option<&[u8]>, most: usize, marker: &str, headers: &mut Headers, batch: &mut Batch) -> Part {
    match bytes {
        Some(bytes) if bytes.len() > most => {
            headers.text(marker, &bytes.len().to_string());
            let start = batch.bytes.len();
            batch.bytes.extend_from_slice(&bytes[..most]);
            Part::Bytes(start..batch.bytes.len())
        }
        _ => Part::Input,
    }
}

struct Headers(Vec<HeaderChange>);

impl Headers {
    fn text(&mut self, name: &str, value: &str) {
        self.bytes(name, value.as_bytes().to_vec());
    }

    fn bytes(&mut self, name: &str, value: Vec<u8>) {
        self.0.push(HeaderChange::Set(Arc::from(name), Some(value)));
    }
}

/// Groups failures that are alike: stage, step, code and the message without its numbers and quoted
/// parts; 16 hexadecimal digits.
fn fingerprint(stage: &str, failure: &Failure) -> String {
    let mut hash = Sha256::new();
    for part in
        [stage, failure.step.as_deref().unwrap_or_default(), &failure.code, &skeleton(&failure.message)]
    {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn skeleton(message: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    for c in message.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`') => quote = Some(c),
            None if c.is_ascii_digit() => {
                if !out.ends_with('#') {
                    out.push('#');
                }
            }
            None => out.push(c),
        }
    }
    out
}

fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(MAX_MESSAGE)]
}

/// RFC 3339 in UTC with milliseconds.
fn time(millis: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(millis)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_that_differ_only_in_numbers_and_values_share_a_fingerprint() {
        let failure = |message: &str| Failure::permanent("schema", message).in_step("validate");
        let one = fingerprint("s", &failure("\"a\" is not of type number at /items/3"));
        let two = fingerprint("s", &failure("\"bcd\" is not of type number at /items/12"));
        assert_eq!(one, two);
        assert_eq!(one.len(), 16);
        assert_ne!(one, fingerprint("s", &failure("/items is missing")));
        assert_ne!(one, fingerprint("t", &failure("\"a\" is not of type number at /items/3")));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert!(cut(&"ä".repeat(5_000)).len() <= MAX_MESSAGE);
        assert_eq!(cut("short"), "short");
    }
}
