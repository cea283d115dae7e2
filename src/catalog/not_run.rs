//! What of jobs this version checks and does not carry out. Whoever brings one of them to life
//! removes its line here.

use super::Catalog;
use super::scene::Scene;
use crate::diag::{Diagnostic, Span, codes};
use crate::spec::{JobSpec, Table};

/// Warns of what does not happen to a job.
pub(super) fn check_job(scene: &Scene<'_>, spec: &JobSpec<'_>, what: &str) {
    if let Some(other) = &spec.exhausted_enqueues {
        let help = "the job itself is kept as `failed` in any case: `biplane jobs list --state failed`";
        report(scene, other.span, &format!("`on_exhausted` of {what}"), "nothing is enqueued", help);
    }
    if let Some(expires) = &spec.expires {
        let help = "give `expires_at` as the job is enqueued: `biplane.enqueue(..., expires_at => ...)`";
        report(scene, expires.span, &format!("`expires` of {what}"), "nothing is cancelled by it", help);
    }
}

/// Warns of a step that would wait for a callback.
pub(super) fn check_step(scene: &Scene<'_>, step: &Table, what: &str) {
    let callback = step.get("http").and_then(|http| http.node.as_table()?.get("callback_within"));
    if let Some(callback) = callback {
        let help = "a 202 ends the job as `failed` with the code `callback-not-run`; remove it to take a 202 as done";
        let which = format!("`http.callback_within` of {what}");
        report(scene, callback.key_span, &which, "no callback is waited for", help);
    }
}

fn report(scene: &Scene<'_>, place: Span, which: &str, label: &str, help: &str) {
    let message = format!("{which} is checked, but this version does not carry it out");
    scene.report(Diagnostic::new(&codes::JOBS_NOT_RUN, message).at(place, label).help(help));
}

/// What of a catalog an engine leaves out, a line each, for its log.
pub fn not_run(catalog: &Catalog) -> Vec<String> {
    let mut lines = Vec::new();
    let mut leave = |key: &str, what: String| lines.push(format!("`{key}` of {what} is not carried out"));
    for job in catalog.jobs().values() {
        let what = || format!("job `{}`", job.name);
        let said = [
            ("on_exhausted", job.exhausted_enqueues.is_some()),
            ("expires", job.expires.is_some()),
            ("http.callback_within", job.steps.iter().any(|step| step.body.callback().is_some())),
        ];
        said.into_iter().filter(|(_, said)| *said).for_each(|(key, _)| leave(key, what()));
    }
    lines
}
