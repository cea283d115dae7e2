//! Parking topics that are gone, with records in them that are done on their input.
//!
//! A commit of an input says how many of its records are parked, and is made with each commit of the parking
//! topic. So whoever is given the input, in whichever order engine and group hear of it, finds that the
//! parking topic does not hold them any more. Then the stage halts, or says so and goes on, as `on_lost` says;
//! until it goes on, nothing is committed that would hide the loss.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::scan::Bounds;
use crate::base::guard::{self, Guard};
use crate::broker::{BrokerError, StartAt, TopicPartition};
use crate::catalog::OnLost;
use crate::events::delivery::Begin;
use crate::events::metadata::Outstanding;
use crate::events::partitions::Partition;
use crate::events::runner::Runner;
use crate::events::sources::Role;

/// So many partitions are named where the stage says what is lost.
const NAMED: usize = 5;

/// Parked records that are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::events) struct Loss {
    /// Where they came from.
    input: TopicPartition,
    /// Where they were parked.
    parking: TopicPartition,
    /// Which.
    parked: Outstanding,
    /// Where reading the parking partition has to go on, where it is read from elsewhere: its oldest offset
    /// and the one behind its newest record.
    bounds: Option<(i64, i64)>,
}

/// Whether a parking partition may hold so many records: the group's commit lies in it, or where there is
/// none, that many are there.
fn holds(committed: Option<i64>, (low, high): (i64, i64), parked: Outstanding) -> bool {
    match committed {
        Some(offset) => offset <= high,
        None => high - low >= i64::from(parked.records),
    }
}

impl Begin {
    /// The offset that a commit has given.
    fn found(&self) -> Option<i64> {
        match self.at {
            StartAt::Offset(offset) if self.committed.is_some() || self.inherited => Some(offset),
            _ => None,
        }
    }
}

impl Runner {
    /// What is known by now of parked records is what the commits of their inputs say.
    pub(in crate::events) fn say_parked(&mut self) {
        let mut said: BTreeMap<u32, (u32, Option<i64>, bool, bool)> = BTreeMap::new();
        for slot in self.partitions.slots() {
            let Some(partition) = self.partitions.get(slot).filter(|one| one.role == Role::Parked) else {
                continue;
            };
            let input = self.sources.parked_of(&partition.name.topic);
            let Some(input) = input.and_then(|input| self.partitions.find(input, partition.name.partition))
            else {
                continue;
            };
            let (records, dirty, known) =
                (self.parked.store.of(slot), partition.dirty, partition.scan_to.is_none());
            match records {
                0 => self.parked.from.remove(&slot),
                _ => None,
            };
            let from = self.parked.from.get(&slot).copied();
            let all = said.entry(input).or_insert((0, None, false, true));
            all.0 = all.0.saturating_add(u32::try_from(records).unwrap_or(u32::MAX));
            all.1 = all.1.into_iter().chain(from).min();
            (all.2, all.3) = (all.2 || dirty, all.3 && known);
        }
        for (slot, (records, from, dirty, known)) in said {
            let Some(partition) = self.partitions.get_mut(slot) else { continue };
            let lost = self.parked.lost.iter().any(|loss| loss.input == partition.name);
            if known && !lost {
                // Before anything of it was read it has nothing to commit.
                partition.dirty |= dirty && partition.position().is_some();
                partition.beyond.parked =
                    from.filter(|_| records > 0).map(|from| Outstanding { records, from });
            }
        }
    }

    /// Whether a parking partition must not be committed: that would say that it never held more.
    pub(in crate::events) fn hides_loss(&self, partition: &Partition) -> bool {
        !self.parked.lost.is_empty() && self.is_lost(&partition.name)
    }

    fn is_lost(&self, name: &TopicPartition) -> bool {
        let input = self.sources.parked_of(&name.topic);
        let of = |loss: &Loss| input.is_some_and(|input| *loss.input.topic == **input);
        self.parked.lost.iter().any(|loss| of(loss) && loss.input.partition == name.partition)
    }

    /// Which parked records of the inputs among these are not where they were parked.
    ///
    /// # Errors
    /// Where the brokers do not answer in time.
    pub(in crate::events) fn missing(
        &self,
        begins: &[Begin],
        bounds: &Bounds,
        deadline: Instant,
    ) -> Result<Vec<Loss>, BrokerError> {
        let mut missing = Vec::new();
        for begin in begins.iter().filter(|begin| self.sources.role(&begin.partition.topic) == Role::Input) {
            let Some(parked) = begin.beyond.parked.filter(|_| !guard::removed(Guard::Missing)) else {
                continue;
            };
            let input = &begin.partition;
            let beside: Vec<_> = self.sources.beside(&input.topic).collect();
            let (mut first, mut held) = (None, beside.is_empty());
            for topic in beside {
                let name = TopicPartition::new(Arc::clone(topic), input.partition);
                let begins = begins.iter().find(|begin| begin.partition == name);
                held = held
                    || match (begins, bounds.get(&name)) {
                        (Some(begin), Some(bounds)) => holds(begin.found(), *bounds, parked),
                        _ => self.holds_elsewhere(&name, parked, deadline)?,
                    };
                first = first.or(Some(name));
            }
            if let Some(parking) = first.filter(|_| !held) {
                missing.push(Loss { input: input.clone(), parking, parked, bounds: None });
            }
        }
        Ok(missing)
    }

