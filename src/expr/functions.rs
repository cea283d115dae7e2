//! The filters, tests and functions that expressions may use, and those of the trade themselves.
//!
//! Each is documented in `docs/expressions.md`. None does IO; regular expressions are bounded in size
//! and kept compiled.

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use hmac::{Hmac, KeyInit, Mac};
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use parking_lot::Mutex;
use regex::{Regex, RegexBuilder};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use uuid::Uuid;

use super::convert::{MAX_OUTPUT, to_json, to_value};

/// All filters by name.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "base64_decode",
    "base64_encode",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "fold",
    "format",
    "format_time",
    "from_json",
    "groupby",
    "hmac_sha256",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "md5",
    "min",
    "parse_time",
    "pprint",
    "regex_find",
    "regex_find_all",
    "regex_match",
    "regex_replace",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "sha256",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "to_json",
    "to_timestamp",
    "tojson",
    "trim",
    "unique",
    "upper",
    "urlencode",
    "uuid5",
    "zip",
];

/// All tests by name.
pub(super) const TESTS: &[&str] = &[
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "safe",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// All functions by name.
pub(super) const FUNCTIONS: &[&str] = &["dict", "namespace", "now", "range", "uuid7"];

/// The largest compiled regular expression.
const REGEX_BYTES: usize = 1024 * 1024;
/// How many compiled regular expressions are kept for patterns that are not the same each time.
const REGEX_KEPT: usize = 256;

/// Adds the filters and functions of the trade.
pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_filter("sha256", |text: &str| hex(&Sha256::digest(text.as_bytes())));
    environment.add_filter("md5", |text: &str| hex(&md5::Md5::digest(text.as_bytes())));
    environment.add_filter("hmac_sha256", hmac_sha256);
    environment.add_filter("uuid5", uuid5);
    environment.add_filter("parse_time", parse_time);
    environment.add_filter("format_time", format_time);
    environment.add_filter("to_timestamp", to_timestamp);
    environment.add_filter("regex_match", |text: &str, pattern: &str| {
        regex(pattern).map(|regex| regex.is_match(text))
    });
    environment.add_filter("regex_find", regex_find);
    environment.add_filter("regex_find_all", regex_find_all);
    environment.add_filter("regex_replace", regex_replace);
    environment.add_filter("from_json", from_json);
    environment.add_filter("to_json", |value: &Value| json(value).map(|json| json.to_string()));
    environment.add_filter("base64_encode", |text: &str| STANDARD.encode(text));
    environment.add_filter("base64_decode", base64_decode);
    environment.add_filter("fold", |text: &str| {
        text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect::<String>()
    });
    environment.add_function("now", || rfc3339(Utc::now()));
    environment.add_function("uuid7", || Uuid::now_v7().to_string());
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn json(value: &Value) -> Result<serde_json::Value, Error> {
    to_json(value).map_err(|failure| invalid(failure.message))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

fn hmac_sha256(text: &str, key: &str) -> Result<String, Error> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|error| invalid(error.to_string()))?;
    mac.update(text.as_bytes());
    Ok(hex(&mac.finalize().into_bytes()))
}

/// The version 5 UUID of the text in a namespace: `dns`, `url`, `oid` or a UUID.
fn uuid5(text: &str, namespace: &str) -> Result<String, Error> {
    let namespace =
        self::namespace(namespace).ok_or_else(|| invalid("a namespace is dns, url, oid or a UUID"))?;
    Ok(Uuid::new_v5(&namespace, text.as_bytes()).to_string())
}

