//! The names right below `env`, `steps`, `error`, `job` and `window` that a text looks at, each with its place.

use std::ops::Range;

use super::Root;

/// One such name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// `env`, `steps`, `error`, `job` or `window`.
    pub root: Root,
    /// The name.
    pub name: String,
    /// Where it first stands: root and name, as bytes of the source.
    pub range: Range<usize>,
}

impl Named {
    pub(super) fn shifted(&self, offset: usize) -> Self {
        Self { range: self.range.start + offset..self.range.end + offset, ..self.clone() }
    }
}

/// How one of `known` is written that a reader of `name` most likely meant: behind a dot the name ends at
/// its first dot or hyphen, so `crm-url` and `crm.url` need brackets.
pub fn bracketed<'a>(root: Root, name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let longer = |known: &&str| known.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', '-']));
    known.into_iter().find(longer).map(|known| format!("{}['{known}']", root.as_str()))
}

/// The bytes of `root.name` or `root['name']` in `source`, given where the root stands.
pub(super) fn range_of(source: &str, start: usize, root: Root, name: &str) -> Range<usize> {
    let behind = (start + root.as_str().len()).min(source.len());
    let Some(at) = source.get(behind..).and_then(|rest| rest.find(name)) else { return start..behind };
    let end = behind + at + name.len();
    let rest = source.get(end..).unwrap_or_default();
    let closed = rest.starts_with("']") || rest.starts_with("\"]");
    start..if closed { end + 2 } else { end }
}
