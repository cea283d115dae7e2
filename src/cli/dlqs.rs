//! `biplane dlqs list|show`: what lies in the DLQs, grouped by stage and code, and one dead letter in
//! full.
//!
//! Reads the topics themselves, outside any group. A record that another program wrote there is
//! listed under the stage and code `-`.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::arguments::{Format, GlobalArguments};
use super::exit::{CliError, CliResult, Exit};
use super::progress::Progress;
use super::scan::{self, Part, Seen};
use super::{connect, output, root};
use crate::broker::Consumer;
use crate::record::{OwnedRecord, RawRecord};

/// The dead letters of one stage and code in one DLQ.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Group {
    dlq: String,
    topic: String,
    stage: String,
    code: String,
    count: u64,
    /// RFC 3339, as the dead letters say.
    first_failed_at: Option<String>,
    last_failed_at: Option<String>,
}

pub(super) fn list(global: &GlobalArguments, format: Format) -> CliResult {
    let client = connect::client(global)?;
    let Some(catalog) = root::load_for(global, format)? else {
        return Ok(Exit::Findings);
    };
    let looker = scan::looker(&client, &format!("{}.dlqs", global.namespace))?;
    let mut topics = Vec::new();
    for (name, dlq) in catalog.dlqs() {
        topics.push((name, dlq, scan::parts(&looker, &dlq.topic.physical)?));
    }
    let records = topics.iter().flat_map(|(_, _, parts)| parts).map(Part::len).sum();
    let mut progress = Progress::new(records, "reading the DLQs");
    let mut groups = Vec::new();
    for (name, dlq, parts) in topics {
        let mut found = BTreeMap::new();
        scan::read(&looker, &parts, |raw| {
            count(&mut found, raw);
            progress.step();
            Seen::More
        })?;
        groups.extend(found.into_iter().map(|((stage, code), tally)| Group {
            dlq: name.to_string(),
            topic: dlq.topic.physical.to_string(),
            stage,
            code,
            count: tally.count,
            first_failed_at: tally.first,
            last_failed_at: tally.last,
        }));
    }
    progress.finish();
    match format {
        Format::Json => output::json(&groups)?,
        Format::Text => {
            let header = ["dlq", "stage", "code", "count", "first-failed-at", "last-failed-at"];
            output::print_table(&header, groups.iter().map(row).collect(), "no dead letters")?;
        }
    }
    Ok(Exit::Clean)
}

/// Which dead letter is shown.
pub(super) struct Which<'a> {
    pub(super) name: &'a str,
    pub(super) partition: Option<i32>,
    pub(super) offset: Option<i64>,
}

pub(super) fn show(global: &GlobalArguments, which: &Which<'_>, format: Format) -> CliResult {
    let client = connect::client(global)?;
    let Some(catalog) = root::load_for(global, format)? else {
        return Ok(Exit::Findings);
    };
    let Some(dlq) = catalog.dlqs().get(which.name) else {
        return Err(CliError::usage(format!("there is no DLQ `{}`", which.name)));
    };
    let looker = scan::looker(&client, &format!("{}.dlqs", global.namespace))?;
    let mut parts = scan::parts(&looker, &dlq.topic.physical)?;
    parts.retain(|part| which.partition.is_none_or(|number| number == part.partition.partition));
    let found = match which.offset {
        Some(offset) => at(&looker, &parts, offset)?,
        None => newest(&looker, &parts)?,
    };
    let Some(record) = found else {
        let place = match (which.partition, which.offset) {
            (Some(partition), Some(offset)) => format!("at {}[{partition}]@{offset}", dlq.topic.physical),
            (Some(partition), None) => format!("in {}[{partition}]", dlq.topic.physical),
            _ => format!("in {}", dlq.topic.physical),
        };
        return Err(CliError::failed(format!("there is no dead letter {place}")));
    };
    let letter = Letter::from(&record.as_raw());
    match format {
        Format::Json => output::json(&letter)?,
        Format::Text => output::print(&letter.text())?,
    }
    Ok(Exit::Clean)
}

/// The record at one offset of these partitions.
fn at(looker: &Consumer, parts: &[Part], offset: i64) -> CliResult<Option<OwnedRecord>> {
    let holds = |part: &&Part| (part.from..part.end).contains(&offset);
    let exact = parts.iter().filter(holds).map(|part| Part { from: offset, end: offset + 1, ..part.clone() });
    let found = scan::firsts(looker, &exact.collect::<Vec<_>>(), |raw| raw.to_owned())?;
    Ok(found.into_values().next())
}

/// The newest record of these partitions.
fn newest(looker: &Consumer, parts: &[Part]) -> CliResult<Option<OwnedRecord>> {
    let lasts = scan::lasts(looker, parts)?;
    Ok(lasts.into_iter().max_by_key(|record| record.as_raw().timestamp))
}

#[derive(Debug, Default)]
struct Tally {
    count: u64,
    first: Option<String>,
    last: Option<String>,
}

