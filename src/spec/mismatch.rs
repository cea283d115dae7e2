//! What is said where a value is not what its key takes: why, and what would be right.

use std::ops::RangeInclusive;

use super::NodeValue;
use crate::diag::{Code, codes};

/// Why a value is not what a key takes.
pub(super) enum Mismatch {
    Type,
    /// What is wrong, and what would be right.
    Other(&'static Code, String, String),
}

impl Mismatch {
    /// What is said about a unit: `why; what to write`.
    pub(super) fn unit(why: &str, expected: &str) -> Self {
        let (label, help) = match why.split_once("; write ") {
            Some((label, rest)) => (label.to_owned(), format!("write {rest}")),
            None if why.starts_with("write ") => ("cannot be read".to_owned(), why.to_owned()),
            None => (why.to_owned(), format!("write {expected}")),
        };
        Self::Other(&codes::VALUE_UNIT, label, help)
    }
}

/// What a key that is missing may look like.
pub(super) fn example(key: &str) -> String {
    match key {
        "from" | "to" => format!("{key} = \"TOPIC\""),
        "base_url" | "url" => format!("{key} = \"https://…\""),
        "password" => "password = \"{{ env.NAME }}\"".to_owned(),
        "ttl" => "ttl = \"5m\"".to_owned(),
        "max_bytes" => "max_bytes = \"16MiB\"".to_owned(),
        "each" => "each = \"value.…\"".to_owned(),
        "concurrency" => "concurrency = 1".to_owned(),
        "queue" | "enqueue" => format!("{key} = \"NAME\""),
        "steps" => "[[….steps]]".to_owned(),
        _ => format!("{key} = \"…\""),
    }
}

/// How a value becomes what is expected.
pub(super) fn type_help(value: &NodeValue, expected: &str) -> String {
    let bare = match value {
        NodeValue::String(text) => match expected {
            "an integer" => text.trim().parse::<i64>().is_ok(),
            "a number" => text.trim().parse::<f64>().is_ok(),
            "a boolean" => matches!(text.as_str(), "true" | "false"),
            _ => false,
        },
        _ => false,
    };
    match value {
        NodeValue::String(text) if bare => format!("write it without quotes: {}", text.trim()),
        NodeValue::Integer(number) if expected.starts_with("a duration") => {
            format!("write the unit, in quotes: \"{number}s\"")
        }
        NodeValue::Integer(number) if expected.starts_with("a size") => {
            format!("write the unit, in quotes: \"{number}B\"")
        }
        NodeValue::Integer(_) | NodeValue::Float(_) | NodeValue::Boolean(_)
            if expected.starts_with("a string") =>
        {
            "write it in quotes".to_owned()
        }
        _ if expected == "an array of tables" => {
            "write a header in double brackets for each: [[….…]]".to_owned()
        }
        _ => format!("write {expected}"),
    }
}

pub(super) fn bounds_text(bounds: &RangeInclusive<i64>) -> String {
    match (*bounds.start(), *bounds.end()) {
        (low, i64::MAX) => format!("must be at least {low}"),
        (low, high) => format!("must be from {low} to {high}"),
    }
}
