//! Findings for people, the way rustc shows them. Control characters of a file never reach the terminal.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};

use super::source::clip;
use super::{Diagnostic, Label, Severity, SourceMap};

/// Whether the text carries colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Letters only.
    Plain,
    /// ANSI colours.
    Coloured,
}

/// One finding as several lines, without a newline at the end.
pub fn render(finding: &Diagnostic, sources: &SourceMap, style: Style) -> String {
    let level = match finding.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(printable(&finding.message)).id(finding.code.name);
    let mut groups = vec![Group::with_title(title).elements(snippets(finding, sources))];
    groups.extend(
        finding.help.iter().map(|line| Group::with_title(Level::HELP.secondary_title(printable(line)))),
    );
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let text = renderer.decor_style(DecorStyle::Ascii).render(&groups);
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// One snippet a file; the primary's file comes first.
fn snippets<'a>(
    finding: &'a Diagnostic,
    sources: &'a SourceMap,
) -> Vec<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let primary = finding.primary.iter().map(|label| (AnnotationKind::Primary, label));
    let related = finding.related.iter().map(|label| (AnnotationKind::Context, label));
    let mut by_file: Vec<(_, Vec<(AnnotationKind, &Label)>)> = Vec::new();
    for (kind, label) in primary.chain(related) {
        match by_file.iter_mut().find(|(file, _)| *file == label.span.file) {
            Some((_, labels)) => labels.push((kind, label)),
            None => by_file.push((label.span.file, vec![(kind, label)])),
        }
    }
    by_file
        .into_iter()
        .filter_map(|(file, labels)| {
            let source = sources.file(file)?;
            let annotations = labels.into_iter().map(|(kind, label)| {
                let span = kind.span(shown(&source.text, label));
                if label.text.is_empty() { span } else { span.label(printable(&label.text)) }
            });
            Some(Snippet::source(&*source.text).path(&*source.path).annotations(annotations))
        })
        .collect()
}

/// A span over several lines is shown by its first line only: the rest says nothing more.
fn shown(text: &str, label: &Label) -> std::ops::Range<usize> {
    let range = clip(text, label.span.range());
    let first = text[range.clone()].find('\n').map_or(range.end, |at| range.start + at);
    range.start..first.max(range.start)
}

pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Span, codes};

    #[test]
    fn a_finding_shows_its_place_its_label_and_its_help() {
        let mut sources = SourceMap::default();
        let text = "[stages.normalize]\nfrom        = \"raw.conector.events\"\n";
        let file = sources.add("pipelines/ingest.toml", text);
        let at = text.find('"').unwrap();
        let finding = Diagnostic::new(
            &codes::TOPIC_UNDEFINED,
            "stage `normalize` reads undefined topic `raw.conector.events`",
        )
        .at(Span::new(file, at..at + 21), "no such topic")
        .help("a topic with a similar name exists: `raw.connector.events`");
        insta::assert_snapshot!(render(&finding, &sources, Style::Plain), @r#"
        error[topic::undefined]: stage `normalize` reads undefined topic `raw.conector.events`
         --> pipelines/ingest.toml:2:15
          |
        2 | from        = "raw.conector.events"
          |               ^^^^^^^^^^^^^^^^^^^^^ no such topic
          |
        help: a topic with a similar name exists: `raw.connector.events`
        "#);
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        let mut sources = SourceMap::default();
        let file = sources.add("a.toml", "x = \"\u{1b}[31m\"\n");
        let finding = Diagnostic::new(&codes::TOML_SYNTAX, "\u{1b}[2J").at(Span::new(file, 4..9), "\u{7}");
        assert!(!render(&finding, &sources, Style::Plain).contains(['\u{1b}', '\u{7}']));
    }
}
