//! `[stages.NAME]`: a consumer of topics that applies steps and writes outputs.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::breakers::{BreakerSpec, RateLimitSpec, read_breakers, read_rate_limit};
use super::dedupe::{DedupeSpec, read_dedupe};
use super::setting::is_template;
use super::{
    About, Decoding, Entry, Guarantee, NodeValue, OnLost, Order, Spanned, Start, Table, TableReader,
    Tombstones, Unmatched,
};
use crate::base::{ByteSize, parse_duration};
use crate::diag::{Diagnostic, Span, codes};

/// A stage as written.
#[derive(Debug, Clone)]
pub struct StageSpec<'a> {
    /// The place of the table.
    pub span: Span,
    /// What people read.
    pub about: About,
    /// The name it had before.
    pub was: Option<Spanned<String>>,
    /// The topics it reads.
    pub from: Option<Vec<Spanned<String>>>,
    /// Where its records go; `None`: what is written is wrong.
    pub outputs: Option<Vec<OutputSpec<'a>>>,
    /// The place of `to`, where that is how the output is written.
    pub to: Option<Span>,
    /// True: every output that matches; false: the first.
    pub match_all: Option<Spanned<bool>>,
    /// The fate of a record that no output takes.
    pub unmatched: Option<Spanned<Unmatched>>,
    /// What must come one after the other.
    pub order: Option<Spanned<Order>>,
    /// How many records may wait in steps at one time.
    pub concurrency: Option<Spanned<i64>>,
    /// How many records may be in flight.
    pub window_records: Option<Spanned<i64>>,
    /// How many bytes may be in flight.
    pub window_bytes: Option<Spanned<ByteSize>>,
    /// How many records a partition may be ahead of its contiguous offset.
    pub span_records: Option<Spanned<i64>>,
    /// How many bytes of records a partition may be ahead of its contiguous offset.
    pub span_bytes: Option<Spanned<ByteSize>>,
    /// How many records one engine may have parked.
    pub parked_records: Option<Spanned<i64>>,
    /// How many bytes of them.
    pub parked_bytes: Option<Spanned<ByteSize>>,
    /// Where a group without offsets starts.
    pub start: Option<Spanned<Start>>,
    /// What happens where a committed offset is gone.
    pub on_lost: Option<Spanned<OnLost>>,
    /// How values are read.
    pub decode: Option<Spanned<Decoding>>,
    /// What a null value is.
    pub tombstones: Option<Spanned<Tombstones>>,
    /// Its steps, as tables; each kind reads its own.
    pub steps: Vec<&'a Table>,
    /// The name of its retry policy.
    pub retry: Option<Spanned<String>>,
    /// The name of its DLQ.
    pub dlq: Option<Spanned<String>>,
    /// What stops it while a system that its steps ask is down.
    pub transient_breaker: BreakerSpec,
    /// What stops it where too many records fail for good.
    pub permanent_breaker: BreakerSpec,
    /// How fast it takes records.
    pub rate_limit: RateLimitSpec,
    /// Which of its records are equal.
    pub dedupe: Option<DedupeSpec>,
    /// How long a record may take in all.
    pub deadline: Option<Spanned<Duration>>,
    /// How often offsets are committed.
    pub commit_interval: Option<Spanned<Duration>>,
    /// How long a stop waits for what is in flight.
    pub drain: Option<Spanned<Duration>>,
    /// After how long without progress its consumer is replaced; the inner `None`: never.
    pub watchdog: Option<Spanned<Option<Duration>>>,
    /// How often a record may pass, where the stage is part of a loop.
    pub max_hops: Option<Spanned<i64>>,
    /// What consumers of the outputs may rely on.
    pub delivery: Option<Spanned<Guarantee>>,
}

/// One destination as written.
#[derive(Debug, Clone)]
pub struct OutputSpec<'a> {
    /// The place of the table, or of `to` in the short form.
    pub span: Span,
    /// The topic.
    pub to: Option<Spanned<String>>,
    /// Which records it takes: an expression.
    pub when: Option<Spanned<String>>,
    /// The key of what is written: an expression.
    pub key: Option<Spanned<String>>,
    /// Headers of what is written: templates.
    pub headers: Vec<&'a Entry>,
}

