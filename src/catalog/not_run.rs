//! What this version checks and does not run yet. Whoever brings it to life removes this file, its code
//! and what no longer compiles then.

use super::Catalog;
use super::scene::Scene;
use crate::diag::{Diagnostic, codes};

/// Warns of jobs, queues and databases, once.
pub(super) fn check(scene: &Scene<'_>) {
    let sections = scene.sections;
    let all = [("jobs", &sections.jobs), ("queues", &sections.queues), ("databases", &sections.databases)];
    let found = all.into_iter().find_map(|(section, all)| Some((section, all.values().next()?)));
    let Some((section, definition)) = found else { return };
    scene.report(
        Diagnostic::new(
            &codes::JOBS_NOT_RUN,
            format!("`{section}` are checked, but this version does not run jobs"),
        )
        .at(definition.name_span, "nothing is enqueued or run")
        .help(
            "keep them out of the config root until a version runs them, or leave them: stages run as ever",
        ),
    );
}

/// What of a catalog an engine leaves out, for its log.
pub fn not_run(catalog: &Catalog) -> Option<String> {
    let jobs = catalog.jobs().len();
    (jobs > 0).then(|| format!("{jobs} kinds of jobs are checked, but this version does not run jobs"))
}