fn count(groups: &mut BTreeMap<(String, String), Tally>, raw: &RawRecord<'_>) {
    let says = |name| header(raw, name).unwrap_or_else(|| "-".to_owned());
    let tally = groups.entry((says("biplane-stage"), says("biplane-error-code"))).or_default();
    tally.count += 1;
    // RFC 3339 in UTC sorts as text.
    if let Some(at) = header(raw, "biplane-failed-at") {
        if tally.first.as_ref().is_none_or(|first| at < *first) {
            tally.first = Some(at.clone());
        }
        if tally.last.as_ref().is_none_or(|last| at > *last) {
            tally.last = Some(at);
        }
    }
}

fn header(raw: &RawRecord<'_>, name: &str) -> Option<String> {
    let value = raw.headers.last(name)??;
    Some(String::from_utf8_lossy(value).into_owned()).filter(|text| !text.is_empty())
}

fn row(group: &Group) -> [String; 6] {
    let time = |at: &Option<String>| at.clone().unwrap_or_else(|| "-".to_owned());
    [
        group.dlq.clone(),
        group.stage.clone(),
        group.code.clone(),
        group.count.to_string(),
        time(&group.first_failed_at),
        time(&group.last_failed_at),
    ]
}

/// One record in full. Bytes that are text are shown as text.
#[derive(Debug, Serialize)]
struct Letter {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Shown>,
    value: Option<Shown>,
    headers: Vec<(String, Option<Shown>)>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Shown {
    Text(String),
    Base64(String),
}

impl Shown {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }

    /// For a terminal: control characters are escaped, so that a record cannot steer it.
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text
                .chars()
                .map(|c| match c {
                    '\n' | '\t' => c.to_string(),
                    c if c.is_control() => c.escape_unicode().to_string(),
                    c => c.to_string(),
                })
                .collect(),
            Self::Base64(text) => format!("base64:{text}"),
        }
    }
}

impl Letter {
    fn from(raw: &RawRecord<'_>) -> Self {
        let headers = (0..raw.headers.len()).map(|index| {
            let (name, value) = raw.headers.get(index);
            (name.to_owned(), value.map(Shown::new))
        });
        Self {
            topic: raw.topic.to_owned(),
            partition: raw.partition,
            offset: raw.offset,
            timestamp: raw.timestamp,
            key: raw.key.map(Shown::new),
            value: raw.value.map(Shown::new),
            headers: headers.collect(),
        }
    }

    fn text(&self) -> String {
        let shown = |value: &Option<Shown>| value.as_ref().map_or_else(|| "null".to_owned(), Shown::text);
        let mut text = format!("record  {}[{}]@{}\n", self.topic, self.partition, self.offset);
        // Writing into a string cannot fail.
        let _ = writeln!(text, "key     {}\n\nheaders", shown(&self.key));
        let width = self.headers.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in &self.headers {
            let _ = writeln!(text, "  {name:<width$}  {}", shown(value));
        }
        let _ = writeln!(text, "\nvalue\n{}", shown(&self.value));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::HeaderSource;

    struct Headers(Vec<(&'static str, &'static [u8])>);

    impl HeaderSource for Headers {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn get(&self, index: usize) -> (&str, Option<&[u8]>) {
            (self.0[index].0, Some(self.0[index].1))
        }
    }

    fn raw<'a>(headers: &'a Headers, value: &'a [u8]) -> RawRecord<'a> {
        let (topic, key) = ("dlq", Some(b"k".as_slice()));
        RawRecord {
            topic,
            partition: 1,
            offset: 2,
            timestamp: None,
            log_append: false,
            key,
            value: Some(value),
            headers,
        }
    }

    #[test]
    fn dead_letters_are_counted_by_stage_and_code_with_their_first_and_last_time() {
        let mut groups = BTreeMap::new();
        for at in ["2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"] {
            let headers = Headers(vec![
                ("biplane-stage", b"s"),
                ("biplane-error-code", b"schema"),
                ("biplane-failed-at", at.as_bytes()),
            ]);
            count(&mut groups, &raw(&headers, b""));
        }
        count(&mut groups, &raw(&Headers(Vec::new()), b""));
        let tally = &groups[&("s".to_owned(), "schema".to_owned())];
        assert_eq!(tally.count, 3);
        assert_eq!(tally.first.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(tally.last.as_deref(), Some("2026-01-03T00:00:00Z"));
        assert_eq!(groups[&("-".to_owned(), "-".to_owned())].count, 1);
    }

    #[test]
    fn a_record_is_shown_whole_and_cannot_steer_the_terminal() {
        let headers = Headers(vec![("h", b"\x1b[2J"), ("b", b"\xff")]);
        let text = Letter::from(&raw(&headers, b"{\"a\":1}\n\x07")).text();
        assert!(text.starts_with("record  dlq[1]@2\nkey     k\n"), "{text}");
        assert!(text.contains("{\"a\":1}\n\\u{7}") && text.contains("\\u{1b}[2J"), "{text}");
        assert!(text.contains("base64:/w=="), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
