//! `[retries.NAME]`: how often and how long a failed record is tried again.

use std::time::Duration;

use super::{About, Spanned, TableReader};
use crate::base::{Exhausted, Jitter, parse_duration};
use crate::diag::{Diagnostic, Span, codes};

/// The waits of a policy as written.
#[derive(Debug, Clone)]
pub struct BackoffSpec {
    /// The place of `backoff`.
    pub span: Span,
    /// The first wait.
    pub initial: Option<Spanned<Duration>>,
    /// What each wait is multiplied by.
    pub factor: Option<Spanned<f64>>,
    /// The longest wait.
    pub max: Option<Spanned<Duration>>,
    /// How waits are spread.
    pub jitter: Option<Spanned<Jitter>>,
    /// The waits themselves, in place of all the above.
    pub delays: Option<Spanned<Vec<Duration>>>,
}

/// A retry policy as written.
#[derive(Debug, Clone)]
pub struct RetrySpec {
    /// The place of the table.
    pub span: Span,
    /// What people read.
    pub about: About,
    /// The name it had before.
    pub was: Option<Spanned<String>>,
    /// Attempts in all; counts the first.
    pub max_attempts: Option<Spanned<i64>>,
    /// The waits.
    pub backoff: Option<BackoffSpec>,
    /// Codes, patterns of codes or classes worth another try.
    pub on: Option<Vec<Spanned<String>>>,
    /// Those that are not, though `on` names them.
    pub not_on: Vec<Spanned<String>>,
    /// The longest wait kept in the lane; the inner `None`: any.
    pub in_place_up_to: Option<Spanned<Option<Duration>>>,
    /// What becomes of a record that has used up its attempts.
    pub on_exhausted: Option<Spanned<Exhausted>>,
}

const JITTERS: [(&str, Jitter); 3] =
    [("none", Jitter::None), ("full", Jitter::Full), ("equal", Jitter::Equal)];

const EXHAUSTED: [(&str, Exhausted); 3] =
    [("dead-letter", Exhausted::DeadLetter), ("drop", Exhausted::Drop), ("halt", Exhausted::Halt)];

impl RetrySpec {
    /// Reads a whole `[retries.NAME]`.
    pub fn read(mut table: TableReader<'_>) -> Self {
        let was = table.own_name("was");
        let about = About::read(&mut table);
        let delays = read_delays(&mut table);
        let backoff = match read_backoff(&mut table) {
            None => delays.map(BackoffSpec::only),
            Some(backoff) => Some(backoff.with(delays, &table)),
        };
        let spec = Self {
            span: table.span(),
            about,
            was,
            max_attempts: table.integer("max_attempts", 0..=1_000_000),
            backoff,
            on: table.strings("on"),
            not_on: table.strings("not_on").unwrap_or_default(),
            in_place_up_to: table.parsed(
                "in_place_up_to",
                "a duration such as \"5s\", or \"unlimited\"",
                None,
                |text| match text {
                    "unlimited" => Ok(None),
                    _ => parse_duration(text).map(Some).map_err(|error| error.0),
                },
            ),
            on_exhausted: table.word("on_exhausted", &EXHAUSTED),
        };
        table.finish();
        spec
    }
}

impl BackoffSpec {
    fn only(delays: Spanned<Vec<Duration>>) -> Self {
        let span = delays.span;
        Self { span, initial: None, factor: None, max: None, jitter: None, delays: Some(delays) }
    }

    /// With the `delays` beside it. A list and a computed backoff exclude each other, but where one of
    /// them is the table's own, the other is only what the defaults say.
    fn with(mut self, beside: Option<Spanned<Vec<Duration>>>, table: &TableReader<'_>) -> Self {
        match (&self.delays, beside) {
            (Some(inner), Some(beside)) if inner.own == beside.own => table.report(
                Diagnostic::new(&codes::KEY_CONFLICT, format!("{} has two lists of delays", table.what))
                    .at(inner.span, "one in `backoff`")
                    .also(beside.span, "and one beside it")
                    .help("keep one of the two"),
            ),
            (Some(inner), Some(_)) if inner.own => {}
            (_, Some(beside)) => self.delays = Some(beside),
            (_, None) => {}
        }
        let computed = self.computed_as_own();
        let listed = self.delays.as_ref().map(|delays| delays.own);
        if listed == Some(true) && computed == Some(false) {
            (self.initial, self.factor, self.max, self.jitter) = (None, None, None, None);
        } else if listed == Some(false) && computed == Some(true) {
            self.delays = None;
        }
        self
    }

    /// Whether anything computed is the table's own; `None`: nothing is computed.
    fn computed_as_own(&self) -> Option<bool> {
        let parts = [
            self.initial.as_ref().map(|part| part.own),
            self.factor.as_ref().map(|part| part.own),
            self.max.as_ref().map(|part| part.own),
            self.jitter.as_ref().map(|part| part.own),
        ];
        parts.into_iter().flatten().reduce(|one, other| one || other)
    }

    /// Whether all that is written is known.
    pub fn is_known(&self) -> bool {
        let known = [
            self.initial.as_ref().map(|part| part.known),
            self.factor.as_ref().map(|part| part.known),
            self.max.as_ref().map(|part| part.known),
            self.jitter.as_ref().map(|part| part.known),
            self.delays.as_ref().map(|part| part.known),
        ];
        known.into_iter().flatten().all(|known| known)
    }
}

fn read_backoff(table: &mut TableReader<'_>) -> Option<BackoffSpec> {
    let span = table.entry("backoff")?.key_span;
    let mut inner = table.table("backoff")?;
    let spec = BackoffSpec {
        span,
        initial: inner.duration("initial"),
        factor: inner.float("factor", 0.0..=1_000.0),
        max: inner.duration("max"),
        jitter: inner.word("jitter", &JITTERS),
        delays: read_delays(&mut inner),
    };
    inner.finish();
    Some(spec)
}

/// `delays = ["1s", "30s", "5m"]`, beside `backoff` or in it.
fn read_delays(table: &mut TableReader<'_>) -> Option<Spanned<Vec<Duration>>> {
    let span = table.node("delays")?.span;
    let texts = table.strings("delays")?;
    let mut delays = Vec::with_capacity(texts.len());
    for text in &texts {
        match parse_duration(&text.value) {
            _ if !text.known => delays.push(Duration::from_secs(1)),
            Ok(delay) => delays.push(delay),
            Err(_) => table.report(
                Diagnostic::new(&codes::VALUE_UNIT, format!("a delay of {} is no duration", table.what))
                    .at(text.span, "not a duration")
                    .help("write durations such as \"250ms\", \"5s\", \"1h30m\" or \"7d\""),
            ),
        }
    }
    let known = texts.iter().all(|text| text.known);
    let own = table.is_own("delays");
    (delays.len() == texts.len()).then(|| Spanned { known, own, ..Spanned::new(delays, span) })
}
