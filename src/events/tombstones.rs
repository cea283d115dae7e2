//! Null values: past the steps, as the stage says. Steps that are to see them are not started here.

use super::program::{Batch, Part, Prepared, Program, Target, Verdict};
use crate::base::Failure;
use crate::catalog::{Output, Tombstones};
use crate::expr::{Root, RootSet};
use crate::record::{HeaderChange, Item, RawRecord};

impl Program {
    /// What becomes of a null value; `None` where the steps see it, or the value is not null.
    pub(super) fn tombstone(
        &self,
        raw: &RawRecord<'_>,
        hop: Option<&HeaderChange>,
        batch: &mut Batch,
    ) -> Result<Option<Verdict>, Failure> {
        if raw.value.is_some() {
            return Ok(None);
        }
        match self.stage.tombstones {
            Tombstones::Steps => Ok(None),
            Tombstones::Drop => Ok(Some(Verdict::Filtered)),
            Tombstones::DeadLetter => Err(Failure::permanent(
                "tombstone",
                "the value is null; say `tombstones = \"steps\"`, \"forward\" or \"drop\" if that is meant",
            )
            .dead_lettered()),
            Tombstones::Forward => self.forward(raw, hop, batch).map(Some),
        }
    }

    /// Sends a null value past the steps: to the first output that takes every record, or to all of
    /// these. A `when` would have to look at a value that is not there, so such an output takes none.
    fn forward(
        &self,
        raw: &RawRecord<'_>,
        hop: Option<&HeaderChange>,
        batch: &mut Batch,
    ) -> Result<Verdict, Failure> {
        if self.stage.outputs.is_empty() {
            return Ok(Verdict::Send);
        }
        let open = self.stage.outputs.iter().enumerate().filter(|(_, output)| output.when.is_none());
        for (index, output) in open.take(if self.stage.match_all { usize::MAX } else { 1 }) {
            let mut item = Item::new(*raw, &*self.stage.codec, 1);
            let key = self.tombstone_key(output, &mut item, batch)?;
            let headers = self.headers(output, &mut item, hop, |reads| !needs_value(reads))?;
            batch.outputs.push(Prepared { target: Target::Output(index), key, value: Part::Null, headers });
        }
        if batch.outputs.is_empty() {
            self.untaken(batch)?;
            return Ok(Verdict::Unmatched);
        }
        Ok(Verdict::Send)
    }

    /// Under another key than that of the records it stands for, a tombstone would delete the wrong one.
    fn tombstone_key(
        &self,
        output: &Output,
        item: &mut Item<'_>,
        batch: &mut Batch,
    ) -> Result<Part, Failure> {
        if output.key.as_ref().is_some_and(|key| needs_value(key.reads())) {
            return Err(Failure::permanent(
                "tombstone",
                format!("the key for `{}` is made of the value, which is null", output.topic.name),
            )
            .dead_lettered());
        }
        self.key(output, item, batch)
    }
}

/// Whether an expression looks at what a tombstone has not: a value, or results of steps.
fn needs_value(reads: RootSet) -> bool {
    reads.contains(Root::Value) || reads.contains(Root::Steps)
}
