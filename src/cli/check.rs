//! `biplane check`: all that is wrong with a config root, in one go.

use std::path::Path;

use serde_json::json;

use super::exit::{CliResult, Exit};
use super::{Format, output};
use crate::catalog::{CheckOptions, Checked, Tree, check};
use crate::diag::{Severity, Style, render, to_json};
use crate::engine::{Process, load_tree};

/// What to check and how to show it.
pub(super) struct Options<'a> {
    pub(super) root: &'a Path,
    pub(super) environment: Option<&'a str>,
    pub(super) all_environments: bool,
    pub(super) require_env: bool,
    pub(super) deny_warnings: bool,
    pub(super) format: Format,
}

/// Checks and prints; errors, and warnings where they are denied, are findings.
pub(super) fn run(options: &Options<'_>) -> CliResult {
    let tree = load_tree(options.root)?;
    let checked = check_each(&tree, options);
    print(&checked, options.format)?;
    let failed = checked.errors() > 0 || options.deny_warnings && !checked.findings.is_empty();
    Ok(if failed { Exit::Findings } else { Exit::Clean })
}

/// One check, or one an environment with the findings of all.
fn check_each(tree: &Tree, options: &Options<'_>) -> Checked {
    let once = |environment| {
        check(tree, &CheckOptions { environment, require_env: options.require_env, outside: &Process })
    };
    let mut checked = once(options.environment);
    if options.all_environments {
        let names =
            tree.iter().filter_map(|(path, _)| path.strip_prefix("environments/")?.strip_suffix(".toml"));
        for name in names {
            // The files are the same, so their places are too.
            let more = once(Some(name)).findings;
            checked.findings.extend(more);
        }
        let mut known = Vec::new();
        checked.findings.retain(|finding| {
            let new = !known.contains(finding);
            if new {
                known.push(finding.clone());
            }
            new
        });
    }
    checked
}

pub(super) fn print(checked: &Checked, format: Format) -> CliResult<()> {
    match format {
        Format::Text => output::print(&text(checked)),
        Format::Json => {
            let findings: Vec<_> =
                checked.findings.iter().map(|finding| to_json(finding, &checked.sources)).collect();
            let errors = checked.errors();
            output::json(&json!({
                "findings": findings,
                "errors": errors,
                "warnings": checked.findings.len() - errors,
                "files": checked.files,
                "definitions": checked.definitions,
            }))
        }
    }
}

/// Every finding and the summary, as people read them.
pub(super) fn text(checked: &Checked) -> String {
    let shown = |finding| format!("{}\n\n", render(finding, &checked.sources, Style::Coloured));
    let findings: String = checked.findings.iter().map(shown).collect();
    format!("{findings}{}\n", summary(checked))
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
