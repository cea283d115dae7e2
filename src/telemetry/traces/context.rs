//! W3C trace context: how it is read from headers and written into them.
//!
//! Stricter than the SDK's own reader, which takes ids that are too short. What is not valid is no
//! context, never an error: a record is not worse for a header that another program got wrong.

use std::str::FromStr;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The header that names trace and parent.
pub const TRACEPARENT: &str = "traceparent";
/// The header in which tracing systems keep what is theirs.
pub const TRACESTATE: &str = "tracestate";

/// `00-` + 32 digits + `-` + 16 digits + `-` + 2 digits.
const LENGTH: usize = 55;

/// A valid context that came with a record.
#[derive(Debug, Clone)]
pub struct TraceContext(pub(super) SpanContext);

impl TraceContext {
    /// Reads the values of both headers; `None` where the first is not valid. A `tracestate` that is not
    /// valid is left out.
    pub fn read(traceparent: &[u8], tracestate: Option<&[u8]>) -> Option<Self> {
        let (trace, span, flags) = parse(traceparent)?;
        let state = tracestate
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .and_then(|text| TraceState::from_str(text).ok())
            .unwrap_or_default();
        let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
        Some(Self(SpanContext::new(trace, span, flags, true, state)))
    }
}

/// Whether `bytes` are a valid `traceparent`.
pub fn is_traceparent(bytes: &[u8]) -> bool {
    parse(bytes).is_some()
}

/// The `traceparent` of a span, and its `tracestate` where that says anything.
pub(super) fn written(context: &SpanContext) -> (String, Option<String>) {
    let flags = (context.trace_flags() & TraceFlags::SAMPLED).to_u8();
    let parent = format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id());
    let state = context.trace_state().header();
    (parent, (!state.is_empty()).then_some(state))
}

fn parse(bytes: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (known, rest) = (text.get(..LENGTH)?, &text[LENGTH..]);
    let version = known.get(..2)?;
    let digits = known.bytes().enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    });
    // A later version may say more behind another hyphen.
    let ends = rest.is_empty() || version != "00" && rest.starts_with('-');
    if !digits || !ends || version == "ff" {
        return None;
    }
    let trace = TraceId::from_hex(&known[3..35]).ok()?;
    let span = SpanId::from_hex(&known[36..52]).ok()?;
    let flags = u8::from_str_radix(&known[53..], 16).ok()?;
    (trace != TraceId::INVALID && span != SpanId::INVALID).then_some((trace, span, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn what_the_recommendation_calls_valid_is_read_and_written_back() {
        let read = |text: &str, state: Option<&str>| {
            TraceContext::read(text.as_bytes(), state.map(str::as_bytes)).map(|context| written(&context.0))
        };
        let plain = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(read(&plain, None), Some((plain.clone(), None)));
        assert_eq!(read(&plain, Some("a=1,b=2")), Some((plain.clone(), Some("a=1,b=2".to_owned()))));
        assert_eq!(
            read(&plain, Some("nonsense")),
            Some((plain.clone(), None)),
            "the state alone is left out"
        );
        // Flags that are not known are not passed on; a later version is read as this one.
        assert_eq!(
            read(&format!("00-{TRACE}-{SPAN}-fe"), None),
            Some((format!("00-{TRACE}-{SPAN}-00"), None))
        );
        assert_eq!(read(&format!("01-{TRACE}-{SPAN}-01-more"), None), Some((plain, None)));
    }

    #[test]
    fn anything_else_is_no_context() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            "nonsense".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("01-{TRACE}-{SPAN}-01more"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{}-{SPAN}-001", &TRACE[1..]),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{}ä-01", &SPAN[2..]),
        ] {
            assert!(!is_traceparent(text.as_bytes()), "{text}");
        }
        assert!(!is_traceparent(&[0xff; LENGTH]));
    }
}
