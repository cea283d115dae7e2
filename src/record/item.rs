//! The record as steps see it.
//!
//! Decoding is lazy and happens at most once; an item that no step changed keeps its original bytes,
//! so that its output is the input to the byte. The first step of a retry always meets a fresh item.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{Codec, JobFacts, JsonCodec, RawRecord};
use crate::base::Failure;

/// The value of an item: the original bytes until a step looks, a decoded value afterwards.
#[derive(Debug, Clone)]
pub enum Value {
    /// Not looked at yet.
    Bytes,
    /// Decoded and not changed: the bytes still stand for it.
    Decoded(Json),
    /// Changed by a step: must be encoded again.
    Changed(Json),
    /// Made by a step as JSON text, since most likely nobody looks at it before it is sent.
    Encoded(Vec<u8>),
}

/// What a step or an output did to the headers.
#[derive(Debug, Clone)]
pub enum HeaderChange {
    /// All headers of that name are replaced by one (`None`: a null value).
    Set(Arc<str>, Option<Vec<u8>>),
    /// All headers of that name are removed.
    Remove(Arc<str>),
}

/// One record on its way through the steps of a stage.
pub struct Item<'r> {
    /// The record as it was read.
    pub raw: RawRecord<'r>,
    /// How its value is decoded.
    pub codec: &'r dyn Codec,
    /// Counts from 1.
    pub attempt: u32,
    /// The job whose steps it passes; `None`: it is a record of a stage.
    pub job: Option<&'r JobFacts>,
    /// Which part of its record it is, the same each time that the steps run: 0 is the whole.
    pub part: u64,
    value: Value,
    results: Vec<(Arc<str>, Arc<Json>)>,
    headers: Vec<HeaderChange>,
}

