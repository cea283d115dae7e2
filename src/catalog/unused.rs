//! What is defined and named nowhere: most likely a slip at the place that should name it.

use super::scene::Scene;
use super::steps;
use crate::diag::{Diagnostic, codes};
use crate::expr::RootSet;
use crate::spec::STAGE_KEYS;

/// Reports it.
pub(super) fn check(scene: &Scene<'_>) {
    let used = scene.used.borrow();
    let sections = [
        ("topics", "topic", "a stage or a step `publish`"),
        ("dlqs", "DLQ", "a stage"),
        ("retries", "retry policy", "a stage, a job or a step"),
        ("http_clients", "HTTP client", "an `http` step"),
        ("step_groups", "step group", "a step `use`"),
        ("queues", "queue", "a job"),
        ("databases", "database", "an `sql` step"),
    ];
    for (section, noun, users) in sections {
        let all = scene.sections.named(section);
        for (name, definition) in all.into_iter().flat_map(|all| scene.definitions(section, all)) {
            if !used.contains(&(section, name.to_owned())) {
                scene.report(
                    Diagnostic::new(&codes::NAME_UNUSED, format!("{noun} `{name}` is used by nothing"))
                        .at(definition.name_span, "never named")
                        .help(format!("name it in {users}, or remove it")),
                );
            }
        }
    }
}

/// Whether a stage or a job is to use a group is not known: its steps may see what either offers.
const GROUP: steps::Owner =
    steps::Owner { section: "step_groups", noun: "stage", keys: &STAGE_KEYS, roots: RECORD_OR_JOB };
const RECORD_OR_JOB: RootSet = RootSet::RECORD.union(RootSet::JOB);

/// Judges the steps of groups that nothing uses, as those of the others are where they are used. Which
/// steps stand before them is not known.
pub(super) fn check_groups(scene: &Scene<'_>) {
    let used = scene.used.borrow().clone();
    for (name, group) in scene.definitions("step_groups", &scene.sections.step_groups) {
        if used.contains(&("step_groups", name.to_owned())) {
            continue;
        }
        let what = format!("step group `{name}`");
        let kept = scene.read.diagnostics.len();
        let tables = steps::group_steps(scene, name, group);
        let written = steps::expand(scene, &tables, &what, GROUP);
        steps::plan(scene, &written, &what, GROUP, None);
        let behind = |finding: &Diagnostic| *finding.code == codes::EXPRESSION_UNKNOWN_STEP;
        scene.read.diagnostics.drop_behind(kept, behind);
    }
}
