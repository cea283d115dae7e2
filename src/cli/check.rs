//! `biplane check`: all that is wrong with a config root, in one go.

use std::path::Path;

use super::arguments::CheckFormat;
use super::exit::{CliResult, Exit};
use super::findings::{self, Shown};
use crate::catalog::{CheckOptions, Checked, Tree, check};
use crate::engine::{Process, load_tree};

/// What to check and how to show it.
pub(super) struct Options<'a> {
    pub(super) root: &'a Path,
    pub(super) environment: Option<&'a str>,
    pub(super) all_environments: bool,
    pub(super) require_env: bool,
    pub(super) deny_warnings: bool,
    pub(super) format: CheckFormat,
}

/// Checks and prints; errors, and warnings where they are denied, are findings.
pub(super) fn run(options: &Options<'_>) -> CliResult {
    let tree = load_tree(options.root)?;
    let checked = check_each(&tree, options);
    findings::print(
        &checked,
        &Shown { format: options.format, root: options.root, deny_warnings: options.deny_warnings },
    )?;
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
