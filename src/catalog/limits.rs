//! Limits of a stage against each other: what can never be reached, and what nothing fits.

use std::time::Duration;

use super::scene::Scene;
use super::stages::WrittenStage;
use super::{Order, Topic};
use super::{retries, steps::WrittenStep};
use crate::base::{ByteSize, RetryPolicy, format_duration};
use crate::diag::{Diagnostic, Span, codes};
use crate::spec::{Spanned, StageSpec, TableReader};
use std::sync::Arc;

/// How long a record may take where nothing is said.
pub(super) const DEADLINE: Duration = Duration::from_secs(600);

/// The waits of the stage's policy against its deadline.
pub(super) fn check_retry(scene: &Scene<'_>, spec: &StageSpec<'_>, what: &str, retry: &RetryPolicy) {
    let Some(deadline) = deadline(spec) else { return };
    if !settled(scene, &retry.name) {
        return;
    }
    let place = spec.retry.as_ref().map(|name| name.span);
    let given_up = |finding: Diagnostic, waits: &str| match (&spec.deadline, place) {
        (Some(deadline), Some(place)) => finding.at(deadline.span, "given up by then").also(place, waits),
        (Some(deadline), None) => finding.at(deadline.span, "given up by then"),
        (None, place) => {
            finding.at(place.unwrap_or(spec.span), format!("{waits}; the deadline is 10m unless it is set"))
        }
    };
    let name = &retry.name;
    let longest = retry.backoff.longest(retry.max_attempts);
    if longest > deadline {
        let longest = format_duration(longest);
        let message =
            format!("retry policy `{name}` waits up to {longest}, longer than the deadline of {what}");
        let finding = given_up(Diagnostic::new(&codes::RETRY_DEADLINE, message), "waits longer");
        scene.report(finding.help("shorten the waits, or lengthen `deadline`"));
    } else if let Some(all) = beyond(retry, deadline) {
        let message =
            format!("retry policy `{name}` waits about {all} in all, longer than the deadline of {what}");
        let finding =
            given_up(Diagnostic::new(&codes::RETRY_BEYOND_DEADLINE, message), "its last attempts never come");
        scene.report(finding.help("allow fewer attempts or shorter waits, or lengthen `deadline`"));
    }
}

/// Whether a policy says how long waits are kept in place, and the stage keeps them all.
pub(super) fn check_parking(
    scene: &Scene<'_>,
    spec: &StageSpec<'_>,
    what: &str,
    retry: &RetryPolicy,
    in_database: Option<Span>,
) {
    if !retry.parks() || !settled(scene, &retry.name) {
        return;
    }
    let bound = scene.retry_specs.get(&*retry.name).and_then(|policy| policy.in_place_up_to.as_ref());
    let order = spec.order.as_ref().filter(|order| order.known && order.value == Order::Partition);
    let (place, why) = match (order, &spec.dedupe) {
        (Some(order), _) => (order.span, "all records of a partition would follow the parked one"),
        (None, Some(dedupe)) => (dedupe.span, "equal records wait in place for each other"),
        (None, None) => match in_database {
            Some(delivery) => (delivery, "what the stage writes keeps the order of offsets"),
            None => return,
        },
    };
    let Some(bound) = bound else { return };
    let longest = format_duration(retry.backoff.longest(retry.max_attempts));
    scene.report(
        Diagnostic::new(
            &codes::RETRY_PARKED,
            format!(
                "retry policy `{}` waits up to {longest}, which {what} keeps in place all the same",
                retry.name
            ),
        )
        .at(bound.span, "has no effect there")
        .also(place, why)
        .help("shorten the waits, or write \"unlimited\" to say that they may be kept in place"),
    );
}

/// The deadline, where it is known.
fn deadline(spec: &StageSpec<'_>) -> Option<Duration> {
    match &spec.deadline {
        None => Some(DEADLINE),
        Some(deadline) => deadline.known.then_some(deadline.value),
    }
}

fn settled(scene: &Scene<'_>, policy: &str) -> bool {
    scene.retry_specs.get(policy).is_none_or(retries::is_known)
}

/// How long a policy waits in all, with jitter at half, where that is beyond `deadline`.
fn beyond(retry: &RetryPolicy, deadline: Duration) -> Option<String> {
    let attempts = retry.max_attempts.clamp(1, 1_000);
    let waits = (1..attempts).map(|attempt| retry.backoff.delay(attempt, 0.5));
    let all = waits.fold(Duration::ZERO, Duration::saturating_add);
    // Whole seconds are exact enough for people.
    (all > deadline).then(|| format_duration(Duration::from_secs(all.as_secs().max(1))))
}

/// All other limits.
pub(super) fn check(scene: &Scene<'_>, written: &WrittenStage<'_>, what: &str, inputs: &[Arc<Topic>]) {
    check_window(scene, &written.spec, what);
    check_span(scene, &written.spec, what, inputs);
    check_largest(scene, &written.spec, what, inputs);
    for step in &written.steps {
        check_step(scene, &written.spec, what, step);
    }
}

