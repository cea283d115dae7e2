//! Which of the known names was meant. Pure.

/// The candidate most like `name`, if one is like it at all.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != name && candidate.len().abs_diff(name.len()) <= limit * 4)
        .filter_map(|candidate| {
            let distance = strsim::damerau_levenshtein(&folded(name), &folded(candidate));
            (distance <= limit).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Names as a list for people: `` `a`, `b` and `c` ``.
pub fn words<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// Hyphens, underscores and case are no difference worth a point.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_slip_is_recognised_and_a_different_word_is_not() {
        let known = ["retries", "topics", "stages"];
        assert_eq!(nearest("topcis", known), Some("topics"));
        assert_eq!(nearest("in-place_up-to", ["in_place_up_to"]), Some("in_place_up_to"));
        assert_eq!(nearest("queues", known), None);
        assert_eq!(nearest("raw.conector.events", ["raw.connector.events"]), Some("raw.connector.events"));
    }

    #[test]
    fn a_list_reads_as_a_sentence() {
        assert_eq!(words([]), "nothing");
        assert_eq!(words(["a"]), "`a`");
        assert_eq!(words(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
