//! Records at the client's border: what was fetched, without copying it, and what is to be sent.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::{Message, Timestamp};

use crate::record::{HeaderSource, RawRecord};

/// A record in the consumer's buffer; it lives as long as the consumer is borrowed.
#[derive(Debug)]
pub struct Fetched<'c> {
    message: BorrowedMessage<'c>,
    /// The client parses anew at each look at a message without headers.
    has_headers: bool,
}

impl<'c> Fetched<'c> {
    pub(super) fn new(message: BorrowedMessage<'c>) -> Self {
        // The client parses headers on first use, which must not happen on two threads at once.
        let has_headers = message.headers().is_some();
        Self { message, has_headers }
    }

    /// The record, borrowed.
    pub fn raw(&self) -> RawRecord<'_> {
        let timestamp = self.message.timestamp();
        RawRecord {
            topic: self.message.topic(),
            partition: self.message.partition(),
            offset: self.message.offset(),
            timestamp: timestamp.to_millis(),
            log_append: matches!(timestamp, Timestamp::LogAppendTime(_)),
            key: self.message.key(),
            value: self.message.payload(),
            headers: match self.has_headers.then(|| self.message.headers()).flatten() {
                Some(headers) => headers,
                None => &(),
            },
        }
    }

    /// The partition it was read from, without looking at anything else.
    pub fn partition(&self) -> i32 {
        self.message.partition()
    }

    /// Its offset, without looking at anything else.
    pub fn offset(&self) -> i64 {
        self.message.offset()
    }
}

/// Stands for a header name that is not UTF-8; such a header's value cannot be reached.
const BAD_NAME: &str = "\u{fffd}";

impl HeaderSource for BorrowedHeaders {
    fn len(&self) -> usize {
        self.count()
    }

    fn get(&self, index: usize) -> (&str, Option<&[u8]>) {
        // The client library panics on a name that is not UTF-8, and records are anybody's.
        let header = catch_unwind(AssertUnwindSafe(|| self.try_get(index)));
        match header {
            Ok(Some(header)) => (header.key, header.value),
            Ok(None) | Err(_) => (BAD_NAME, None),
        }
    }
}

/// The headers of a record to be sent, kept in the client's own form.
#[derive(Debug, Default)]
pub struct OutHeaders(Option<OwnedHeaders>);

impl OutHeaders {
    /// No headers, with room for `capacity`.
    pub fn new(capacity: usize) -> Self {
        Self((capacity > 0).then(|| OwnedHeaders::new_with_capacity(capacity)))
    }

    /// Appends a header; `None` is a null value.
    pub fn push(&mut self, name: &str, value: Option<&[u8]>) {
        let headers = self.0.take().unwrap_or_default();
        self.0 = Some(headers.insert(Header { key: name, value }));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, Headers::count)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn into_client(self) -> Option<OwnedHeaders> {
        self.0
    }

    pub(super) fn from_client(headers: Option<OwnedHeaders>) -> Self {
        Self(headers)
    }
}

/// A record to be sent. Key and value are copied by the client; the headers are handed over.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The physical name of the topic.
    pub topic: &'a str,
    /// The partition; `None`: chosen from the key as Java's client does, at random without a key.
    pub partition: Option<i32>,
    /// The key; `None` is a null key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch; `None`: now.
    pub timestamp: Option<i64>,
    /// The headers in their order.
    pub headers: OutHeaders,
}
