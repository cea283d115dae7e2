//! `[topics.NAME]`: a topic and what it is like on the broker.

use std::time::Duration;

use super::{About, Compression, NodeValue, Spanned, TableReader};
use crate::base::{ByteSize, format_duration, parse_duration};
use crate::diag::Span;

/// How long records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// At least this long.
    For(Duration),
    /// For ever.
    Unlimited,
}

/// A topic as written.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    /// The place of the table.
    pub span: Span,
    /// What people read.
    pub about: About,
    /// The name it had before.
    pub was: Option<Spanned<String>>,
    /// Its name on the broker, where that differs.
    pub topic: Option<Spanned<String>>,
    /// How many partitions.
    pub partitions: Option<Spanned<i64>>,
    /// How many replicas.
    pub replication: Option<Spanned<i64>>,
    /// How long records are kept.
    pub retention: Option<Spanned<Retention>>,
    /// The broker's `cleanup.policy`.
    pub cleanup: Option<Spanned<&'static str>>,
    /// The largest record.
    pub max_message_bytes: Option<Spanned<ByteSize>>,
    /// How producers compress.
    pub compression: Option<Spanned<Compression>>,
    /// How long producers wait for company for a record.
    pub linger: Option<Spanned<Duration>>,
    /// The schema file under `schemas/`.
    pub schema: Option<Spanned<String>>,
    /// Further settings of the broker, by their own names.
    pub settings: Vec<(Spanned<String>, String)>,
    /// Whether it is another system's.
    pub external: Option<Spanned<bool>>,
}

/// The longest `linger`.
const MAX_LINGER: Duration = Duration::from_secs(10);

const COMPRESSIONS: [(&str, Compression); 5] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

const CLEANUPS: [(&str, &str); 3] =
    [("delete", "delete"), ("compact", "compact"), ("compact,delete", "compact,delete")];

impl TopicSpec {
    /// Reads the table, all but unknown keys.
    pub(super) fn read_fields(table: &mut TableReader<'_>) -> Self {
        Self {
            span: table.span(),
            was: table.own_name("was"),
            about: About::read(table),
            topic: table.string("topic"),
            partitions: table.integer("partitions", 1..=100_000),
            replication: table.integer("replication", 1..=100),
            retention: table.parsed(
                "retention",
                "a duration such as \"7d\", or \"unlimited\"",
                Retention::Unlimited,
                read_retention,
            ),
            cleanup: table.word("cleanup", &CLEANUPS),
            max_message_bytes: table.size("max_message_bytes"),
            compression: table.word("compression", &COMPRESSIONS),
            linger: table.parsed(
                "linger",
                "a duration such as \"20ms\"",
                Duration::from_millis(5),
                read_linger,
            ),
            schema: None,
            settings: read_settings(table),
            external: None,
        }
    }

    /// Reads a whole `[topics.NAME]`.
    pub fn read(mut table: TableReader<'_>) -> Self {
        let mut spec = Self::read_fields(&mut table);
        spec.schema = table.name("schema");
        spec.external = table.boolean("external");
        table.finish();
        spec
    }
}

fn read_retention(text: &str) -> Result<Retention, String> {
    match text {
        "unlimited" => Ok(Retention::Unlimited),
        _ => parse_duration(text).map(Retention::For).map_err(|error| error.0),
    }
}

/// A record that waits is in flight, so the wait is short; none at all sends each at once.
fn read_linger(text: &str) -> Result<Duration, String> {
    let linger = parse_duration(text).map_err(|error| error.0)?;
    if linger > MAX_LINGER {
        return Err(format!("must be at most {}", format_duration(MAX_LINGER)));
    }
    Ok(linger)
}

/// `settings."min.insync.replicas" = 2`: words of the broker, so any scalar goes.
fn read_settings(table: &mut TableReader<'_>) -> Vec<(Spanned<String>, String)> {
    let Some(mut inner) = table.table("settings") else { return Vec::new() };
    let mut settings = Vec::new();
    for entry in inner.rest() {
        let value = match &entry.node.value {
            NodeValue::String(_) => inner.string(&entry.key).map(|text| text.value),
            NodeValue::Integer(_) | NodeValue::Float(_) | NodeValue::Boolean(_) => {
                Some(entry.node.to_json().to_string())
            }
            _ => {
                let expected = "a string, a number or a boolean; quote names with dots";
                inner.wrong_type(&entry.key, &entry.node, expected);
                None
            }
        };
        let own = inner.is_own(&entry.key);
        let key = Spanned { own, ..Spanned::new(entry.key.clone(), entry.key_span) };
        settings.extend(value.map(|value| (key, value)));
    }
    settings
}
