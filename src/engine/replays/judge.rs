//! Which records a replay takes: the one place that says so, for the preview and for the run.

use super::counts::Fate;
use super::spec::{Source, Spec};
use crate::catalog::Catalog;
use crate::engine::control::Settled;
use crate::events::letters::{Codecs, FiltersError, Letter, Match, Selection};
use crate::record::RawRecord;

/// See the module's documentation.
pub(super) struct Judge {
    selection: Selection,
    /// Dead letters that are not offered again; `None`: all are.
    settled: Option<Settled>,
    topic: String,
    dead_letters: bool,
    max_replays: u32,
}

/// How the stages of a catalog read their values.
pub fn codecs(catalog: &Catalog) -> Codecs {
    catalog.stages().iter().map(|(name, stage)| (name.clone(), stage.codec.clone())).collect()
}

impl Judge {
    /// For `spec`; `settled` is what the control topic says now.
    ///
    /// # Errors
    /// Where the filters mean nothing.
    pub(super) fn new(spec: &Spec, catalog: &Catalog, settled: Settled) -> Result<Self, FiltersError> {
        let dead_letters = matches!(spec.source, Source::Dlq(_));
        let filters = spec.filters.clone();
        let selection = match dead_letters {
            true => Selection::of_letters(filters, codecs(catalog))?,
            false => Selection::of_records(filters, codecs(catalog))?,
        };
        Ok(Self {
            selection,
            settled: (dead_letters && !spec.all).then_some(settled),
            topic: spec.topic.clone(),
            dead_letters,
            max_replays: spec.max_replays,
        })
    }

    /// Whether the record is to be sent again, or what becomes of it.
    pub(super) fn judge(&self, raw: &RawRecord<'_>, letter: &Letter<'_>) -> Result<(), Fate> {
        if let Some(settled) = &self.settled
            && settled.is_settled(&self.topic, raw.partition, raw.offset).is_some()
        {
            return Err(Fate::Settled);
        }
        match self.selection.judge(raw, self.dead_letters.then_some(letter)) {
            Match::Yes if letter.replays >= self.max_replays => Err(Fate::Limit),
            Match::Yes if self.dead_letters && letter.truncated => Err(Fate::Truncated),
            Match::Yes => Ok(()),
            Match::No => Err(Fate::Unselected),
            Match::Undecodable => Err(Fate::Undecodable),
            Match::Failed => Err(Fate::Undecided),
        }
    }
}
