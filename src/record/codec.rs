//! Bytes to values and back, behind one trait; registry formats join here.

use serde_json::Value as Json;

use crate::base::Failure;

/// How a topic's bytes are read and written.
pub trait Codec: Send + Sync + std::fmt::Debug {
    /// The name used in TOML.
    fn name(&self) -> &'static str;

    /// Reads a value that is not a tombstone.
    ///
    /// # Errors
    /// A [`crate::base::Class::Poison`] failure that says where the bytes stop making sense.
    fn decode(&self, bytes: &[u8]) -> Result<Json, Failure>;

    /// Appends the bytes of `value` to `out`.
    ///
    /// # Errors
    /// A [`crate::base::Class::Permanent`] failure where the format cannot hold the value.
    fn encode(&self, value: &Json, out: &mut Vec<u8>) -> Result<(), Failure>;
}

/// UTF-8 JSON; the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonCodec;

/// UTF-8 text as one string.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextCodec;

/// Any bytes, as one string of standard Base64.
#[derive(Debug, Clone, Copy, Default)]
pub struct BytesCodec;