/// The keys of a stage, for findings about keys that ended up in a step.
pub const STAGE_KEYS: [&str; 31] = [
    "from",
    "to",
    "outputs",
    "match",
    "unmatched",
    "order",
    "concurrency",
    "window",
    "span",
    "max_parked",
    "start",
    "on_lost",
    "decode",
    "tombstones",
    "steps",
    "retry",
    "dlq",
    "breaker",
    "rate_limit",
    "dedupe",
    "deadline",
    "commit_interval",
    "drain",
    "watchdog",
    "max_hops",
    "delivery",
    "description",
    "owner",
    "runbook",
    "labels",
    "was",
];

/// How many records a bound may allow.
const RECORDS: RangeInclusive<i64> = 1..=10_000_000;

impl<'a> StageSpec<'a> {
    /// Reads a whole `[stages.NAME]`.
    pub fn read(mut table: TableReader<'a>) -> Self {
        let was = table.own_name("was");
        let about = About::read(&mut table);
        let (window_records, window_bytes) = read_bound(&mut table, "window");
        let (span_records, span_bytes) = read_bound(&mut table, "span");
        let (parked_records, parked_bytes) = read_bound(&mut table, "max_parked");
        let from = table.required("from", TableReader::names);
        let to = table.entry("to").map(|entry| entry.key_span);
        let outputs = read_outputs(&mut table);
        let (transient_breaker, permanent_breaker) = read_breakers(&mut table);
        let rate_limit = read_rate_limit(&mut table);
        let dedupe = read_dedupe(&mut table);
        let spec = Self {
            span: table.span(),
            about,
            was,
            from,
            outputs,
            to,
            match_all: table.word("match", &[("first", false), ("all", true)]),
            unmatched: table
                .word("unmatched", &[("dead-letter", Unmatched::DeadLetter), ("drop", Unmatched::Drop)]),
            order: table.word(
                "order",
                &[("key", Order::Key), ("partition", Order::Partition), ("none", Order::None)],
            ),
            concurrency: table.integer("concurrency", 1..=100_000),
            window_records,
            window_bytes,
            span_records,
            span_bytes,
            parked_records,
            parked_bytes,
            start: read_start(&mut table),
            on_lost: table.word("on_lost", &[("halt", OnLost::Halt), ("earliest", OnLost::Earliest)]),
            decode: table.word(
                "decode",
                &[("json", Decoding::Json), ("text", Decoding::Text), ("bytes", Decoding::Bytes)],
            ),
            tombstones: table.word(
                "tombstones",
                &[
                    ("dead-letter", Tombstones::DeadLetter),
                    ("drop", Tombstones::Drop),
                    ("forward", Tombstones::Forward),
                    ("steps", Tombstones::Steps),
                ],
            ),
            steps: read_steps(&mut table),
            retry: table.name("retry"),
            dlq: table.name("dlq"),
            transient_breaker,
            permanent_breaker,
            rate_limit,
            dedupe,
            deadline: table.duration("deadline"),
            commit_interval: table.duration("commit_interval"),
            drain: table.duration("drain"),
            watchdog: read_watchdog(&mut table),
            max_hops: table.integer("max_hops", 1..=1_000),
            delivery: table.word(
                "delivery",
                &[("at-least-once", Guarantee::AtLeastOnce), ("exactly-once", Guarantee::ExactlyOnce)],
            ),
        };
        table.finish();
        spec
    }
}

/// Reads `[[….steps]]`, of a stage or of a step group.
pub fn read_steps<'a>(table: &mut TableReader<'a>) -> Vec<&'a Table> {
    table.tables("steps").unwrap_or_default().into_iter().map(|step| step.table).collect()
}