pub(super) fn namespace(text: &str) -> Option<Uuid> {
    match text {
        "dns" => Some(Uuid::NAMESPACE_DNS),
        "url" => Some(Uuid::NAMESPACE_URL),
        "oid" => Some(Uuid::NAMESPACE_OID),
        other => Uuid::parse_str(other).ok(),
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A time from RFC 3339, RFC 2822, a date, or seconds or milliseconds since the epoch.
fn time_of(value: &Value) -> Result<DateTime<Utc>, Error> {
    if let Some(text) = value.as_str() {
        let text = text.trim();
        let local = |format| NaiveDateTime::parse_from_str(text, format).ok().map(|time| time.and_utc());
        return DateTime::parse_from_rfc3339(text)
            .or_else(|_| DateTime::parse_from_rfc2822(text))
            .map(|time| time.to_utc())
            .ok()
            .or_else(|| local("%Y-%m-%dT%H:%M:%S%.f"))
            .or_else(|| local("%Y-%m-%d %H:%M:%S%.f"))
            .or_else(|| {
                NaiveDate::parse_from_str(text, "%Y-%m-%d")
                    .ok()?
                    .and_hms_opt(0, 0, 0)
                    .map(|time| time.and_utc())
            })
            .ok_or_else(|| invalid(format!("`{}` is no time", shorten(text))));
    }
    let number = f64::try_from(value.clone()).map_err(|_| invalid("a time is a text or a number"))?;
    // A number of seconds stays below this until the year 5138.
    let milliseconds = if number.abs() < 1e11 { number * 1_000.0 } else { number };
    DateTime::from_timestamp_millis(milliseconds.round() as i64)
        .ok_or_else(|| invalid(format!("{number} is out of the range of times")))
}

fn parse_time(value: &Value, format: Option<&str>) -> Result<String, Error> {
    let (Some(format), Some(text)) = (format, value.as_str()) else {
        return time_of(value).map(rfc3339);
    };
    let unfit = || invalid(format!("`{}` does not have the form `{format}`", shorten(text)));
    DateTime::parse_from_str(text, format)
        .map(|time| time.to_utc())
        .or_else(|_| NaiveDateTime::parse_from_str(text, format).map(|time| time.and_utc()))
        .or_else(|_| {
            NaiveDate::parse_from_str(text, format)
                .map(|date| date.and_time(chrono::NaiveTime::MIN).and_utc())
        })
        .map(rfc3339)
        .map_err(|_| unfit())
}

fn format_time(value: &Value, format: &str, options: Kwargs) -> Result<String, Error> {
    use std::fmt::Write as _;
    let zone: Option<&str> = options.get("timezone")?;
    options.assert_all_used()?;
    let time = time_of(value)?;
    let mut text = String::new();
    let written = match zone {
        None => write!(text, "{}", time.format(format)),
        Some(zone) => {
            let zone: chrono_tz::Tz =
                zone.parse().map_err(|_| invalid(format!("there is no time zone `{zone}`")))?;
            write!(text, "{}", time.with_timezone(&zone).format(format))
        }
    };
    written.map_err(|_| invalid(format!("`{format}` is no form of a time")))?;
    Ok(text)
}

/// Milliseconds since the Unix epoch.
fn to_timestamp(value: &Value) -> Result<i64, Error> {
    time_of(value).map(|time| time.timestamp_millis())
}

fn from_json(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text)
        .map(|json| to_value(&json))
        .map_err(|error| invalid(format!("no JSON: {error}")))
}

fn base64_decode(text: &str) -> Result<String, Error> {
    let text = text.trim();
    let bytes = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
        .ok_or_else(|| invalid("the text is no Base64"))?;
    String::from_utf8(bytes).map_err(|_| invalid("the decoded bytes are not UTF-8 text"))
}

/// The first match: the whole, or the group where the pattern has one; null where nothing matches.
fn regex_find(text: &str, pattern: &str) -> Result<Value, Error> {
    Ok(regex(pattern)?.captures(text).map_or(Value::from(()), |found| captured(&found)))
}

fn regex_find_all(text: &str, pattern: &str) -> Result<Value, Error> {
    Ok(Value::from(regex(pattern)?.captures_iter(text).map(|found| captured(&found)).collect::<Vec<_>>()))
}

/// The whole match without groups, the group where there is one, a list of them where there are more.
fn captured(found: &regex::Captures<'_>) -> Value {
    let group =
        |index| found.get(index).map_or(Value::from(()), |group: regex::Match<'_>| group.as_str().into());
    match found.len() {
        1 => group(0),
        2 => group(1),
        groups => Value::from((1..groups).map(group).collect::<Vec<_>>()),
    }
}

/// Replaces all matches and stops where the result grows too large.
fn regex_replace(text: &str, pattern: &str, with: &str) -> Result<String, Error> {
    let mut replaced = String::with_capacity(text.len());
    let references = with.matches('$').count();
    let mut rest = 0;
    for found in regex(pattern)?.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        replaced.push_str(&text[rest..whole.start()]);
        // The most that the replacement can grow to, before it does.
        let most = with.len().saturating_add(references.saturating_mul(whole.len()));
        if replaced.len().saturating_add(most) > 4 * MAX_OUTPUT {
            return Err(invalid("the replaced text is too large"));
        }
        found.expand(with, &mut replaced);
        rest = whole.end();
    }
    replaced.push_str(&text[rest..]);
    Ok(replaced)
}

/// A compiled pattern; the last few hundred are kept.
pub(super) fn regex(pattern: &str) -> Result<Regex, Error> {
    static KEPT: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    if let Some(known) = KEPT.lock().get(pattern) {
        return Ok(known.clone());
    }
    let compiled = RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .build()
        .map_err(|error| invalid(format!("the pattern `{}` is wrong: {error}", shorten(pattern))))?;
    let mut kept = KEPT.lock();
    if kept.len() >= REGEX_KEPT {
        kept.clear();
    }
    kept.insert(pattern.to_owned(), compiled.clone());
    Ok(compiled)
}

fn shorten(text: &str) -> String {
    if text.chars().count() > 60 { text.chars().take(60).chain(['…']).collect() } else { text.to_owned() }
}
