//! Bytes to values and back, behind one trait; registry formats join here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
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

impl Codec for JsonCodec {
    fn name(&self) -> &'static str {
        "json"
    }

    /// A name that comes twice in an object counts the last time, as in most readers; nesting past
    /// 128 levels is refused.
    fn decode(&self, bytes: &[u8]) -> Result<Json, Failure> {
        serde_json::from_slice(bytes).map_err(|error| Failure::poison("json", format!("not JSON: {error}")))
    }

    fn encode(&self, value: &Json, out: &mut Vec<u8>) -> Result<(), Failure> {
        serde_json::to_writer(out, value).map_err(|error| Failure::permanent("json", error.to_string()))
    }
}

impl Codec for TextCodec {
    fn name(&self) -> &'static str {
        "text"
    }

    fn decode(&self, bytes: &[u8]) -> Result<Json, Failure> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Failure::poison("utf8", format!("not UTF-8 text: {error}")))?;
        Ok(Json::String(text.to_owned()))
    }

    /// A string as it is; any other value as JSON.
    fn encode(&self, value: &Json, out: &mut Vec<u8>) -> Result<(), Failure> {
        match value {
            Json::String(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(())
            }
            other => JsonCodec.encode(other, out),
        }
    }
}

impl Codec for BytesCodec {
    fn name(&self) -> &'static str {
        "bytes"
    }

    fn decode(&self, bytes: &[u8]) -> Result<Json, Failure> {
        Ok(Json::String(BASE64.encode(bytes)))
    }

    fn encode(&self, value: &Json, out: &mut Vec<u8>) -> Result<(), Failure> {
        let refused =
            |why: &str| Failure::permanent("bytes", format!("the value is no Base64 string: {why}"));
        let text = value.as_str().ok_or_else(|| refused("not a string"))?;
        let bytes = BASE64.decode(text).map_err(|error| refused(&error.to_string()))?;
        out.extend_from_slice(&bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Class;

    fn poisoned(codec: &dyn Codec, bytes: &[u8]) -> String {
        let failure = codec.decode(bytes).unwrap_err();
        assert_eq!(failure.class, Class::Poison);
        failure.code.into_owned()
    }

    #[test]
    fn what_is_no_json_is_poison_and_says_where() {
        for bytes in [&b""[..], b"{", b"\xff\xfe", b"nul", b"{\"a\":1}x", b"\"\x00\""] {
            assert_eq!(poisoned(&JsonCodec, bytes), "json");
        }
        assert_eq!(poisoned(&JsonCodec, "[".repeat(100_000).as_bytes()), "json");
        assert!(JsonCodec.decode(b"{\"a\" 1}").unwrap_err().message.contains("line 1 column"));
    }

    #[test]
    fn text_and_bytes_round_trip() {
        let mut out = Vec::new();
        TextCodec.encode(&TextCodec.decode("grüß".as_bytes()).unwrap(), &mut out).unwrap();
        assert_eq!(out, "grüß".as_bytes());
        assert_eq!(poisoned(&TextCodec, b"\xff"), "utf8");
        out.clear();
        BytesCodec.encode(&BytesCodec.decode(b"\x00\xff").unwrap(), &mut out).unwrap();
        assert_eq!(out, b"\x00\xff");
        assert_eq!(BytesCodec.encode(&Json::from(1), &mut out).unwrap_err().class, Class::Permanent);
    }
}
