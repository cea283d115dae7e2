//! A span as machines name it: path, first position, position behind the last character.

use super::{Position, SourceMap, Span};

/// The path relative to the config root, where the span begins and where it ends (exclusive).
pub(super) fn of(span: Span, sources: &SourceMap) -> (&str, Position, Position) {
    let Span { file, start, end } = span;
    (sources.path(file), sources.position(file, start), sources.position(file, end))
}
