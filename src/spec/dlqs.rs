//! `[dlqs.NAME]`: where records go whose policy is exhausted.

use super::{DlqHeaders, Spanned, TableReader, TopicSpec};
use crate::diag::{Diagnostic, codes, nearest, words};

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
        let names = table.texts("headers").unwrap_or_default();
        let headers = names.into_iter().filter_map(|name| header(&table, name)).collect();
        table.finish();
        Self { topic, headers }
    }
}

fn header(table: &TableReader<'_>, name: Spanned<String>) -> Option<Spanned<DlqHeaders>> {
    if let Some((_, meaning)) = HEADERS.iter().find(|(word, _)| *word == name.value) {
        return Some(name.map(|_| *meaning));
    }
    let all = || HEADERS.iter().map(|(word, _)| *word);
    let message = format!("`headers` of {} cannot hold `{}`", table.what, name.value);
    let near = nearest(&name.value, all()).map(|word| format!("did you mean `{word}`? "));
    table.report(Diagnostic::new(&codes::VALUE_WORD, message).at(name.span, "no such word").help(format!(
        "{}known are {}",
        near.unwrap_or_default(),
        words(all())
    )));
    None
}
