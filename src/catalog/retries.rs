//! Retry policies: what is written, filled up and judged.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Backoff, CodePattern, Exhausted, Jitter, RetryPolicy};
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::spec::{BackoffSpec, RetrySpec, Spanned};

/// The name of the policy that is always there.
pub(super) const BUILT_IN: &str = "built-in";

/// The longest wait that is kept in place where nothing is said.
const IN_PLACE_UP_TO: Duration = Duration::from_secs(5);

/// Three attempts for what may pass by itself.
pub(super) fn built_in() -> RetryPolicy {
    RetryPolicy {
        name: Arc::from(BUILT_IN),
        max_attempts: 3,
        backoff: exponential(None, None, None, None),
        on: vec![CodePattern::parse("transient")],
        not_on: Vec::new(),
        in_place_up_to: Some(IN_PLACE_UP_TO),
        on_exhausted: Exhausted::DeadLetter,
    }
}

/// The policy that a table says; `None`: it makes no sense, and that has been reported.
pub(super) fn resolve(name: &str, spec: &RetrySpec, diagnostics: &Diagnostics) -> Option<RetryPolicy> {
    let errors = diagnostics.errors();
    let attempts = spec.max_attempts.as_ref();
    if let Some(zero) = attempts.filter(|attempts| attempts.known && attempts.value == 0) {
        diagnostics.push(
            Diagnostic::new(&codes::RETRY_NO_ATTEMPTS, format!("retry policy `{name}` allows no attempt"))
                .at(zero.span, "counts the first try")
                .help("write 1 for no second try"),
        );
    }
    let backoff = spec.backoff.as_ref().map_or_else(
        || exponential(None, None, None, None),
        |backoff| check_backoff(name, backoff, diagnostics),
    );
    let on: Vec<_> = match &spec.on {
        Some(on) => on.iter().filter_map(|text| pattern(text, diagnostics)).collect(),
        None => vec![CodePattern::parse("transient")],
    };
    let not_on: Vec<_> = spec.not_on.iter().filter_map(|text| pattern(text, diagnostics)).collect();
    let words = spec.on.iter().flatten().chain(&spec.not_on);
    let known = words.into_iter().all(|text| text.known);
    if known && !on.is_empty() && on.iter().all(|pattern| not_on.contains(pattern)) {
        let place = spec.not_on.first().map_or(spec.span, |text| text.span);
        let finding =
            Diagnostic::new(&codes::RETRY_NOTHING, format!("retry policy `{name}` retries nothing"))
                .at(place, "takes back all that `on` gives")
                .help(
                    "keep only exceptions in `not_on`; `max_attempts = 1` says that nothing is tried again",
                );
        diagnostics.push(match spec.on.iter().flatten().next() {
            Some(given) => finding.also(given.span, "is given here"),
            None => finding,
        });
    }
    let policy = RetryPolicy {
        name: Arc::from(name),
        max_attempts: attempts.map_or(3, |attempts| u32::try_from(attempts.value).unwrap_or(u32::MAX)).max(1),
        backoff,
        on,
        not_on,
        in_place_up_to: spec.in_place_up_to.as_ref().map_or(Some(IN_PLACE_UP_TO), |bound| bound.value),
        on_exhausted: spec.on_exhausted.as_ref().map_or(Exhausted::DeadLetter, |word| word.value),
    };
    (diagnostics.errors() == errors).then_some(policy)
}

fn exponential(
    initial: Option<Duration>,
    factor: Option<f64>,
    max: Option<Duration>,
    jitter: Option<Jitter>,
) -> Backoff {
    let initial = initial.unwrap_or(Duration::from_millis(200));
    Backoff::Exponential {
        initial,
        factor: factor.unwrap_or(2.0),
        max: max.unwrap_or(Duration::from_secs(5).max(initial)),
        jitter: jitter.unwrap_or_default(),
    }
}

fn check_backoff(name: &str, spec: &BackoffSpec, diagnostics: &Diagnostics) -> Backoff {
    if let Some(delays) = &spec.delays {
        if spec.initial.is_some() || spec.factor.is_some() || spec.max.is_some() || spec.jitter.is_some() {
            diagnostics.push(
                Diagnostic::new(
                    &codes::KEY_CONFLICT,
                    format!("retry policy `{name}` has both a list of delays and a computed backoff"),
                )
                .at(delays.span, "the delays themselves")
                .also(spec.span, "and how to compute them")
                .help("keep one of the two"),
            );
        }
        return Backoff::Delays(delays.value.clone());
    }
    if let Some(factor) = spec.factor.as_ref().filter(|factor| factor.known && factor.value < 1.0) {
        diagnostics.push(
            Diagnostic::new(&codes::RETRY_BACKOFF, format!("the waits of retry policy `{name}` shrink"))
                .at(factor.span, "must be at least 1")
                .help("write 1 for waits of one length, 2 to double them"),
        );
    }
    let backoff = exponential(
        spec.initial.as_ref().map(|wait| wait.value),
        spec.factor.as_ref().map(|factor| factor.value),
        spec.max.as_ref().map(|wait| wait.value),
        spec.jitter.as_ref().map(|jitter| jitter.value),
    );
    if let (Some(max), Backoff::Exponential { initial, .. }) = (&spec.max, &backoff)
        && max.known
        && spec.initial.as_ref().is_none_or(|initial| initial.known)
        && max.value < *initial
    {
        let finding = Diagnostic::new(
            &codes::RETRY_BACKOFF,
            format!("the longest wait of retry policy `{name}` is shorter than its first"),
        )
        .at(max.span, "the longest");
        diagnostics.push(match &spec.initial {
            Some(initial) => finding
                .also(initial.span, "the first")
                .help(format!("lengthen `max` to {} or more", crate::base::format_duration(initial.value))),
            None => finding.help("the first wait is 200ms unless `initial` says otherwise"),
        });
    }
    backoff
}

/// A class, a code or a pattern of codes.
fn pattern(text: &Spanned<String>, diagnostics: &Diagnostics) -> Option<CodePattern> {
    if !text.known {
        return None;
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_*".contains(c);
    if !text.value.is_empty() && text.value.chars().all(plain) {
        return Some(CodePattern::parse(&text.value));
    }
    diagnostics.push(
        Diagnostic::new(&codes::VALUE_WORD, format!("`{}` is no class, code or pattern", text.value))
            .at(text.span, "not a code")
            .help("write a class (`transient`), a code (`http-503`) or a pattern (`http-5xx`)"),
    );
    None
}

/// Whether all that its waits hang on is known.
pub(super) fn is_known(spec: &RetrySpec) -> bool {
    spec.max_attempts.as_ref().is_none_or(|attempts| attempts.known)
        && spec.backoff.as_ref().is_none_or(BackoffSpec::is_known)
        && spec.in_place_up_to.as_ref().is_none_or(|bound| bound.known)
}
