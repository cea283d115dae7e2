//! `breaker` and `rate_limit` of a stage as written.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Spanned, TableReader};
use crate::base::{Rate, Share};
use crate::diag::Span;

/// One breaker as written.
#[derive(Debug, Clone, Default)]
pub struct BreakerSpec {
    /// The place of its table, where there is one.
    pub span: Option<Span>,
    /// Whether the stage itself says anything of it.
    pub own: bool,
    /// False: it never acts.
    pub enabled: Option<Spanned<bool>>,
    /// Which share of failures is too much.
    pub failures: Option<Spanned<Share>>,
    /// Of how many.
    pub of: Option<Spanned<i64>>,
    /// What is older does not count.
    pub within: Option<Spanned<Duration>>,
    /// When the first probe is made; the transient one alone.
    pub probe_after: Option<Spanned<Duration>>,
    /// The longest wait between two probes; the transient one alone.
    pub probe_up_to: Option<Spanned<Duration>>,
}

/// A stage's rates as written.
#[derive(Debug, Clone, Default)]
pub struct RateLimitSpec {
    /// How many records the stage takes.
    pub rate: Option<Spanned<Rate>>,
    /// How many of them may come at once.
    pub burst: Option<Spanned<i64>>,
    /// The limit of each key.
    pub per_key: Option<KeyLimitSpec>,
}

/// The limit of each key as written.
#[derive(Debug, Clone)]
pub struct KeyLimitSpec {
    /// What counts as the key: an expression.
    pub key: Option<Spanned<String>>,
    /// How many records of a key.
    pub rate: Option<Spanned<Rate>>,
    /// How many of them may come at once.
    pub burst: Option<Spanned<i64>>,
    /// How many keys are remembered.
    pub max_keys: Option<Spanned<i64>>,
    /// Written: it is known that the limit holds for each engine by itself.
    pub scope: Option<Spanned<()>>,
}

/// How many attempts or records a breaker may look at.
const OF: RangeInclusive<i64> = 1..=100_000;
const BURST: RangeInclusive<i64> = 1..=1_000_000;
const KEYS: RangeInclusive<i64> = 1..=1_000_000;

/// `breaker.transient` and `breaker.permanent`, in this order.
pub(super) fn read_breakers(table: &mut TableReader<'_>) -> (BreakerSpec, BreakerSpec) {
    let Some(mut breaker) = table.table("breaker") else { return Default::default() };
    let own = table.is_own("breaker");
    let read = (read_breaker(&mut breaker, own, true), read_breaker(&mut breaker, own, false));
    breaker.finish();
    read
}

fn read_breaker(breaker: &mut TableReader<'_>, own: bool, probes: bool) -> BreakerSpec {
    let key = if probes { "transient" } else { "permanent" };
    let own = own && breaker.is_own(key);
    let Some(mut table) = breaker.table(key) else { return BreakerSpec::default() };
    let spec = BreakerSpec {
        span: Some(table.span()),
        own,
        enabled: table.boolean("enabled"),
        failures: table.parsed("failures", "a share such as \"50%\"", Share::percent(50), |text| {
            Share::parse(text).map_err(|error| error.0)
        }),
        of: table.integer("of", OF),
        within: table.duration("within"),
        probe_after: if probes { table.duration("probe_after") } else { None },
        probe_up_to: if probes { table.duration("probe_up_to") } else { None },
    };
    table.finish();
    spec
}

/// `rate_limit`.
pub(super) fn read_rate_limit(table: &mut TableReader<'_>) -> RateLimitSpec {
    let Some(mut limit) = table.table("rate_limit") else { return RateLimitSpec::default() };
    let spec = RateLimitSpec {
        rate: limit.rate("rate"),
        burst: limit.integer("burst", BURST),
        per_key: limit.table("per_key").map(|mut per_key| {
            let spec = KeyLimitSpec {
                key: per_key.required("key", TableReader::text),
                rate: per_key.required("rate", TableReader::rate),
                burst: per_key.integer("burst", BURST),
                max_keys: per_key.integer("max_keys", KEYS),
                scope: per_key.word("scope", &[("engine", ())]),
            };
            per_key.finish();
            spec
        }),
    };
    limit.finish();
    spec
}
