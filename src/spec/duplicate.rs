//! Where a key that is written twice stands first: in the same table, not anywhere under that name.

use super::node::{Entry, Node, NodeValue, Table};
use crate::diag::Span;

/// The place where the key at `again` was written first; `None` where it cannot be told.
pub(super) fn first_place(document: &Table, text: &str, again: Span) -> Option<Span> {
    let name = unquoted(text.get(again.range())?);
    let at = again.start as usize;
    let line = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let before = text.get(line..at)?;
    if let Some(names) = header(before) {
        let mut names = prefix(names);
        names.push(name);
        return first_header(text, &names, again);
    }
    let found = if let Some(inside) = inline(document, again) {
        let from = (inside.span.start as usize).max(line);
        let names = text.get(from..at)?.rsplit(['{', ',']).next().unwrap_or_default();
        below(inside, &prefix(names))?.get(&name)
    } else {
        let mut around = (0, document);
        last_header(document, text, again.start, &mut around);
        below(around.1, &prefix(before))?.get(&name)
    };
    found.map(|entry| entry.key_span).filter(|span| span.start < again.start)
}

/// What stands in a line behind the bracket of a table's header.
fn header(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix('[').filter(|rest| !rest.starts_with('['))
}

/// The first header of those names; the tree holds only the last one.
fn first_header(text: &str, names: &[String], again: Span) -> Option<Span> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let inside = header(line).and_then(|rest| Some((line.len() - rest.len(), rest.split_once(']')?.0)));
        if let Some((behind, inside)) = inside.filter(|(_, inside)| prefix(inside) == names) {
            let start = at + behind;
            let span = Span::new(again.file, start..start + inside.trim_end().len());
            return (span.end <= again.start).then_some(span);
        }
        at += line.len();
    }
    None
}

/// The names in front of a dotted key: `a.b.` of `a.b.c`.
fn prefix(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => rest[1..].find(quote).map_or(rest.len(), |end| end + 2),
            _ => rest.find('.').unwrap_or(rest.len()),
        };
        names.push(unquoted(rest[..end].trim()));
        rest = rest[end..].trim_start().trim_start_matches('.').trim_start();
    }
    names
}

fn unquoted(text: &str) -> String {
    text.trim_matches(['"', '\'']).to_owned()
}

/// The table that `names` lead to; of an array of tables the last one, as TOML has it.
fn below<'t>(table: &'t Table, names: &[String]) -> Option<&'t Table> {
    names.iter().try_fold(table, |table, name| match &table.get(name)?.node.value {
        NodeValue::Table(inner) => Some(inner),
        NodeValue::Array(items) => items.last()?.as_table(),
        _ => None,
    })
}

/// The innermost inline table around a place.
fn inline(table: &Table, place: Span) -> Option<&Table> {
    let around = |node: &Node| node.span.start <= place.start && place.end <= node.span.end;
    tables(table).find_map(|(node, inner)| {
        inline(inner, place).or_else(|| (around(node) && inner.span.end > place.end).then_some(inner))
    })
}

/// The table whose header stands last before a place.
fn last_header<'t>(table: &'t Table, text: &str, before: u32, found: &mut (u32, &'t Table)) {
    for (node, inner) in tables(table) {
        let span = node.span;
        let header = text.get(span.range()).is_some_and(|text| text.starts_with('['));
        if header && span.start < before && span.start >= found.0 {
            *found = (span.start, inner);
        }
        last_header(inner, text, before, found);
    }
}

/// The tables right below one, those of arrays too.
fn tables(table: &Table) -> impl Iterator<Item = (&Node, &Table)> {
    let nodes = table.entries.iter().flat_map(|Entry { node, .. }| match &node.value {
        NodeValue::Array(items) => items.iter().collect(),
        _ => vec![node],
    });
    nodes.filter_map(|node| Some((node, node.as_table()?)))
}

#[cfg(test)]
mod tests {
    use crate::diag::{Diagnostics, FileId, SourceMap};
    use crate::spec::parse;

    /// The line where the first duplicate key of `text` was written first.
    fn first_line(text: &str) -> Option<usize> {
        let diagnostics = Diagnostics::default();
        parse(text, FileId(0), &diagnostics);
        let mut sources = SourceMap::default();
        sources.add("t.toml", text);
        let findings = diagnostics.into_sorted(&sources);
        let twice = findings.iter().find(|finding| finding.code.name == "toml::duplicate-key")?;
        let first = twice.related.first()?;
        Some(sources.position(FileId(0), first.span.start).line)
    }

    #[test]
    fn the_first_place_is_in_the_same_table_and_not_under_the_same_name_elsewhere() {
        assert_eq!(first_line("a = 1\na = 2\n"), Some(1));
        assert_eq!(first_line("[t]\na = 1\n[u]\nb = 1\na = 2\n[v]\na = 1\n[w]\nb = 1\nb = 2\n"), Some(9));
        assert_eq!(first_line("[t.x]\na = 1\n[u]\na = 1\n[t.x]\nb = 1\n"), Some(1));
        assert_eq!(first_line("[t]\nx.a = 1\ny.a = 1\nx.a = 2\n"), Some(2));
        assert_eq!(first_line("[[s]]\na = 1\n[[s]]\nb = 1\na = 1\nb = 2\n"), Some(4));
        assert_eq!(first_line("[t]\na = 1\nb = { c = 1, a = 1, c = 2 }\n"), Some(3));
    }
}
