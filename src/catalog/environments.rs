//! One check for each committed environment, their findings as one list.

use super::{CheckOptions, Checked, Tree, check};
use crate::diag::{Diagnostic, words};

/// Checks a config root under each of its environments; under none where it has none. A finding that not
/// all of them have says which do. The catalog is that of the first.
pub fn check_all(tree: &Tree, options: &CheckOptions<'_>) -> Checked {
    let names: Vec<&str> = tree
        .iter()
        .filter_map(|(path, _)| path.strip_prefix("environments/")?.strip_suffix(".toml"))
        .collect();
    let once = |environment| check(tree, &CheckOptions { environment, ..*options });
    let Some((first, others)) = names.split_first() else { return once(options.environment) };
    let mut checked = once(Some(*first));
    let mut found: Vec<(Diagnostic, Vec<&str>)> =
        checked.findings.drain(..).map(|finding| (finding, vec![*first])).collect();
    for name in others {
        let more = once(Some(*name));
        if more.errors() > 0 {
            checked.catalog = None;
        }
        // The files are the same, so their places are too.
        for finding in more.findings {
            match found.iter_mut().find(|(known, _)| *known == finding) {
                Some((_, environments)) => environments.push(name),
                None => found.push((finding, vec![name])),
            }
        }
    }
    let all = names.len();
    checked.findings = found.into_iter().map(|(finding, of)| noted(finding, &of, all)).collect();
    checked.sort();
    checked
}

fn noted(mut finding: Diagnostic, environments: &[&str], all: usize) -> Diagnostic {
    if environments.len() < all {
        let noun = if environments.len() == 1 { "environment" } else { "environments" };
        finding.message = format!("{} ({noun} {})", finding.message, words(environments.iter().copied()));
    }
    finding
}
