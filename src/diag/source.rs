//! The files of a config root as text, and places in them. Holds text in memory only; no IO.

use std::ops::Range;
use std::sync::Arc;

/// Which file of a [`SourceMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FileId(pub u32);

/// A range of bytes in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// The first byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes `range` of `file`; past 4 GiB it is clipped.
    pub fn new(file: FileId, range: Range<usize>) -> Self {
        let clip = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { file, start: clip(range.start), end: clip(range.end) }
    }

    /// The bytes as a range.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A line and a column, both counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One file: its path relative to the config root, with `/`, and its text.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// The path as it is shown.
    pub path: Arc<str>,
    /// The text.
    pub text: Arc<str>,
}

/// The files that spans point into.
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    files: Vec<SourceFile>,
}

impl SourceMap {
    /// Adds a file and says how it is named from now on.
    pub fn add(&mut self, path: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(SourceFile { path: path.into(), text: text.into() });
        id
    }

    /// The file, if it is of this map.
    pub fn file(&self, id: FileId) -> Option<&SourceFile> {
        self.files.get(id.0 as usize)
    }

    /// The path of a file; empty if it is not of this map.
    pub fn path(&self, id: FileId) -> &str {
        self.file(id).map_or("", |file| &file.path)
    }

    /// The text that a span covers, clipped to whole characters of the file.
    pub fn text(&self, span: Span) -> &str {
        self.file(span.file).map_or("", |file| &file.text[clip(&file.text, span.range())])
    }

    /// Where the byte `offset` of a file stands.
    pub fn position(&self, id: FileId, offset: u32) -> Position {
        let Some(file) = self.file(id) else { return Position { line: 1, column: 1 } };
        let before = &file.text[..clip(&file.text, 0..offset as usize).end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Position {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// `range` moved inside `text` and onto character boundaries.
pub(super) fn clip(text: &str, range: Range<usize>) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(range.start);
    start..floor(range.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        let mut map = SourceMap::default();
        let id = map.add("a.toml", "x = \"ä\"\ny = 1\n");
        assert_eq!(map.position(id, 0), Position { line: 1, column: 1 });
        assert_eq!(map.position(id, 7), Position { line: 1, column: 7 });
        assert_eq!(map.position(id, 9), Position { line: 2, column: 1 });
        assert_eq!(map.text(Span::new(id, 5..6)), "", "half a character is none");
        assert_eq!(map.position(id, 900).line, 3);
    }
}
