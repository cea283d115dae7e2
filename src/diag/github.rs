//! Findings as workflow commands, which GitHub shows at the lines of a pull request.

use super::{Diagnostic, Severity, SourceMap, places};

/// `::error file=…,line=…::message`, with the help below the message; `prefix` leads from the
/// repository to the config root.
pub fn github_command(finding: &Diagnostic, sources: &SourceMap, prefix: &str) -> String {
    let command = match finding.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut properties = Vec::new();
    if let Some(label) = &finding.primary {
        let (path, start, end) = places::of(label.span, sources);
        properties.push(format!("file={}", property(&format!("{prefix}{path}"))));
        properties.push(format!("line={},col={}", start.line, start.column));
        properties.push(format!("endLine={},endColumn={}", end.line, end.column));
    }
    properties.push(format!("title={}", property(finding.code.name)));
    let text = std::iter::once(&finding.message).chain(&finding.help);
    let text = text.map(String::as_str).collect::<Vec<_>>().join("\n");
    format!("::{command} {}::{}", properties.join(","), data(&text))
}

/// What a line of the log would not survive.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As [`data`], and what separates properties.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Span, codes};

    #[test]
    fn what_separates_the_parts_of_a_command_is_escaped() {
        let mut sources = SourceMap::default();
        let file = sources.add("pipelines/a,b:c.toml", "x = \"50%\"\n");
        let finding = Diagnostic::new(&codes::VALUE_TYPE, "`50%`\nis, no: number")
            .at(Span::new(file, 4..9), "")
            .help("write\r50");
        assert_eq!(
            github_command(&finding, &sources, "deploy/"),
            "::error file=deploy/pipelines/a%2Cb%3Ac.toml,line=1,col=5,endLine=1,endColumn=10,\
             title=value%3A%3Atype::`50%25`%0Ais, no: number%0Awrite%0D50"
        );
        let finding = Diagnostic::new(&codes::NAME_UNUSED, "m");
        assert_eq!(github_command(&finding, &sources, ""), "::warning title=name%3A%3Aunused::m");
    }
}
