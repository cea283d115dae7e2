//! `dedupe` of a stage: which records are equal, and for how long.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Spanned, TableReader};
use crate::diag::Span;

/// `dedupe` as written.
#[derive(Debug, Clone)]
pub struct DedupeSpec {
    /// The place of the table.
    pub span: Span,
    /// What tells equal records: an expression.
    pub key: Option<Spanned<String>>,
    /// How far the timestamps of equal records may be apart.
    pub window: Option<Spanned<Duration>>,
    /// How many keys are remembered.
    pub max_keys: Option<Spanned<i64>>,
    /// Whether they are remembered in memory alone.
    pub memory: Option<Spanned<bool>>,
}

const KEYS: RangeInclusive<i64> = 1..=100_000_000;

/// `dedupe`; `None` where it is not written.
pub(super) fn read_dedupe(table: &mut TableReader<'_>) -> Option<DedupeSpec> {
    let mut dedupe = table.table("dedupe")?;
    let spec = DedupeSpec {
        span: dedupe.span(),
        key: dedupe.required("key", TableReader::text),
        window: dedupe.required("window", TableReader::duration),
        max_keys: dedupe.integer("max_keys", KEYS),
        memory: dedupe.boolean("memory"),
    };
    dedupe.finish();
    Some(spec)
}
