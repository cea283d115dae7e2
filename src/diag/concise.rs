//! Findings one a line, for editors and for `grep`.

use super::text::printable;
use super::{Diagnostic, SourceMap};

/// `file:line:column: severity[code]: message`; without a place it begins with the severity.
pub fn concise(finding: &Diagnostic, sources: &SourceMap) -> String {
    let place = finding.primary.as_ref().map_or_else(String::new, |label| {
        let at = sources.position(label.span.file, label.span.start);
        format!("{}:{}:{}: ", printable(sources.path(label.span.file)), at.line, at.column)
    });
    let (severity, code) = (finding.severity().as_str(), finding.code.name);
    format!("{place}{severity}[{code}]: {}", printable(&finding.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{FileId, Span, codes};

    #[test]
    fn a_finding_is_one_line_whatever_it_says() {
        let mut sources = SourceMap::default();
        let file = sources.add("pipelines/a.toml", "\n  x = 1\n");
        let finding = Diagnostic::new(&codes::KEY_UNKNOWN, "no key\n`x`").at(Span::new(file, 3..4), "");
        assert_eq!(
            concise(&finding, &sources),
            "pipelines/a.toml:2:3: error[key::unknown]: no key\u{fffd}`x`"
        );
        let finding = Diagnostic::new(&codes::ROOT_NO_PIPELINES, "nothing here");
        assert_eq!(concise(&finding, &sources), "error[root::no-pipelines]: nothing here");
        let elsewhere = Diagnostic::new(&codes::KEY_UNKNOWN, "m").at(Span::new(FileId(9), 0..1), "");
        assert_eq!(concise(&elsewhere, &sources), ":1:1: error[key::unknown]: m");
    }
}
