//! One mistake that several definitions come upon (a wrong default, a step of a shared group) is one
//! finding: what differs is only whose name stands in the message.

use super::Diagnostic;

/// What a definition is called in messages, in front of its name.
const NOUNS: [&str; 7] = ["stage", "topic", "DLQ", "retry policy", "HTTP client", "step group", "defaults"];

/// How many of those that share a mistake are named.
const NAMED: usize = 3;

/// Joins findings of one kind at one place; the list is sorted by place, severity, code and message.
pub(super) fn merge(list: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut merged: Vec<(Diagnostic, Vec<String>)> = Vec::with_capacity(list.len());
    for finding in list {
        let same = merged
            .iter_mut()
            .rev()
            .take_while(|(first, _)| first.primary.is_some() && first.primary == finding.primary)
            .find(|(first, _)| alike(first, &finding));
        match same {
            Some((first, others)) => {
                let known = subjects(&first.message);
                others.extend(subjects(&finding.message).into_iter().filter(|name| !known.contains(name)));
            }
            None => merged.push((finding, Vec::new())),
        }
    }
    merged.into_iter().map(|(finding, others)| noted(finding, others)).collect()
}

/// Whether two findings say the same of the same place, whoever they say it of.
fn alike(one: &Diagnostic, other: &Diagnostic) -> bool {
    one.code == other.code
        && one.related == other.related
        && one.help == other.help
        && without_subjects(&one.message) == without_subjects(&other.message)
}

fn noted(finding: Diagnostic, mut others: Vec<String>) -> Diagnostic {
    others.sort_unstable();
    others.dedup();
    // What is wrong in the defaults is wrong there, whoever takes it.
    if others.is_empty() || finding.message.contains("`defaults.") {
        return finding;
    }
    let more = match others.len().checked_sub(NAMED) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {more} more"),
    };
    others.truncate(NAMED);
    let line = format!("the same holds for {}{more}", others.join(", "));
    finding.help(line)
}

/// The definitions that a message names: ``stage `a` ``.
fn subjects(message: &str) -> Vec<String> {
    parts(message).filter(|(_, subject)| *subject).map(|(part, _)| part.to_owned()).collect()
}

fn without_subjects(message: &str) -> String {
    parts(message).map(|(part, subject)| if subject { "…" } else { part }).collect()
}

/// The message in stretches, and whether each is a definition with its name.
fn parts(message: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (start, end) = next_subject(rest).unwrap_or((rest.len(), rest.len()));
        let cut = if start == 0 { end } else { start };
        let (part, after) = rest.split_at(cut);
        rest = after;
        Some((part, start == 0))
    })
}

/// Where the next definition and its name stand.
fn next_subject(text: &str) -> Option<(usize, usize)> {
    let begins = NOUNS.iter().filter_map(|noun| {
        if *noun == "defaults" {
            return text.find("`defaults.").map(|at| (at, at + 1));
        }
        let at = text.match_indices(noun).find(|(at, _)| text[at + noun.len()..].starts_with(" `"))?.0;
        Some((at, at + noun.len() + 2))
    });
    let (start, name) = begins.min()?;
    let end = text[name..].find('`').map(|at| name + at + 1)?;
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{FileId, Span, codes};

    fn finding(message: &str, place: usize) -> Diagnostic {
        Diagnostic::new(&codes::VALUE_TYPE, message).at(Span::new(FileId(0), place..place + 1), "here")
    }

    fn merged(list: &[Diagnostic]) -> Vec<(String, usize)> {
        merge(list.to_vec()).into_iter().map(|finding| (finding.message, finding.help.len())).collect()
    }

    #[test]
    fn one_mistake_that_several_stages_share_is_one_finding_that_names_them() {
        let list = [finding("`x` of stage `a` is y", 1), finding("`x` of stage `b` is y", 1)];
        assert_eq!(merged(&list), [("`x` of stage `a` is y".to_owned(), 1)]);
        let list = [finding("`x` of `defaults.stages` is y", 1), finding("`x` of stage `b` is y", 1)];
        assert_eq!(merged(&list), [("`x` of `defaults.stages` is y".to_owned(), 0)]);
    }

    #[test]
    fn different_mistakes_at_one_place_and_one_mistake_at_two_stay_apart() {
        let list = [finding("stage `a` has no `x`", 1), finding("stage `a` has no `y`", 1)];
        assert_eq!(merged(&list).len(), 2);
        let list = [finding("stage `a` has no `x`", 1), finding("stage `b` has no `x`", 2)];
        assert_eq!(merged(&list).len(), 2);
    }
}
