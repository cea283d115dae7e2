//! What was parked before a partition was assigned is read before its input goes on: only then it is known
//! which of its keys wait.

use std::collections::HashMap;
use std::time::Instant;

use crate::base::guard::{self, Guard};
use crate::broker::{BrokerError, Consumer, ConsumerOptions, StartAt, TopicPartition};
use crate::events::metadata::Beyond;
use crate::events::partitions::Partition;
use crate::events::runner::Runner;
use crate::events::sources::Role;
use crate::events::status::ParkedStatus;

/// The oldest offset of each partition and the one behind its newest record.
pub(in crate::events) type Bounds = HashMap<TopicPartition, (i64, i64)>;

impl Runner {
    /// How far each parking partition among these reaches. What a transaction has written there counts
    /// before it can be read: it may have been committed together with offsets that say so already.
    ///
    /// # Errors
    /// Where the brokers do not answer in time.
    pub(in crate::events) fn bounds_of_parked(
        &self,
        assigned: &[TopicPartition],
        deadline: Instant,
    ) -> Result<Bounds, BrokerError> {
        let mut parked =
            assigned.iter().filter(|name| self.sources.role(&name.topic) == Role::Parked).peekable();
        if parked.peek().is_none() {
            return Ok(Bounds::new());
        }
        let group = ConsumerOptions::new(&*self.program.group, Vec::new());
        let options = ConsumerOptions { uncommitted: true, ..group };
        let reader = Consumer::open(&self.client, options, || {})?;
        let left = || deadline.saturating_duration_since(Instant::now());
        parked.map(|name| Ok((name.clone(), reader.watermarks(name, left())?))).collect()
    }

    /// The epoch was given up: what of a parking partition it had finished is parked still, and what it had
    /// parked never was. All is read again from `position`, where the last epoch closed, up to what lies
    /// there by now.
    pub(in crate::events) fn scan_again(
        &mut self,
        slot: u32,
        (position, beyond): (i64, Beyond),
        bounds: Option<(i64, i64)>,
    ) {
        self.go_back(slot, position, beyond, None);
        self.lose_parked(slot, true);
        if self.partitions.get(slot).is_some() {
            self.begin_scan(slot, position, bounds);
        }
    }

    /// A parking partition was assigned, and reading it goes on at `at`. Its input waits until all that it
    /// holds by now is known.
    pub(in crate::events) fn begin_scan(&mut self, slot: u32, at: i64, bounds: Option<(i64, i64)>) {
        let Some((low, high)) = bounds else { return };
        if at.max(low) >= high || guard::removed(Guard::ScanFirst) {
            return;
        }
        if let Some(partition) = self.partitions.get_mut(slot) {
            partition.scan_to = Some(high);
        }
        self.parked.store.hold(slot, true);
        if !self.parked.scanning.contains(&slot) {
            self.parked.scanning.push(slot);
        }
    }

    /// Ends the scans that have read all.
    pub(in crate::events) fn end_scans(&mut self) {
        if self.parked.scanning.is_empty() {
            return;
        }
        // Where an epoch was closed or given up, no record lies at the end.
        self.pass_gaps();
        for slot in std::mem::take(&mut self.parked.scanning) {
            let Some(partition) = self.partitions.get_mut(slot) else { continue };
            let Some(end) = partition.scan_to else { continue };
            if partition.next().is_none_or(|next| next < end) {
                self.parked.scanning.push(slot);
                continue;
            }
            partition.scan_to = None;
            let name = partition.name.clone();
            self.parked.store.hold(slot, false);
            let parked = self.parked.store.of(slot);
            tracing::info!(stage = &*self.program.stage.name, partition = %name, parked, "parked records are known");
        }
    }

    /// Looks whether as much is parked as may be; it is until an eighth of the room is free again.
    pub(in crate::events) fn measure_parked(&mut self) {
        let (max, store) = (self.program.stage.max_parked, &self.parked.store);
        let (records, bytes) = (store.len(), store.bytes());
        let beyond = |most: usize, now: usize| match self.parked.full {
            true => now > most - most / 8,
            false => now >= most,
        };
        self.parked.full = beyond(max.records, records) || beyond(max.bytes.as_usize(), bytes);
    }

    /// Says in the status what is parked.
    pub(in crate::events) fn report_parked(&self) {
        let store = &self.parked.store;
        let in_millis = |due: Instant| {
            let wait = due.saturating_duration_since(self.now).as_millis();
            self.now_millis.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX))
        };
        self.shared.set_parked(ParkedStatus {
            records: store.len(),
            bytes: store.bytes(),
            next_due: store.next_due().map(in_millis),
            full: self.parked.full,
            scanning: self.parked.scanning.len(),
        });
    }

    /// Whether the records of a partition must wait for what is parked.
    pub(in crate::events) fn waits_for_parked(&self, partition: &Partition) -> bool {
        let beside = |slot: &u32| {
            let scanned = self.partitions.get(*slot);
            partition.role == Role::Replay
                || scanned.is_some_and(|scanned| scanned.name.partition == partition.name.partition)
        };
        self.parked.full || self.parked.scanning.iter().any(beside)
    }

    /// A parking partition goes to another engine, or all that it held is gone.
    pub(in crate::events) fn forget_parked(&mut self, slot: u32) {
        self.parked.store.forget(slot);
        self.parked.from.remove(&slot);
        self.parked.scanning.retain(|scanning| *scanning != slot);
        self.parked.done.retain(|(_, item)| item.slot() != slot);
        if let Some(partition) = self.partitions.get_mut(slot) {
            partition.scan_to = None;
        }
    }

    /// What a parking topic held is gone in part, or `wholly`.
    pub(in crate::events) fn lose_parked(&mut self, slot: u32, wholly: bool) {
        match wholly {
            true => self.forget_parked(slot),
            false => self.parked.store.expect_nothing_at(slot),
        }
        let next = self.release_lanes();
        next.into_iter().for_each(|id| self.take_turn(id));
    }

    /// Where reading a parking partition of which nothing was committed starts.
    pub(in crate::events) fn oldest_parked(bounds: Option<(i64, i64)>) -> StartAt {
        bounds.map_or(StartAt::Earliest, |(low, _)| StartAt::Offset(low))
    }
}