    /// Whether a parking partition that is not this engine's, as it may be for a moment while members join,
    /// is there and may hold so many records.
    fn holds_elsewhere(
        &self,
        name: &TopicPartition,
        parked: Outstanding,
        deadline: Instant,
    ) -> Result<bool, BrokerError> {
        let left = || deadline.saturating_duration_since(Instant::now());
        match self.consumer.partition_count(&name.topic, left()) {
            Ok(count) if name.partition < count => {}
            Ok(_) | Err(BrokerError::UnknownTopic(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        let committed = self.consumer.committed(std::slice::from_ref(name), left())?;
        let committed = committed.first().and_then(|committed| committed.offset);
        Ok(holds(committed, self.consumer.watermarks(name, left())?, parked))
    }

    /// What a parking partition held from its position on is gone from the broker, which has these bounds;
    /// `None` where nothing of it was parked.
    pub(in crate::events) fn loss_of(
        &self,
        name: &TopicPartition,
        next: i64,
        (low, high): (i64, i64),
    ) -> Option<Loss> {
        let slot = self.partitions.find(&name.topic, name.partition)?;
        let input = TopicPartition::new(&**self.sources.parked_of(&name.topic)?, name.partition);
        let said =
            self.partitions.find(&input.topic, input.partition).and_then(|slot| self.partitions.get(slot));
        let said = said.and_then(|partition| partition.beyond.parked);
        let known = u32::try_from(self.parked.store.of(slot)).unwrap_or(u32::MAX);
        let records = match (known, next < low) {
            // The records below the oldest offset, as far as it is not known that they were finished.
            (0, true) => {
                let beyond = &self.partitions.get(slot)?.beyond;
                let gone = (next..low).filter(|offset| !beyond.is_finished(*offset)).count();
                u32::try_from(gone).unwrap_or(u32::MAX).min(said?.records)
            }
            (0, false) => said?.records,
            (known, _) => known,
        };
        let from = self.parked.from.get(&slot).copied().or(said.map(|said| said.from)).unwrap_or_default();
        let parked = Outstanding { records, from };
        (records > 0).then(|| Loss { input, parking: name.clone(), parked, bounds: Some((low, high)) })
    }

    /// Says that parked records are lost, and halts or goes on.
    pub(in crate::events) fn lose(&mut self, losses: Vec<Loss>) {
        let known = self.parked.lost.len();
        for loss in losses {
            match self.parked.lost.iter_mut().find(|known| known.input == loss.input) {
                Some(known) => known.bounds = loss.bounds.or(known.bounds),
                None => self.parked.lost.push(loss),
            }
        }
        if self.parked.lost.len() == known {
            return;
        }
        let reason = self.says_what_is_lost();
        match self.program.stage.on_lost {
            OnLost::Halt => self.halt(reason),
            OnLost::Earliest => {
                self.shared.trouble(&reason);
                self.pass_lost();
            }
        }
    }

    fn says_what_is_lost(&self) -> String {
        let lost = &self.parked.lost;
        let records: u64 = lost.iter().map(|loss| u64::from(loss.parked.records)).sum();
        let named = lost.iter().take(NAMED).map(|Loss { input, parking, parked, .. }| {
            let Outstanding { records, from } = parked;
            format!("{records} of {input} from offset {from} on, parked in {parking}")
        });
        let mut named = named.collect::<Vec<_>>().join("; ");
        if lost.len() > NAMED {
            named.push_str("; …");
        }
        let (stage, again) = (&self.program.stage.name, lost.first());
        let again = again.map_or_else(String::new, |Loss { input, parked, .. }| {
            let TopicPartition { topic, partition } = input;
            format!("--topic {topic} --partition {partition} --to-offset {}", parked.from)
        });
        format!(
            "{records} parked records are lost, since their topic was deleted or made anew, or records of it \
             were deleted: {named}. `biplane offsets set {stage} {again}` has all from there on done again; \
             `biplane stages resume {stage}` goes on without them"
        )
    }

    /// Goes on without what is lost.
    pub(in crate::events) fn pass_lost(&mut self) {
        let mut moved = false;
        for Loss { input, parking, parked, bounds } in std::mem::take(&mut self.parked.lost) {
            self.shared.metrics.parked_lost(u64::from(parked.records));
            let slot = self.partitions.find(&input.topic, input.partition);
            if let Some(partition) = slot.and_then(|slot| self.partitions.get_mut(slot)) {
                partition.beyond.parked = None;
                partition.dirty = true;
            }
            if let Some((low, high)) = bounds {
                self.go_on_at(&parking, low, high);
                moved = true;
            }
        }
        if moved {
            self.read_on();
        }
    }

    /// The input is another engine's by now, which finds out for itself.
    pub(in crate::events) fn forget_lost(&mut self, name: &TopicPartition) {
        self.parked.lost.retain(|loss| loss.input != *name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_holds_what_is_parked_where_its_commit_lies_in_it_or_as_many_are_there() {
        let parked = Outstanding { records: 3, from: 0 };
        assert!(holds(Some(5), (2, 5), parked), "all may be done by now");
        assert!(holds(Some(1), (2, 5), parked), "reading tells what is gone below");
        assert!(!holds(Some(6), (0, 5), parked), "it is another topic");
        assert!(holds(None, (2, 5), parked));
        assert!(!holds(None, (3, 5), parked) && !holds(None, (0, 0), parked));
    }
}
