//! What of a record is sent again: its own key, value and headers, without what dead-lettering added, with
//! how often it was sent again and, where a stage is to take it for its original, where that lay.

use super::{Letter, ORIGIN_HEADER, Origin};
use crate::broker::OutHeaders;
use crate::catalog::DlqHeaders;
use crate::record::RawRecord;

/// The header that counts how often a record was sent again.
const REPLAYS: &str = "biplane-replays";

/// A record on its way again; reused from one to the next.
#[derive(Debug, Default)]
pub struct Again {
    /// Whether what dead-lettering added is taken off.
    letters: bool,
    /// The names that other tools read, where the DLQ writes them.
    conventions: Vec<&'static str>,
    /// The headers that are the record's own.
    kept: Vec<usize>,
    origin: Vec<u8>,
}

impl Again {
    /// For the records of any topic, which keep all that they have.
    pub fn of_records() -> Self {
        Self::default()
    }

    /// For dead letters of a DLQ that writes these headers.
    pub fn of_letters(written: &[DlqHeaders]) -> Self {
        let prefix = |convention: &DlqHeaders| match convention {
            DlqHeaders::Biplane => None,
            DlqHeaders::Connect => Some("__connect.errors."),
            DlqHeaders::Streams => Some("__streams.errors."),
            DlqHeaders::Spring => Some("kafka_dlt-"),
        };
        Self { letters: true, conventions: written.iter().filter_map(prefix).collect(), ..Self::default() }
    }

    /// Reads what `raw` says of itself, and remembers which of its headers are its own.
    pub fn read<'a>(&mut self, raw: &RawRecord<'a>) -> Letter<'a> {
        self.kept.clear();
        if self.letters {
            return Letter::read_with(raw, |index| self.kept.push(index));
        }
        let own = |index: &usize| ![REPLAYS, ORIGIN_HEADER].contains(&raw.headers.get(*index).0);
        self.kept.extend((0..raw.headers.len()).filter(own));
        let times = raw.headers.last(REPLAYS).flatten().and_then(|bytes| std::str::from_utf8(bytes).ok());
        let replays = times.and_then(|text| text.parse().ok()).unwrap_or_default();
        Letter { replays, ..Letter::default() }
    }

    /// The headers to send the record that was read last with, after `replays` times before.
    pub fn headers(&mut self, raw: &RawRecord<'_>, replays: u32, origin: Option<&Origin<'_>>) -> OutHeaders {
        let mut headers = OutHeaders::new(self.kept.len() + 2);
        for index in &self.kept {
            let (name, value) = raw.headers.get(*index);
            if !self.conventions.iter().any(|prefix| name.starts_with(prefix)) {
                headers.push(name, value);
            }
        }
        headers.push(REPLAYS, Some(itoa::Buffer::new().format(replays.saturating_add(1)).as_bytes()));
        if let Some(origin) = origin {
            self.origin.clear();
            origin.write(&mut self.origin);
            headers.push(ORIGIN_HEADER, Some(&self.origin));
        }
        headers
    }
}
