//! Words of retry policies that name nothing: codes that no failure has, and keys that steps do not look at.

use super::scene::Scene;
use crate::base::{Class, CodePattern, ENGINE_CODES, names_a_code};
use crate::diag::{Diagnostic, Span, codes, nearest};
use crate::spec::{RetrySpec, Spanned, Table};

/// Judges them, once every stage and group has been read.
pub(super) fn check(scene: &Scene<'_>) {
    let own = own_codes(scene);
    for (name, spec) in &scene.retry_specs {
        // Which codes programs of the user's own give is theirs to know.
        let own_words = scene.pull_retries.borrow().contains(name);
        for word in spec.on.iter().flatten().chain(&spec.not_on).filter(|word| word.known && !own_words) {
            check_word(scene, name, word, &own);
        }
        check_step_policy(scene, name, spec);
    }
}

fn check_word(scene: &Scene<'_>, policy: &str, word: &Spanned<String>, own: &[String]) {
    // What is no code at all has been reported.
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_*".contains(c);
    let pattern = CodePattern::parse(&word.value);
    if !word.value.chars().all(plain) || names_a_code(&pattern, own.iter().map(String::as_str)) {
        return;
    }
    let statuses = ["http-429", "http-503", "http-4xx", "http-5xx"];
    let known = Class::ALL.iter().map(|class| class.as_str()).chain(ENGINE_CODES).chain(statuses);
    let near = nearest(&word.value, known.chain(own.iter().map(String::as_str)));
    let message = format!("retry policy `{policy}` names `{}`, which is no class and no code", word.value);
    scene.report(
        Diagnostic::new(&codes::RETRY_UNKNOWN_CODE, message).at(word.span, "no failure has it").help(
            match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "docs/records.md lists the codes; a `fail` step brings codes of its own".to_owned(),
            },
        ),
    );
}

/// The codes of all `fail` steps.
fn own_codes(scene: &Scene<'_>) -> Vec<String> {
    let sections = scene.sections;
    let places = sections.stages.values().chain(sections.jobs.values()).chain(sections.step_groups.values());
    let steps = places.filter_map(|place| place.table.get("steps")?.node.as_array()).flatten();
    let code = |step: &Table| Some(step.get("fail")?.node.as_table()?.get("code")?.node.as_text()?.value);
    steps.filter_map(|step| code(step.as_table()?)).collect()
}

/// A policy that no stage names decides nothing about records.
fn check_step_policy(scene: &Scene<'_>, name: &str, spec: &RetrySpec) {
    let used = scene.used.borrow().contains(&("retries", name.to_owned()));
    if !used || scene.stage_retries.borrow().contains(name) {
        return;
    }
    let pointless = |key: &str, place: Span, label: &str| {
        scene.report(
            Diagnostic::new(
                &codes::RETRY_POINTLESS,
                format!("`{key}` of retry policy `{name}` has no effect: no stage names the policy"),
            )
            .at(place, label)
            .help("remove it, or name the policy in `retry` of a stage"),
        );
    };
    if let Some(word) = spec.on_exhausted.as_ref().filter(|word| word.own) {
        pointless("on_exhausted", word.span, "says what becomes of a stage's records");
    }
    if let Some(bound) = spec.in_place_up_to.as_ref().filter(|bound| bound.own) {
        pointless("in_place_up_to", bound.span, "bounds the waits of a stage's records");
    }
}
