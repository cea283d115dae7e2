//! Appending records to their parking topic: those that wait for long, and those that come behind them.

use std::time::Duration;

use super::Parking;
use super::headers::{self, Standing};
use super::packed::{Head, Packed};
use crate::base::Failure;
use crate::broker::OutHeaders;
use crate::events::inflight::EntryId;
use crate::events::lanes::LaneId;
use crate::events::partitions::{self, Tenure};
use crate::events::program::{Part, Prepared, Target};
use crate::events::runner::Runner;
use crate::record::{HeaderChange, RawRecord};

impl Runner {
    /// Whether a record is parked for a wait, and not kept in place.
    pub(in crate::events) fn parks(&self, id: EntryId, raw: &RawRecord<'_>, wait: Duration) -> bool {
        let stage = &self.program.stage;
        let (Some(limit), Some(entry)) = (stage.retry.in_place_up_to, self.in_flight.get(id)) else {
            return false;
        };
        // What is parked already takes no more room, and its attempts are counted there.
        let wanted = entry.parked.is_some() || wait > limit && !self.parked.full;
        let kept = self
            .partitions
            .get(entry.slot)
            .is_some_and(|partition| !partition.kept.is_empty() && partition.kept.contains(&entry.offset));
        wanted && !kept && stage.parks() && self.parking_of(raw).is_some()
    }

    /// The partition in which a record can be parked now.
    pub(super) fn parking_of(&self, raw: &RawRecord<'_>) -> Option<u32> {
        let slot = self.partitions.find(self.sources.parking(raw.topic)?, raw.partition)?;
        let partition = self.partitions.get(slot)?;
        (partition.tenure == Tenure::Owned && partition.scan_to.is_none()).then_some(slot)
    }

    /// The lane of a record among the parked ones, and whether it orders anything.
    pub(super) fn parked_lane(&self, slot: u32, raw: &RawRecord<'_>) -> (LaneId, bool) {
        match self.lane(slot, raw) {
            Some(lane) => (lane, true),
            None => (partitions::seed(raw.topic, raw.partition) ^ raw.offset.cast_unsigned(), false),
        }
    }

    /// An attempt failed, and the next is due after `wait`: until then the record is parked.
    pub(in crate::events) fn park(
        &mut self,
        id: EntryId,
        raw: RawRecord<'_>,
        wait: Duration,
        failure: &Failure,
    ) {
        self.shared.retried(&failure.code);
        self.shared.metrics.parked();
        let Some(slot) = self.in_flight.slot(id) else { return };
        // Where its copy is refused, it goes on in place from here.
        let secured_by = self.attempt_spent(slot, wait);
        let (now, now_millis) = (self.now, self.now_millis);
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        let spent = entry.attempt;
        entry.attempt += 1;
        entry.secured_by = secured_by;
        entry.due = Some(now + wait);
        let standing = Standing {
            spent,
            due: now_millis.saturating_add(wait.as_millis() as i64),
            wait,
            started: entry
                .first_started
                .map(|started| now_millis - now.saturating_duration_since(started).as_millis() as i64),
            failed: entry.first_failed,
        };
        let held = entry.lane.is_some();
        let (lane, ordered) = self.parked_lane(slot, &raw);
        if ordered && !held {
            self.lanes.hold(lane, id);
            if let Some(entry) = self.in_flight.get_mut(id) {
                entry.lane = Some(lane);
            }
        }
        self.append(id, raw, lane, &standing);
    }

    pub(super) fn append(&mut self, id: EntryId, raw: RawRecord<'_>, lane: LaneId, standing: &Standing) {
        let Some(into) = self.parking_of(&raw) else { return };
        let mut batch = std::mem::take(&mut self.scratch);
        batch.clear();
        batch.outputs.push(Prepared {
            target: Target::Parked,
            key: Part::Input,
            value: Part::Input,
            headers: headers::of(&raw, standing),
        });
        self.comes_to(id, "parked");
        if let Some(entry) = self.in_flight.get_mut(id) {
            entry.parking = Some(Box::new(Parking { lane, origin: raw.offset, into, sent: false }));
        }
        self.send_all(id, raw, batch, 0);
    }

