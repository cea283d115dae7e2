//! How fast a stage takes records, and the records of one key.

use super::Topic;
use super::scene::Scene;
use crate::base::Rate;
use crate::diag::{Diagnostic, codes};
use crate::expr::{Expression, RootSet};
use crate::spec::{KeyLimitSpec, Order, Spanned, StageSpec};
use std::sync::Arc;

/// So many in a while, and so many of them at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// How many in the long run.
    pub rate: Rate,
    /// How many at once after a rest; at least 1.
    pub burst: u32,
}

/// The limit of each key.
#[derive(Debug, Clone)]
pub struct KeyLimit {
    /// What counts as the key; null: no limit.
    pub key: Expression,
    /// How fast.
    pub pace: Pace,
    /// How many keys are remembered; at least 1.
    pub max_keys: usize,
}

/// The limits of a stage on one engine.
#[derive(Debug, Clone, Default)]
pub struct RateLimits {
    /// For all its records.
    pub stage: Option<Pace>,
    /// For those of each key.
    pub per_key: Option<KeyLimit>,
}

/// How many keys are remembered where nothing is said.
pub(super) const MAX_KEYS: usize = 10_000;

/// The limits that a stage says; `None`: something is wrong, and that has been reported.
pub(super) fn resolve(
    scene: &Scene<'_>,
    spec: &StageSpec<'_>,
    what: &str,
    inputs: &[Arc<Topic>],
) -> Option<RateLimits> {
    let limit = &spec.rate_limit;
    if let Some(burst) = limit.burst.as_ref().filter(|burst| burst.own && limit.rate.is_none()) {
        scene.report(
            Diagnostic::new(&codes::STAGE_POINTLESS, format!("`burst` of {what} has no effect"))
                .at(burst.span, "there is no `rate`")
                .help("write `rate_limit.rate = \"500/s\"`, or remove it"),
        );
    }
    let stage = limit.rate.as_ref().map(|rate| pace(rate, limit.burst.as_ref()));
    let Some(per_key) = &limit.per_key else { return Some(RateLimits { stage, per_key: None }) };
    let key = scene.planning(RootSet::RECORD, &[], |context| context.expression(per_key.key.as_ref()?));
    check_key(scene, spec, what, per_key, inputs);
    check_rates(scene, spec, what, per_key);
    let max_keys = per_key.max_keys.as_ref().and_then(|keys| usize::try_from(keys.value).ok());
    let per_key = KeyLimit {
        key: key?,
        pace: pace(per_key.rate.as_ref()?, per_key.burst.as_ref()),
        max_keys: max_keys.unwrap_or(MAX_KEYS),
    };
    Some(RateLimits { stage, per_key: Some(per_key) })
}

fn pace(rate: &Spanned<Rate>, burst: Option<&Spanned<i64>>) -> Pace {
    let rate = rate.value;
    let burst = burst.and_then(|burst| u32::try_from(burst.value).ok());
    Pace { rate, burst: burst.unwrap_or_else(|| default_burst(rate)) }
}

/// What comes in a tenth of a second, at least one.
pub(super) fn default_burst(rate: Rate) -> u32 {
    (rate.per_second / 10.0).clamp(1.0, 1_000_000.0) as u32
}

/// A key that is not the record's has records in partitions of several engines.
fn check_key(
    scene: &Scene<'_>,
    spec: &StageSpec<'_>,
    what: &str,
    per_key: &KeyLimitSpec,
    inputs: &[Arc<Topic>],
) {
    let Some(key) = per_key.key.as_ref().filter(|key| key.own && key.value.trim() != "key") else { return };
    let single = inputs.len() == 1 && inputs[0].partitions == Some(1);
    if per_key.scope.is_some() || single {
        return;
    }
    let order = spec.order.as_ref().map_or(Order::Key, |order| order.value);
    let help = match order {
        Order::Key => "key the input by it and write `key = \"key\"`",
        Order::Partition | Order::None => "write `key = \"key\"` where the input is keyed by it",
    };
    scene.report(
        Diagnostic::new(
            &codes::RATE_LIMIT_PER_ENGINE,
            format!("the limit a key of {what} holds for each engine"),
        )
        .at(key.span, "is not the record's key, so several engines may read records of one")
        .help(format!("{help}; or say that this is meant: `per_key.scope = \"engine\"`")),
    );
}

/// One key that may go faster than all together is not limited by its own rate.
fn check_rates(scene: &Scene<'_>, spec: &StageSpec<'_>, what: &str, per_key: &KeyLimitSpec) {
    let (Some(all), Some(one)) = (&spec.rate_limit.rate, &per_key.rate) else { return };
    if !all.known || !one.known || one.value.per_second <= all.value.per_second {
        return;
    }
    let message = format!("one key of {what} may go faster than all its records together");
    scene.report(
        Diagnostic::new(&codes::STAGE_LIMITS, message)
            .at(one.span, "for each key")
            .also(all.span, "for all of them")
            .help("lower the rate of `per_key`, or raise the stage's"),
    );
}
