//! Writing the findings of a check in the format that was asked for.
//!
//! Paths are relative to the config root, as everywhere; where a service reads them that knows the
//! repository alone (`sarif`, `github`), the way to the root stands in front.

use std::path::{Component, Path};

use serde_json::json;

use super::arguments::{CheckFormat, Format};
use super::exit::CliResult;
use super::output;
use crate::catalog::Checked;
use crate::diag::{Severity, Style, concise, github_command, render, to_json, to_junit, to_sarif};

/// How findings are shown.
pub(super) struct Shown<'a> {
    pub(super) format: CheckFormat,
    pub(super) root: &'a Path,
    pub(super) deny_warnings: bool,
}

/// Writes all findings; formats for machines hold nothing else on standard output.
pub(super) fn print(checked: &Checked, shown: &Shown<'_>) -> CliResult<()> {
    let Checked { findings, sources, .. } = checked;
    match shown.format {
        CheckFormat::Text => print_plain(checked, Format::Text),
        CheckFormat::Concise => {
            findings.iter().try_for_each(|finding| output::line(&concise(finding, sources)))?;
            output::note(&summary(checked));
            Ok(())
        }
        CheckFormat::Github => {
            let prefix = prefix(shown.root);
            let command = |finding| github_command(finding, sources, &prefix);
            findings.iter().try_for_each(|finding| output::line(&command(finding)))?;
            output::note(&summary(checked));
            Ok(())
        }
        CheckFormat::Json => print_plain(checked, Format::Json),
        CheckFormat::Sarif => output::json(&to_sarif(findings, sources, &prefix(shown.root))),
        CheckFormat::Junit => output::print(&to_junit(findings, sources, shown.deny_warnings)?),
    }
}

/// Writes all findings and the summary as every command can.
pub(super) fn print_plain(checked: &Checked, format: Format) -> CliResult<()> {
    match format {
        Format::Text => output::print(&text(checked)),
        Format::Json => output::json(&as_json(checked)),
    }
}

/// Every finding and the summary, as people read them.
pub(super) fn text(checked: &Checked) -> String {
    let shown = |finding| format!("{}\n\n", render(finding, &checked.sources, Style::Coloured));
    let findings: String = checked.findings.iter().map(shown).collect();
    format!("{findings}{}\n", summary(checked))
}

fn as_json(checked: &Checked) -> serde_json::Value {
    let findings: Vec<_> =
        checked.findings.iter().map(|finding| to_json(finding, &checked.sources)).collect();
    let errors = checked.errors();
    json!({
        "findings": findings,
        "errors": errors,
        "warnings": checked.findings.len() - errors,
        "files": checked.files,
        "definitions": checked.definitions,
    })
}

/// The way from the working directory to the config root, with `/` behind it; empty where they are one.
fn prefix(root: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let below = root.strip_prefix(&here).unwrap_or(root);
    let mut prefix = String::new();
    for part in below.components().filter(|part| *part != Component::CurDir) {
        prefix.push_str(&part.as_os_str().to_string_lossy());
        if part != Component::RootDir {
            prefix.push('/');
        }
    }
    prefix
}

/// `2 errors and 1 warning in 3 files with 12 definitions`.
fn summary(checked: &Checked) -> String {
    let count = |number: usize, noun: &str| match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    };
    let of = |severity| checked.findings.iter().filter(|finding| finding.severity() == severity).count();
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let found = match (errors, warnings) {
        (0, 0) => "no findings".to_owned(),
        (_, 0) => count(errors, "error"),
        (0, _) => count(warnings, "warning"),
        _ => format!("{} and {}", count(errors, "error"), count(warnings, "warning")),
    };
    let more = if checked.findings.is_empty() { "" } else { "; `biplane explain CODE` tells more" };
    let (files, definitions) = (count(checked.files, "file"), count(checked.definitions, "definition"));
    format!("{found} in {files} with {definitions}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_below_the_working_directory_is_named_from_there() {
        assert_eq!(prefix(Path::new(".")), "");
        assert_eq!(prefix(Path::new("./deploy/config/")), "deploy/config/");
        assert_eq!(prefix(&std::env::current_dir().unwrap().join("a")), "a/");
        assert_eq!(prefix(Path::new("/somewhere/else")), "/somewhere/else/");
    }
}
