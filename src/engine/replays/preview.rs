//! What a replay would send: counts by stage and code, and the first few records.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ReplayError;
use super::counts::{Counts, Fate};
use super::judge::Judge;
use crate::broker::Consumer;
use crate::engine::scan::{self, Part, Seen};
use crate::events::letters::Letter;
use crate::record::RawRecord;

/// How many records are shown.
const FIRST: usize = 5;
/// The most pairs of stage and code that are told apart; the rest is summed up under `…`.
const MOST_GROUPS: usize = 1_000;

/// So many of one stage and code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The stage; `-` where that is not said.
    pub stage: String,
    /// The code; `-` where that is not said.
    pub code: String,
    /// How many.
    pub count: u64,
}

/// One of the first records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct First {
    /// Its partition in the topic that is read.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its key as text.
    pub key: Option<String>,
    /// Its code, where it is a dead letter.
    pub code: Option<String>,
}

/// What a replay would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// What would become of the records; `sent` are those that would be sent.
    pub counts: Counts,
    /// What would be sent, by stage and code.
    pub groups: Vec<Group>,
    /// The first of these.
    pub first: Vec<First>,
}

pub(super) fn read(
    consumer: &Consumer,
    parts: &[Part],
    judge: &Judge,
    mut step: impl FnMut(),
) -> Result<Preview, ReplayError> {
    let mut preview = Preview::default();
    let mut groups: BTreeMap<(String, String), u64> = BTreeMap::new();
    scan::read(consumer, parts, |raw: &RawRecord<'_>| {
        let letter = Letter::read(raw);
        let fate = judge.judge(raw, &letter).map_or_else(|fate| fate, |()| Fate::Sent);
        preview.counts.add(fate);
        if fate == Fate::Sent {
            let of = |text: Option<&str>| text.unwrap_or("-").to_owned();
            let mut name = (of(letter.stage), of(letter.code));
            if groups.len() >= MOST_GROUPS && !groups.contains_key(&name) {
                name = ("…".to_owned(), "…".to_owned());
            }
            *groups.entry(name).or_default() += 1;
            if preview.first.len() < FIRST {
                preview.first.push(first(raw, &letter));
            }
        }
        step();
        Seen::More
    })?;
    preview.groups = groups.into_iter().map(|((stage, code), count)| Group { stage, code, count }).collect();
    Ok(preview)
}

fn first(raw: &RawRecord<'_>, letter: &Letter<'_>) -> First {
    First {
        partition: raw.partition,
        offset: raw.offset,
        key: raw.key.map(|key| String::from_utf8_lossy(key).into_owned()),
        code: letter.code.map(str::to_owned),
    }
}
