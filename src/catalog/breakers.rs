//! A stage's breakers: defaults filled in, thresholds judged.
//!
//! Both are on where nothing is said. The transient one costs little where it is wrong: one request a
//! second that asks whether the other side is back. The permanent one stops a stage until somebody comes,
//! so it takes half of a thousand records: a trickle or a bad hour of one sender never meets that.

use std::time::Duration;

use super::scene::Scene;
use crate::base::{Share, format_duration};
use crate::diag::{Diagnostic, codes};
use crate::spec::{BreakerSpec, StageSpec};
use crate::steps::StepPlan;

/// How many failures are too many: a share of the last so many, as far as they are not older than that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The share of failures.
    pub failures: Share,
    /// Of how many; with fewer there is no judgement. At least 1.
    pub of: usize,
    /// Failures that are older do not count.
    pub within: Duration,
}

/// What pauses a stage while a system that its steps ask is down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransientBreaker {
    /// When it opens.
    pub threshold: Threshold,
    /// How long after that the first probe is made.
    pub probe_after: Duration,
    /// Each probe that fails doubles the wait, up to this.
    pub probe_up_to: Duration,
}

/// Both of a stage; `None`: switched off.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Breakers {
    /// For each step that asks another system.
    pub transient: Option<TransientBreaker>,
    /// For the stage: too many records that fail for good halt it.
    pub permanent: Option<Threshold>,
}

pub(super) const TRANSIENT: TransientBreaker = TransientBreaker {
    threshold: Threshold { failures: Share::percent(50), of: 20, within: Duration::from_secs(30) },
    probe_after: Duration::from_secs(1),
    probe_up_to: Duration::from_secs(30),
};

pub(super) const PERMANENT: Threshold =
    Threshold { failures: Share::percent(50), of: 1_000, within: Duration::from_secs(300) };

/// The breakers that a stage says.
pub(super) fn resolve(spec: &StageSpec<'_>) -> Breakers {
    let (transient, permanent) = (&spec.transient_breaker, &spec.permanent_breaker);
    let probe_after = transient.probe_after.as_ref().map_or(TRANSIENT.probe_after, |wait| wait.value);
    let probe_up_to = transient.probe_up_to.as_ref().map(|wait| wait.value);
    let probe_up_to = probe_up_to.unwrap_or(TRANSIENT.probe_up_to.max(probe_after));
    let transient = is_on(transient).then(|| {
        let threshold = threshold(transient, TRANSIENT.threshold);
        TransientBreaker { threshold, probe_after, probe_up_to }
    });
    Breakers { transient, permanent: is_on(permanent).then(|| threshold(permanent, PERMANENT)) }
}

fn is_on(spec: &BreakerSpec) -> bool {
    spec.enabled.as_ref().is_none_or(|enabled| enabled.value)
}

fn threshold(spec: &BreakerSpec, default: Threshold) -> Threshold {
    let of = spec.of.as_ref().and_then(|of| usize::try_from(of.value).ok());
    Threshold {
        failures: spec.failures.as_ref().map_or(default.failures, |share| share.value),
        of: of.unwrap_or(default.of),
        within: spec.within.as_ref().map_or(default.within, |within| within.value),
    }
}

/// What can never act, and waits that contradict each other.
pub(super) fn check(scene: &Scene<'_>, spec: &StageSpec<'_>, what: &str, plans: Option<&[StepPlan]>) {
    let transient = &spec.transient_breaker;
    if let (Some(after), Some(most)) = (&transient.probe_after, &transient.probe_up_to)
        && after.known
        && most.known
        && after.value > most.value
    {
        let (first, longest) = (format_duration(after.value), format_duration(most.value));
        let message = format!("the first probe of {what} waits {first}, longer than any may: {longest}");
        scene.report(
            Diagnostic::new(&codes::STAGE_LIMITS, message)
                .at(after.span, "the first wait")
                .also(most.span, "the longest wait")
                .help("lower `probe_after`, or raise `probe_up_to`"),
        );
    }
    let asks = plans.is_none_or(|plans| plans.iter().any(|plan| plan.body.waits()));
    if let Some(span) = transient.span.filter(|_| transient.own && is_on(transient) && !asks) {
        let message = format!("the transient breaker of {what} has no effect");
        scene.report(
            Diagnostic::new(&codes::STAGE_POINTLESS, message)
                .at(span, "no step of the stage asks another system")
                .help("remove it"),
        );
    }
}
