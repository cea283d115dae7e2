//! From a response or an error to an answer or a failure with class and code.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value as Json;

use super::step::Response;
use crate::base::guard::{self, Guard};
use crate::base::{Class, Failure, causes};

/// The longest wait that another side may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What the other side said, decoded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Json,
}

impl Answer {
    /// An answer that stands for nothing, as `on_status` says.
    pub(super) fn null(status: u16) -> Self {
        Self { status, body: Json::Null }
    }

    /// The bytes that it takes in memory, by the size of its text; decoded JSON is larger.
    pub(super) fn size(&self) -> usize {
        let mut text = Count(0);
        // Neither counting nor writing a value can fail.
        let _ = serde_json::to_writer(&mut text, &self.body);
        4 * text.0 + size_of::<Self>()
    }

    /// Reads the body, at most `max_bytes` of it.
    pub(super) async fn read(
        mut response: reqwest::Response,
        kind: Response,
        max_bytes: usize,
    ) -> Result<Self, Failure> {
        let status = response.status().as_u16();
        let max_bytes = if guard::removed(Guard::BodyCap) { usize::MAX } else { max_bytes };
        if matches!(kind, Response::None) {
            return Ok(Self::null(status));
        }
        let too_large = || {
            Failure::permanent(
                "body-too-large",
                format!("the answer ({status}) is larger than {max_bytes} bytes"),
            )
        };
        if response.content_length().is_some_and(|length| length > max_bytes as u64) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if bytes.len() + chunk.len() > max_bytes {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = decode(&bytes, kind)
            .map_err(|why| Failure::permanent("response-json", format!("the answer ({status}) {why}")))?;
        Ok(Self { status, body })
    }
}

/// The length of what is written.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn decode(bytes: &[u8], kind: Response) -> Result<Json, String> {
    match kind {
        Response::None => Ok(Json::Null),
        Response::Text => {
            String::from_utf8(bytes.to_vec()).map(Json::String).map_err(|_| "is not UTF-8 text".to_owned())
        }
        Response::Json if bytes.trim_ascii().is_empty() => Ok(Json::Null),
        Response::Json => serde_json::from_slice(bytes).map_err(|error| format!("is not JSON: {error}")),
    }
}

/// The failure of a status that is not accepted.
pub(super) fn status_failure(status: u16, headers: &HeaderMap) -> Failure {
    let transient = matches!(status, 408 | 425 | 429 | 500..=599);
    let class = if transient { Class::Transient } else { Class::Permanent };
    let reason = reqwest::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let message = format!("the other side answered {status} {}", reason.unwrap_or_default());
    let wait = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, Utc::now()));
    Failure::new(class, format!("http-{status}"), message.trim_end().to_owned()).retry_after(wait)
}

/// `Retry-After` in seconds or as a date.
fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = DateTime::parse_from_rfc2822(text.trim()).ok()?;
            (date.to_utc() - now).to_std().unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The failure of a request that got no whole answer. Never tells the URL, which may hold a secret.
pub(super) fn transport(error: reqwest::Error) -> Failure {
    let (timeout, builder, decode) = (error.is_timeout(), error.is_builder(), error.is_decode());
    let message = causes(&error.without_url());
    match () {
        () if timeout => Failure::transient("timeout", message),
        () if builder => Failure::permanent("url", message),
        () if decode => Failure::permanent("response-encoding", message),
        () => Failure::transient("connection", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_date_and_capped() {
        let now = DateTime::parse_from_rfc2822("Thu, 01 Jan 2026 00:00:00 GMT").unwrap().to_utc();
        let read = |text| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(read("7"), Some(7));
        assert_eq!(read("Thu, 01 Jan 2026 00:01:00 GMT"), Some(60));
        assert_eq!(read("Wed, 31 Dec 2025 00:00:00 GMT"), Some(0));
        assert_eq!(read("99999999"), Some(86_400));
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn only_what_may_pass_by_itself_is_transient() {
        let class = |status| status_failure(status, &HeaderMap::new()).class;
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(class(status), Class::Transient, "{status}");
        }
        for status in [301, 400, 401, 403, 404, 409, 410, 422] {
            assert_eq!(class(status), Class::Permanent, "{status}");
        }
    }
}
