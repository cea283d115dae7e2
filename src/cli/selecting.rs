//! Which dead letters or records a command is about: the arguments that several commands share.

use clap::Args;

use super::exit::{CliError, CliResult};
use super::output;
use crate::base::parse_duration;
use crate::catalog::Catalog;
use crate::engine::replays::codecs;
use crate::events::letters::{Filters, Letter, Match, Selection};
use crate::record::RawRecord;

/// Filters over dead letters and records; all that are given must hold.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which")]
pub struct SelectArguments {
    /// The stage that gave the record up; may be given several times
    #[arg(long, value_name = "STAGE")]
    stage: Vec<String>,
    /// The code, a pattern such as `http-5xx`, or a class such as `transient`; may be given several times
    #[arg(long, value_name = "CODE")]
    code: Vec<String>,
    /// The fingerprint, which failures that are alike share; may be given several times
    #[arg(long, value_name = "TEXT")]
    fingerprint: Vec<String>,
    /// Not before then: RFC 3339, or so long ago (`2h`). Of dead letters the last failure counts
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<i64>,
    /// Before then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<i64>,
    /// The key
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// An expression over `value`, `key`, `headers`, `topic`, `partition`, `offset`, `timestamp` and `error`
    #[arg(long = "where", value_name = "EXPRESSION")]
    expression: Option<String>,
}

/// Which offsets a command is about.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which")]
pub struct RangeArguments {
    /// The partition of the topic that is read
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// The first offset in that partition
    #[arg(long, value_name = "OFFSET", requires = "partition", value_parser = clap::value_parser!(i64).range(0..))]
    from_offset: Option<i64>,
    /// The offset behind the last
    #[arg(long, value_name = "OFFSET", requires = "partition", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
}

impl SelectArguments {
    /// The filters as they are kept.
    pub(super) fn filters(&self, range: &RangeArguments) -> Filters {
        Filters {
            stages: self.stage.clone(),
            codes: self.code.clone(),
            fingerprints: self.fingerprint.clone(),
            since: self.since,
            until: self.until,
            key: self.key.clone(),
            partition: range.partition,
            from_offset: range.from_offset,
            to_offset: range.to_offset,
            expression: self.expression.clone(),
        }
    }
}

/// A moment, in milliseconds since the Unix epoch.
pub(super) fn moment(text: &str) -> Result<i64, String> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    let ago = parse_duration(text).map_err(|_| {
        "expected a time such as `2026-01-31T08:00:00Z`, or how long ago, such as `2h`".to_owned()
    })?;
    Ok(chrono::Utc::now().timestamp_millis() - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))
}

/// A selection of dead letters at work, which counts those that it cannot judge.
pub(super) struct Choosing {
    selection: Selection,
    undecodable: u64,
    undecided: u64,
}

impl Choosing {
    /// Dead letters of the DLQs of `catalog`.
    pub(super) fn new(filters: Filters, catalog: &Catalog) -> CliResult<Self> {
        let selection = Selection::of_letters(filters, codecs(catalog))
            .map_err(|error| CliError::usage(error.to_string()))?;
        Ok(Self { selection, undecodable: 0, undecided: 0 })
    }

    /// Whether this one is meant.
    pub(super) fn takes(&mut self, raw: &RawRecord<'_>, letter: &Letter<'_>) -> bool {
        match self.selection.judge(raw, Some(letter)) {
            Match::Yes => return true,
            Match::No => {}
            Match::Undecodable => self.undecodable += 1,
            Match::Failed => self.undecided += 1,
        }
        false
    }

    /// Says how many could not be judged.
    pub(super) fn tell(&self) {
        tell_unjudged(self.undecodable, self.undecided);
    }
}

/// Says how many records an expression could not judge.
pub(super) fn tell_unjudged(undecodable: u64, undecided: u64) {
    let records = |count: u64| if count == 1 { "1 record".to_owned() } else { format!("{count} records") };
    if undecodable > 0 {
        let records = records(undecodable);
        output::note(&format!("left out: {records} whose value --where reads and nobody can decode"));
    }
    if undecided > 0 {
        let records = records(undecided);
        output::note(&format!(
            "left out: {records} on which --where fails, as where a field is not there; \
             `value.x | default('')` and `is defined` ask first"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_or_how_long_ago() {
        assert_eq!(moment("2026-01-02T00:00:00Z"), Ok(1_767_312_000_000));
        assert_eq!(moment("2026-01-02T01:00:00+01:00"), Ok(1_767_312_000_000));
        let now = chrono::Utc::now().timestamp_millis();
        assert!(moment("2h").is_ok_and(|at| (now - at - 7_200_000).abs() < 60_000));
        assert!(moment("yesterday").is_err_and(|help| help.contains("such as `2h`")));
    }
}
