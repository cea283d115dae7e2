//! Who does a job: an engine by the job's steps, or a worker that pulls it and has no use for any.

use super::Queue;
use super::jobs::WrittenJob;
use super::scene::Scene;
use crate::diag::{Diagnostic, codes};
use crate::spec::Workers;

/// What an engine alone looks at.
const STEPWISE: [&str; 2] = ["steps", "checkpoint"];

/// Judges whether it is said how the job is done, and once. `queue` is `None` where that is not known.
pub(super) fn check(scene: &Scene<'_>, written: &WrittenJob<'_>, queue: Option<&Queue>, what: &str) {
    let own = scene.sections.jobs.get(written.name).map(|definition| definition.table);
    let pulled = queue.filter(|queue| queue.workers == Workers::Pull);
    if let Some(queue) = pulled {
        for entry in STEPWISE.iter().filter_map(|key| own?.get(key)) {
            let message = format!("pull workers do {what}, so `{}` has no meaning", entry.key);
            scene.report(
                Diagnostic::new(&codes::JOB_PULLED, message).at(entry.key_span, "for engines alone").help(
                    format!(
                        "remove it, or name a queue that engines work: `{}` has `workers = \"pull\"`",
                        queue.name
                    ),
                ),
            );
        }
        return;
    }
    let places = [own, scene.sections.defaults.get("jobs").map(|definition| definition.table)];
    let said = places.into_iter().flatten().any(|table| table.get("steps").is_some());
    // A queue that is named and not known was reported, and may be one for pull workers.
    if !said && (queue.is_some() || written.spec.queue.is_none()) {
        scene.report(
            Diagnostic::new(&codes::KEY_MISSING, format!("{what} has no `steps`"))
                .at(written.spec.span, "`steps` is missing")
                .help(
                    "add `[[….steps]]`, or let programs of your own do it: `workers = \"pull\"` in its queue",
                ),
        );
    }
}