impl std::fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Item")
            .field("topic", &self.raw.topic)
            .field("partition", &self.raw.partition)
            .field("offset", &self.raw.offset)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl<'r> Item<'r> {
    /// The record before its first step.
    pub fn new(raw: RawRecord<'r>, codec: &'r dyn Codec, attempt: u32) -> Self {
        let (value, job) = (Value::Bytes, None);
        Self { raw, codec, attempt, job, part: 0, value, results: Vec::new(), headers: Vec::new() }
    }

    /// What the steps of a job begin with, or go on with: its value, which is no record's.
    pub fn of_job(job: &'r JobFacts, attempt: u32, value: Json) -> Self {
        let (codec, value) = (&JsonCodec, Value::Changed(value));
        let (results, headers) = (Vec::new(), Vec::new());
        Self { raw: RawRecord::NOTHING, codec, attempt, job: Some(job), part: 0, value, results, headers }
    }

    /// The value, decoded on first use. A tombstone is null.
    ///
    /// # Errors
    /// A poison failure when the bytes cannot be decoded.
    pub fn value(&mut self) -> Result<&Json, Failure> {
        self.decode()?;
        Ok(self.peek().unwrap_or(&Json::Null))
    }

    /// Decodes the value unless that was done.
    ///
    /// # Errors
    /// As [`Item::value`].
    pub fn decode(&mut self) -> Result<(), Failure> {
        match &self.value {
            Value::Bytes => {
                self.value = Value::Decoded(match self.raw.value {
                    Some(bytes) => self.codec.decode(bytes)?,
                    None => Json::Null,
                });
            }
            Value::Encoded(bytes) => self.value = Value::Changed(JsonCodec.decode(bytes)?),
            Value::Decoded(_) | Value::Changed(_) => {}
        }
        Ok(())
    }

    /// The value if it has been decoded.
    pub fn peek(&self) -> Option<&Json> {
        match &self.value {
            Value::Bytes | Value::Encoded(_) => None,
            Value::Decoded(value) | Value::Changed(value) => Some(value),
        }
    }

    /// The value for changing it; the original bytes no longer stand for it.
    ///
    /// # Errors
    /// As [`Item::value`].
    pub fn value_mut(&mut self) -> Result<&mut Json, Failure> {
        self.decode()?;
        if let Value::Decoded(value) = &mut self.value {
            self.value = Value::Changed(value.take());
        }
        match &mut self.value {
            Value::Changed(value) => Ok(value),
            Value::Bytes | Value::Decoded(_) | Value::Encoded(_) => {
                unreachable!("decoded and marked as changed above")
            }
        }
    }

    /// Replaces the value without decoding the old one.
    pub fn set_value(&mut self, value: Json) {
        self.value = Value::Changed(value);
    }

    /// Replaces the value by JSON text, which is decoded only if somebody looks.
    pub fn set_encoded(&mut self, json: Vec<u8>) {
        self.value = Value::Encoded(json);
    }

    /// The JSON text of the value, where a step left it so.
    pub fn encoded(&self) -> Option<&[u8]> {
        match &self.value {
            Value::Encoded(json) => Some(json),
            Value::Bytes | Value::Decoded(_) | Value::Changed(_) => None,
        }
    }

    /// The original bytes while they still stand for the value; `None` once a step changed it.
    /// The inner `None` is a tombstone.
    pub fn unchanged(&self) -> Option<Option<&'r [u8]>> {
        matches!(self.value, Value::Bytes | Value::Decoded(_)).then_some(self.raw.value)
    }

    /// Keeps the result of step `name` for `steps.NAME`; siblings share it.
    pub fn set_result(&mut self, name: &Arc<str>, result: impl Into<Arc<Json>>) {
        let result = result.into();
        match self.results.iter_mut().find(|(known, _)| known == name) {
            Some((_, slot)) => *slot = result,
            None => self.results.push((Arc::clone(name), result)),
        }
    }

    /// The result of step `name`, if it ran.
    pub fn result(&self, name: &str) -> Option<&Json> {
        self.results.iter().find(|(known, _)| &**known == name).map(|(_, result)| &**result)
    }

    /// All results so far, in the order in which they first came.
    pub fn results(&self) -> &[(Arc<str>, Arc<Json>)] {
        &self.results
    }

    /// Changes a header of whatever this item becomes.
    pub fn change_header(&mut self, change: HeaderChange) {
        self.headers.push(change);
    }

    /// The changes of headers so far, oldest first.
    pub fn header_changes(&self) -> &[HeaderChange] {
        &self.headers
    }

    /// About how many bytes of text this item holds by itself: its value once decoded, its header
    /// changes, and results that no sibling shares. What it takes in memory is a small multiple.
    pub fn weight(&self) -> usize {
        let own = self.results.iter().filter(|(_, result)| Arc::strong_count(result) == 1);
        let results: usize = own.map(|(_, result)| weight(result)).sum();
        let value = self.peek().map_or(0, weight) + self.encoded().map_or(0, <[u8]>::len);
        value + results + self.headers_weight()
    }

    /// The part of [`Item::weight`] that every sibling repeats beside its value.
    pub fn headers_weight(&self) -> usize {
        let bytes = |change: &HeaderChange| match change {
            HeaderChange::Set(_, value) => value.as_ref().map_or(0, Vec::len),
            HeaderChange::Remove(_) => 0,
        };
        self.headers.iter().map(bytes).sum()
    }

    /// One of several parts of this item, by its place among them, with a value of its own.
    pub fn part_of(&self, place: usize, value: Json) -> Self {
        // Fewer than a million parts come from one item, so two that are no more than three deep never meet.
        let part = self.part.wrapping_mul(1_000_003).wrapping_add(place as u64 + 1);
        Self { part, ..self.with_value(value) }
    }

    /// A sibling of this item with another value.
    pub fn with_value(&self, value: Json) -> Self {
        Self {
            raw: self.raw,
            codec: self.codec,
            attempt: self.attempt,
            job: self.job,
            part: self.part,
            value: Value::Changed(value),
            results: self.results.clone(),
            headers: self.headers.clone(),
        }
    }
}

/// What one value costs beside its text.
const NODE: usize = 8;

/// About how many bytes the text of `value` has, without writing it.
pub fn weight(value: &Json) -> usize {
    NODE + match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(weight).sum(),
        Json::Object(fields) => fields.iter().map(|(name, field)| name.len() + weight(field)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::JsonCodec;

    #[test]
    fn siblings_share_results_and_weigh_only_what_is_their_own() {
        let raw = RawRecord {
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp: None,
            log_append: false,
            key: None,
            value: Some(b"{}"),
            headers: &(),
        };
        let mut item = Item::new(raw, &JsonCodec, 1);
        assert_eq!(item.weight(), 0, "nothing is decoded");
        item.set_result(&Arc::from("page"), json!({"body": "x".repeat(1_000)}));
        assert!(item.weight() > 1_000);
        let mut sibling = item.with_value(json!("y".repeat(100)));
        sibling.change_header(HeaderChange::Set(Arc::from("h"), Some(vec![0; 50])));
        assert!((150..200).contains(&sibling.weight()), "{}", sibling.weight());
        assert!(std::ptr::eq(item.result("page").unwrap(), sibling.result("page").unwrap()));
    }
}
