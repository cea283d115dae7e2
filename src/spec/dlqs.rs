//! `[dlqs.NAME]`: where records go whose policy is exhausted.

use super::{DlqHeaders, Spanned, TableReader, TopicSpec};

/// A DLQ as written.
#[derive(Debug, Clone)]
pub struct DlqSpec {
    /// Its topic; `topic` is the physical name.
    pub topic: TopicSpec,
    /// Whose header names are written beside the engine's own.
    pub headers: Vec<Spanned<DlqHeaders>>,
}

const HEADERS: [(&str, DlqHeaders); 4] = [
    ("biplane", DlqHeaders::Biplane),
    ("connect", DlqHeaders::Connect),
    ("streams", DlqHeaders::Streams),
    ("spring", DlqHeaders::Spring),
];

impl DlqSpec {
    /// Reads a whole `[dlqs.NAME]`.
    pub fn read(mut table: TableReader<'_>) -> Self {
        let topic = TopicSpec::read_fields(&mut table);
        let headers = table.words("headers", &HEADERS).unwrap_or_default();
        table.finish();
        Self { topic, headers }
    }
}
