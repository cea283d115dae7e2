//! One Kafka message as the engine sees it, and the ways between bytes and values.
//!
//! [`RawRecord`] borrows a message's bytes wherever they lie (the client's buffer or an
//! [`OwnedRecord`]); [`Item`] is that record as steps see it: decoded lazily, changed in place,
//! with the results of earlier steps. Bytes that nothing changed pass through untouched.

mod codec;
mod item;
mod job;
mod raw;

pub use codec::{BytesCodec, Codec, JsonCodec, TextCodec};
pub use item::{HeaderChange, Item, Value, weight};
pub use job::{JOB_FIELDS, JobFacts, WINDOW_FIELDS};
pub use raw::{HeaderSource, OwnedRecord, RawRecord};