    /// The copy of a record is sent: until it is read back nothing behind it starts.
    pub(in crate::events) fn parked_away(&mut self, id: EntryId) {
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        let Some(parking) = &mut entry.parking else { return };
        let (lane, origin, into) = (parking.lane, parking.origin, parking.into);
        parking.sent = true;
        let (ordered, key) = (entry.lane.take().is_some(), entry.parked.as_deref().copied());
        self.parked.store.expect(lane, into, origin);
        if let Some(key) = key {
            self.parked.store.sent(key);
        }
        if ordered {
            self.parked.store.occupy(lane, false);
            self.lanes.park(lane);
            self.parked.following.insert(lane);
        }
    }

    /// A record waits in a lane that is held.
    pub(in crate::events) fn line_up(&mut self, id: EntryId, lane: LaneId) {
        self.lanes.queue(lane, id);
        if self.lanes.is_parked(lane) {
            self.parked.following.insert(lane);
        }
    }

    /// Whether an unordered record is parked already, as where its engine was killed before it could say
    /// so on the input.
    pub(in crate::events) fn is_parked(&self, slot: u32, raw: &RawRecord<'_>) -> bool {
        let store = &self.parked.store;
        if store.is_empty() {
            return false;
        }
        let (lane, _) = self.parked_lane(slot, raw);
        store.has(lane, raw.offset, || Packed::of(raw, &Head::default()))
    }

    /// Parks records that wait behind parked ones, as far as there is room; how many that were.
    pub(in crate::events) fn follow_parked(&mut self) -> usize {
        let mut followed = 0;
        if self.parked.full || self.parked.following.is_empty() {
            return followed;
        }
        for lane in std::mem::take(&mut self.parked.following) {
            while let Some(id) = self.lanes.first_follower(lane) {
                if !self.may_follow() || !self.follow(id, lane) {
                    self.parked.following.insert(lane);
                    break;
                }
                followed += 1;
            }
        }
        followed
    }

    fn may_follow(&self) -> bool {
        let max = self.program.stage.max_parked;
        let store = &self.parked.store;
        self.blocked.is_empty()
            && !self.must_abort
            && !self.closing
            && store.len() < max.records
            && store.bytes() < max.bytes.as_usize()
    }

    /// Parks the first record that waits in a lane behind parked ones; false where it has to wait.
    fn follow(&mut self, id: EntryId, lane: LaneId) -> bool {
        let Some(entry) = self.in_flight.get(id) else {
            self.lanes.take_follower(lane);
            return true;
        };
        let Some(record) = entry.record.clone() else { return false };
        let (raw, offset, slot) = (record.as_raw(), entry.offset, entry.slot);
        let standing =
            Standing { spent: entry.attempt - 1, failed: entry.first_failed, ..Standing::default() };
        let kept = self.partitions.get(slot).is_some_and(|partition| partition.kept.contains(&offset));
        if kept || self.parking_of(&raw).is_none() {
            return false;
        }
        self.lanes.take_follower(lane);
        if self.parked.store.has(lane, raw.offset, || Packed::of(&raw, &Head::default())) {
            self.finish_parked_before(id);
            return true;
        }
        self.shared.metrics.followed();
        self.append(id, raw, lane, &standing);
        true
    }

    /// A record that is parked already is done on the input.
    pub(in crate::events) fn finish_parked_before(&mut self, id: EntryId) {
        if let Some(entry) = self.in_flight.get_mut(id) {
            (entry.lane, entry.sampled) = (None, false);
        }
        self.finish(id);
    }

    /// The headers of a copy: all that the record has, and behind them those of the engine.
    pub(in crate::events) fn parked_headers(raw: &RawRecord<'_>, prepared: &Prepared) -> OutHeaders {
        let mut headers = OutHeaders::new(raw.headers.len() + prepared.headers.len());
        for index in 0..raw.headers.len() {
            let (name, value) = raw.headers.get(index);
            headers.push(name, value);
        }
        for change in &prepared.headers {
            if let HeaderChange::Set(name, value) = change {
                headers.push(name, value.as_deref());
            }
        }
        headers
    }

    /// A parking topic does not take a record of that size: it waits in place.
    pub(in crate::events) fn keep_in_place(&mut self, slot: u32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(slot) {
            partition.kept.insert(offset);
            self.shared.trouble(
                "a parking topic takes no records as large as its input's, so they wait in place; raise its \
                 `max.message.bytes`",
            );
        }
        self.rewind(slot, None);
    }
}