fn check_window(scene: &Scene<'_>, spec: &StageSpec<'_>, what: &str) {
    let concurrency = spec.concurrency.as_ref().map_or(16, |number| number.value);
    let records = spec.window_records.as_ref().map_or(10_000, |number| number.value);
    let known = [&spec.concurrency, &spec.window_records]
        .iter()
        .all(|number| number.as_ref().is_none_or(|number| number.known));
    if !known || concurrency <= records {
        return;
    }
    let finding = Diagnostic::new(
        &codes::STAGE_LIMITS,
        format!("{what} may work on {concurrency} records at one time, but hold only {records}"),
    );
    let finding = match (&spec.window_records, &spec.concurrency) {
        (Some(records), Some(work)) => finding.at(records.span, "holds").also(work.span, "works on"),
        (Some(records), None) => finding.at(records.span, "less than the concurrency of 16"),
        (None, work) => finding
            .at(work.as_ref().map_or(spec.span, |work| work.span), "more than the window of 10000 records"),
    };
    scene.report(finding.help("lower `concurrency`, or raise `window.records`"));
}

/// `span.records` holds for each partition, so all of them together bound what may be in flight.
fn check_span(scene: &Scene<'_>, spec: &StageSpec<'_>, what: &str, inputs: &[Arc<Topic>]) {
    let partitions = inputs.iter().map(|topic| topic.partitions.map(i64::from)).sum::<Option<i64>>();
    let (Some(span), Some(partitions)) = (spec.span_records.as_ref().filter(|span| span.known), partitions)
    else {
        return;
    };
    let most = span.value.saturating_mul(partitions);
    let limits = [("concurrency", &spec.concurrency), ("window.records", &spec.window_records)];
    for (key, limit) in limits {
        let Some(limit) = limit.as_ref().filter(|limit| limit.known && limit.value > most) else { continue };
        let message = format!(
            "`{key}` of {what} can never be reached: {partitions} partitions hold {most} records at most"
        );
        scene.report(
            Diagnostic::new(&codes::STAGE_LIMITS, message)
                .at(span.span, "for each partition")
                .also(limit.span, "is more than all of them")
                .help(format!("raise `span.records`, or lower `{key}`")),
        );
    }
}

fn check_largest(scene: &Scene<'_>, spec: &StageSpec<'_>, what: &str, inputs: &[Arc<Topic>]) {
    let Some(window) = spec.window_bytes.as_ref().filter(|size| size.known) else { return };
    let said = inputs.iter().filter_map(|topic| {
        let (size, span) = scene.largest(&topic.name)?;
        Some((size, span?))
    });
    if let Some((largest, place)) = said.max_by_key(|(size, _): &(ByteSize, Span)| *size)
        && window.value < largest
    {
        scene.report(
            Diagnostic::new(
                &codes::STAGE_LIMITS,
                format!("the window of {what} is smaller than its largest record, {largest}"),
            )
            .at(window.span, "one record may not fit")
            .also(place, "the largest record")
            .help(format!("raise `window.bytes` to several times {largest}")),
        );
    }
}

/// What a step waits for against the deadline of the record.
fn check_step(scene: &Scene<'_>, spec: &StageSpec<'_>, what: &str, step: &WrittenStep<'_>) {
    let Some(deadline) = deadline(spec) else { return };
    let mut reader = TableReader::new(step.table, format!("a step of {what}"), scene.read.noting(None));
    if let Some(name) = step.table.get("retry").and_then(|entry| entry.node.as_text()) {
        check_step_retry(scene, spec, what, &name, deadline);
    }
    let kept = scene.read.diagnostics.len();
    let timeout = reader.duration("timeout");
    // What is wrong with it has been reported where the step was planned.
    scene.read.diagnostics.drop_behind(kept, |_| true);
    let (limit, place, who) = match timeout {
        Some(timeout) if timeout.known => (timeout.value, timeout.span, "the step".to_owned()),
        Some(_) => return,
        None => {
            let client = step.table.get("http").and_then(|http| http.node.as_table()?.get("client"));
            let Some(name) = client.and_then(|entry| entry.node.as_text()) else { return };
            let Some(Some((limit, place))) = scene.client_timeouts.get(&name.value) else { return };
            (*limit, *place, format!("HTTP client `{}`", name.value))
        }
    };
    if limit > deadline {
        let (limit, given_up) = (format_duration(limit), format_duration(deadline));
        let message = format!("{who} may take {limit}, but {what} gives a record up after {given_up}");
        let finding = Diagnostic::new(&codes::STAGE_LIMITS, message).at(place, "longer than the deadline");
        let finding = match &spec.deadline {
            Some(deadline) => finding.also(deadline.span, "the deadline of the record"),
            None => finding.also(spec.span, "its deadline is 10m unless it is set"),
        };
        scene.report(finding.help("shorten the timeout, or lengthen `deadline`"));
    }
}

fn check_step_retry(
    scene: &Scene<'_>,
    spec: &StageSpec<'_>,
    what: &str,
    name: &Spanned<String>,
    deadline: Duration,
) {
    let Some(Some(retry)) = scene.retries.get(&name.value) else { return };
    if !settled(scene, &name.value) {
        return;
    }
    if let Some(all) = beyond(retry, deadline) {
        let message = format!(
            "retry policy `{}` of a step waits about {all} in all, longer than the deadline of {what}",
            name.value
        );
        let finding = Diagnostic::new(&codes::RETRY_BEYOND_DEADLINE, message)
            .at(name.span, "its last attempts never come");
        let finding = match &spec.deadline {
            Some(deadline) => finding.also(deadline.span, "given up by then"),
            None => finding.also(spec.span, "its deadline is 10m unless it is set"),
        };
        scene.report(finding.help("allow fewer attempts or shorter waits, or lengthen `deadline`"));
    }
}