/// Reads a whole `[step_groups.NAME]`: its steps.
pub fn read_step_group(mut table: TableReader<'_>) -> Vec<&Table> {
    About::read(&mut table);
    let steps = table.required("steps", |table, _| Some(read_steps(table))).unwrap_or_default();
    table.finish();
    steps
}

type WrittenBound = (Option<Spanned<i64>>, Option<Spanned<ByteSize>>);

/// `{ records = 10_000, bytes = "64MiB" }`
fn read_bound(table: &mut TableReader<'_>, key: &str) -> WrittenBound {
    let Some(mut bound) = table.table(key) else { return (None, None) };
    let read = (bound.integer("records", RECORDS), bound.size("bytes"));
    bound.finish();
    read
}

/// `"2m"`, or `"off"`.
fn read_watchdog(table: &mut TableReader<'_>) -> Option<Spanned<Option<Duration>>> {
    let expected = "a duration such as \"2m\", or \"off\"";
    table.parsed("watchdog", expected, Some(Duration::from_secs(120)), |text| {
        if text == "off" {
            return Ok(None);
        }
        match parse_duration(text) {
            // The ends of partitions are looked up about once a second.
            Ok(limit) if limit < Duration::from_secs(1) => Err("must be 1s or more".to_owned()),
            Ok(limit) => Ok(Some(limit)),
            Err(error) => Err(error.0),
        }
    })
}

fn read_start(table: &mut TableReader<'_>) -> Option<Spanned<Start>> {
    let node = table.node("start")?;
    if let NodeValue::Datetime(_) = &node.value {
        let time = table.datetime("start")?;
        let at = moment(&time.value.to_string());
        if at.is_none() {
            table.wrong_type("start", node, "a datetime with an offset such as 2026-01-01T00:00:00Z");
        }
        return at.map(|at| time.map(|_| at));
    }
    let words = [("earliest", Start::Earliest), ("latest", Start::Latest)];
    if !node.as_text().is_some_and(|text| is_template(&text.value)) {
        return table.word("start", &words);
    }
    // A time from `env` is a text.
    let text = table.string("start")?;
    let word = words.iter().find(|(word, _)| *word == text.value).map(|(_, start)| *start);
    let start = if text.known { word.or_else(|| moment(&text.value)) } else { Some(Start::Earliest) };
    if start.is_none() {
        table.no_word("start", "be", &text, ["earliest", "latest", "2026-01-01T00:00:00Z"].into_iter());
    }
    start.map(|start| text.map(|_| start))
}

fn moment(text: &str) -> Option<Start> {
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    Some(Start::At(time.timestamp_millis()))
}

/// `to = "topic"`, or `[[….outputs]]`; both is an error that the catalog reports.
fn read_outputs<'a>(table: &mut TableReader<'a>) -> Option<Vec<OutputSpec<'a>>> {
    let short = match table.entry("to") {
        None => None,
        Some(entry) => {
            let to = table.name("to")?;
            let (span, to) = (entry.key_span, Some(to));
            Some(OutputSpec { span, to, when: None, key: None, headers: Vec::new() })
        }
    };
    let listed = match table.node("outputs") {
        None => Vec::new(),
        Some(_) => table.tables("outputs")?.into_iter().map(read_output).collect(),
    };
    Some(short.into_iter().chain(listed).collect())
}

fn read_output(mut table: TableReader<'_>) -> OutputSpec<'_> {
    let headers = table.table("headers").map(|mut headers| headers.rest()).unwrap_or_default();
    let output = OutputSpec {
        span: table.span(),
        to: table.required("to", TableReader::name),
        when: table.text("when"),
        key: table.text("key"),
        headers,
    };
    About::read(&mut table);
    for stray in table.strays(&STAGE_KEYS) {
        let message = format!("`{}` is a key of the stage, but stands in {}", stray.key, table.what);
        table.report(
            Diagnostic::new(&codes::TOML_KEY_AFTER_STEPS, message)
                .at(stray.key_span, "belongs to the output above it")
                .help("move it above the first `[[…outputs]]` and `[[…steps]]` of the stage"),
        );
    }
    table.finish();
    output
}
