//! What a job's steps may be: those that make sense for one value that is no record, within the time that
//! an attempt has.

use super::jobs::{TIMEOUT, WrittenJob};
use super::scene::Scene;
use crate::base::format_duration;
use crate::diag::{Diagnostic, Span, codes};
use crate::spec::{Table, TableReader};

/// Kinds of steps that only records have a use for, and what to do instead.
const RECORDS_ONLY: [(&str, &str); 1] =
    [("explode", "a job is one job: enqueue one for each part, or loop over the parts in a template")];

/// Judges them.
pub(super) fn check(scene: &Scene<'_>, written: &WrittenJob<'_>, what: &str) {
    for step in &written.steps {
        check_kind(scene, step.table, what);
        check_timeout(scene, written, step.table, what);
    }
}

fn check_kind(scene: &Scene<'_>, step: &Table, what: &str) {
    let report = |place: Span, which: &str, label: &str, help: &str| {
        scene.report(
            Diagnostic::new(&codes::JOB_STEP, format!("{which} has no meaning in {what}"))
                .at(place, label)
                .help(help),
        );
    };
    for (kind, help) in RECORDS_ONLY {
        if let Some(entry) = step.get(kind) {
            report(entry.key_span, &format!("a step `{kind}`"), "only for records", help);
        }
    }
    let inner = |kind: &str, key: &str| step.get(kind)?.node.as_table()?.get(key);
    if let Some(entry) = inner("set", "headers").filter(|entry| entry.node.as_table().is_some()) {
        let help = "remove it; the headers of a request are `http.headers`";
        report(entry.key_span, "`set.headers`", "a job has no headers", help);
    }
    let shared = inner("sql", "batch").filter(|entry| entry.node.as_table().is_some());
    for (entry, which) in [(inner("http", "batch"), "`http.batch`"), (shared, "`sql.batch` as a table")] {
        let Some(entry) = entry else { continue };
        let help = "remove it; a job that handles many things at once takes them in its args";
        report(entry.key_span, which, "jobs do not wait for each other", help);
    }
}

/// A step that may take longer than the whole attempt.
fn check_timeout(scene: &Scene<'_>, written: &WrittenJob<'_>, step: &Table, what: &str) {
    let whole = written.spec.timeout.as_ref();
    if whole.is_some_and(|timeout| !timeout.known) {
        return;
    }
    let limit = whole.map_or(TIMEOUT, |timeout| timeout.value);
    let kept = scene.read.diagnostics.len();
    let timeout = TableReader::new(step, "a step", scene.read.noting(None)).duration("timeout");
    // What is wrong with it is reported where the step is planned.
    scene.read.diagnostics.drop_behind(kept, |_| true);
    let Some(timeout) = timeout.filter(|timeout| timeout.known && timeout.value > limit) else { return };
    let (own, given_up) = (format_duration(timeout.value), format_duration(limit));
    let message = format!("a step may take {own}, but an attempt of {what} only {given_up}");
    let finding = Diagnostic::new(&codes::JOB_LIMITS, message).at(timeout.span, "longer than the whole");
    scene.report(match whole {
        Some(whole) => {
            finding.also(whole.span, "the whole").help("shorten it, or lengthen the job's `timeout`")
        }
        None => finding
            .also(written.spec.span, "has 10m unless `timeout` is set")
            .help("shorten it, or set the job's `timeout` above its first `[[…steps]]`"),
    });
}
