//! What becomes of a record once its steps have ended: sent, tried again, dead-lettered, let go, or
//! the stage halts. The one place where failures are judged.

use std::sync::Arc;
use std::time::Duration;

use super::dead_letters::DeadLetter;
use super::inflight::EntryId;
use super::partitions::{Cut, Sentence};
use super::program::{Batch, Prepared, Target, Verdict};
use super::runner::{Blocked, Runner};
use super::spans::is_trace_header;
use crate::base::guard::{self, Guard};
use crate::base::{Exhausted, Failure, Remedy};
use crate::broker::{OutHeaders, Outgoing, SendError};
use crate::record::{HeaderChange, RawRecord};
use crate::telemetry::traces::{TRACEPARENT, TRACESTATE};

/// The header that lets consumers drop repeats: stage, topic, partition, offset and index.
pub const ID_HEADER: &str = "biplane-id";
/// The same for a dead letter, which keeps the id that its record came with.
const DEAD_LETTER_ID_HEADER: &str = "biplane-dlq-id";

/// In place of a record whose bytes nothing is made of.
const NOTHING: RawRecord<'_> = RawRecord {
    topic: "",
    partition: 0,
    offset: 0,
    timestamp: None,
    log_append: false,
    key: None,
    value: None,
    headers: &(),
};

impl Runner {
    /// The steps of a record have ended. `batch` comes back to be used again.
    pub(super) fn settle(
        &mut self,
        id: EntryId,
        raw: RawRecord<'_>,
        result: Result<Verdict, Failure>,
        mut batch: Batch,
    ) {
        if batch.untaken > 0 && result.is_ok() {
            self.shared.unmatched(batch.untaken);
        }
        // What the database is to take has not passed before it has.
        if batch.effects.is_empty() || result.is_err() {
            self.breakers.settled(result.is_ok());
        }
        match result {
            Ok(verdict) => {
                match verdict {
                    Verdict::Send => {}
                    Verdict::Filtered => {
                        self.counts.filtered();
                        self.comes_to(id, "filtered");
                    }
                    Verdict::Unmatched => self.comes_to(id, "unmatched"),
                }
                if !batch.effects.is_empty() {
                    return self.await_effects(id, raw, batch);
                }
                self.mark(id, &mut batch);
                self.send_all(id, raw, batch, 0);
            }
            Err(failure) => self.fail(id, raw, failure, batch),
        }
    }

    pub(super) fn fail(&mut self, id: EntryId, raw: RawRecord<'_>, failure: Failure, batch: Batch) {
        self.scratch = batch;
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        let attempt = entry.attempt;
        entry.first_failed.get_or_insert(self.now_millis);
        // What never waits began in this turn of the loop.
        entry.first_started.get_or_insert(self.now);
        if let Some(span) = &mut entry.span {
            span.attempt_failed(&failure);
        }
        self.shared.failed(&failure, raw);
        if self.forgives(id, &failure) {
            return self.hold_back(id, &failure);
        }
        let spent = self.spent(id);
        match self.next_wait(attempt, &failure, spent) {
            Some(wait) if self.parks(id, &raw, wait) => self.park(id, raw, wait, &failure),
            Some(wait) => self.wait(id, raw, wait, &failure),
            None => self.give_up(id, raw, Sentence { failure, attempts: attempt, cut: Cut::Nothing }),
        }
    }

    /// The wait before another attempt, where there is to be one.
    fn next_wait(&self, attempt: u32, failure: &Failure, spent: Duration) -> Option<Duration> {
        let stage = &self.program.stage;
        let wait = stage.retry.next_wait(attempt, failure, rand::random())?;
        (spent + wait < stage.deadline).then_some(wait)
    }

    /// There is no further attempt.
    pub(super) fn give_up(&mut self, id: EntryId, raw: RawRecord<'_>, sentence: Sentence) {
        if self.is_flooded_by(&sentence.failure) {
            return;
        }
        match self.last_resort(&sentence.failure) {
            Exhausted::DeadLetter if guard::removed(Guard::DeadLetter) => {
                self.through(id);
                self.finish(id);
            }
            Exhausted::DeadLetter => self.dead_letter(id, raw, sentence),
            Exhausted::Drop => self.let_go(id, &sentence.failure),
            Exhausted::Halt => {
                let place = format!("{}[{}] at {}", raw.topic, raw.partition, raw.offset);
                self.halt(format!("{place} failed for good: {}", sentence.failure));
            }
        }
    }

    /// What becomes of a record that no further attempt follows.
    pub(super) fn last_resort(&self, failure: &Failure) -> Exhausted {
        let stage = &self.program.stage;
        match stage.retry.on_exhausted {
            _ if failure.remedy == Remedy::DeadLetter && stage.dlq.is_some() => Exhausted::DeadLetter,
            Exhausted::DeadLetter if stage.dlq.is_none() => Exhausted::Halt,
            resort => resort,
        }
    }

    /// The record is finished without a trace but a count.
    pub(super) fn let_go(&mut self, id: EntryId, failure: &Failure) {
        self.shared.dropped(&failure.code);
        self.failed_for_good(id, "dropped", failure);
        let mut batch = std::mem::take(&mut self.scratch);
        batch.clear();
        self.unmark(id, &mut batch);
        // Nothing is sent that its bytes were needed for.
        self.send_all(id, NOTHING, batch, 0);
    }

    /// The record waits for its next attempt and holds its lane meanwhile, but no place to run.
    fn wait(&mut self, id: EntryId, raw: RawRecord<'_>, wait: Duration, failure: &Failure) {
        self.shared.retried(&failure.code);
        let Some(slot) = self.in_flight.slot(id) else { return };
        let secured_by = self.attempt_spent(slot, wait);
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        entry.attempt += 1;
        entry.secured_by = secured_by;
        let held = entry.lane;
        // One whose effects were refused is through, and another one of its lane may be at work.
        let free = || self.lane(slot, &raw).filter(|lane| !self.lanes.is_held(*lane));
        let lane = held.or_else(free);
        if held.is_none()
            && let Some(lane) = lane
        {
            self.lanes.hold(lane, id);
        }
        self.own(id, raw, lane);
        self.wait_until(id, self.now + wait);
    }

    fn dead_letter(&mut self, id: EntryId, raw: RawRecord<'_>, sentence: Sentence) {
        let mut batch = std::mem::take(&mut self.scratch);
        batch.clear();
        let failed_at = self.now_millis;
        self.begin_span(id, &raw);
        self.failed_for_good(id, "dead-lettered", &sentence.failure);
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        DeadLetter {
            raw,
            failure: &sentence.failure,
            attempts: sentence.attempts,
            first_failed_at: entry.first_failed.unwrap_or(failed_at),
            failed_at,
            cut: sentence.cut,
        }
        .prepare(&self.program, &mut batch);
        entry.sentence = Some(Box::new(sentence));
        self.unmark(id, &mut batch);
        self.send_all(id, raw, batch, 0);
    }

    /// Hands over what the record became, from the prepared record at `next` on.
    pub(super) fn send_all(&mut self, id: EntryId, raw: RawRecord<'_>, batch: Batch, next: usize) {
        if self.in_flight.get_mut(id).is_none() {
            self.scratch = batch;
            return;
        }
        for index in next..batch.outputs.len() {
            match self.send(id, &raw, &batch, index) {
                Ok(()) => {}
                Err(SendError::Full) => return self.block(id, raw, batch, index),
                Err(error) => {
                    self.scratch = batch;
                    return self.send_failed(id, error, Some(raw));
                }
            }
        }
        match self.in_flight.get(id).is_some_and(|entry| entry.parking.is_some()) {
            true => self.parked_away(id),
            false => self.through(id),
        }
        if guard::removed(Guard::Acknowledgement) {
            self.finish(id);
        }
        self.finish_if_acknowledged(id);
        self.scratch = batch;
    }

    fn send(
        &mut self,
        id: EntryId,
        raw: &RawRecord<'_>,
        batch: &Batch,
        index: usize,
    ) -> Result<(), SendError> {
        let alone = self.in_flight.get_mut(id).is_some_and(|entry| entry.alone);
        // Where the epoch is given up, the next may be open by now, and the record is read again in that.
        if self.must_abort || (alone || self.alone) && self.unacknowledged > 0 {
            return Err(SendError::Full);
        }
        let prepared = &batch.outputs[index];
        let headers = match prepared.target {
            Target::Mark => OutHeaders::new(0),
            Target::Parked => Self::parked_headers(raw, prepared),
            Target::Output(_) | Target::DeadLetter => self.out_headers(id, raw, prepared, index),
        };
        // What was prepared under another generation goes where that one says.
        let stage = &batch.program.as_ref().unwrap_or(&self.program).stage;
        let topic = match prepared.target {
            Target::Output(output) => stage.outputs.get(output).map(|output| (&*output.topic.physical, None)),
            Target::DeadLetter => stage.dlq.as_ref().map(|dlq| (&*dlq.topic.physical, None)),
            Target::Parked => self.sources.parking(raw.topic).map(|topic| (&**topic, Some(raw.partition))),
            Target::Mark => {
                let marks = self.dedupe.as_ref().and_then(|dedupe| dedupe.place(id));
                marks.map(|marks| (&*marks.topic, Some(marks.partition)))
            }
        };
        let Some((topic, partition)) = topic else { return Err(SendError::UnknownTopic) };
        let outgoing = Outgoing {
            topic,
            partition,
            key: batch.part(&prepared.key, raw.key),
            value: batch.part(&prepared.value, raw.value),
            // A dead letter is as old as its failure, and a mark as the end of its record: by the record's
            // age retention might delete them at once.
            timestamp: raw.timestamp.filter(|_| matches!(prepared.target, Target::Output(_))),
            headers,
        };
        let bytes = outgoing.value.map_or(0, <[u8]>::len) + outgoing.key.map_or(0, <[u8]>::len);
        let sent = match alone {
            false => self.delivery.produce(outgoing, id.token()),
            true => self.delivery.produce_alone(outgoing, id.token()),
        };
        sent.map_err(|(error, _)| error)?;
        self.alone = alone;
        self.unacknowledged += 1;
        if let Some(entry) = self.in_flight.get_mut(id) {
            entry.unacknowledged += 1;
            if let Target::Output(_) = prepared.target {
                entry.sent = (entry.sent.0 + 1, entry.sent.1 + bytes as u64);
            }
        }
        Ok(())
    }

    /// The input's headers travel on, but for those that are replaced and the id of the stage before.
    fn out_headers(
        &mut self,
        id: EntryId,
        raw: &RawRecord<'_>,
        prepared: &Prepared,
        index: usize,
    ) -> OutHeaders {
        let id_header = match prepared.target {
            Target::Output(_) => ID_HEADER,
            Target::DeadLetter | Target::Mark | Target::Parked => DEAD_LETTER_ID_HEADER,
        };
        let trace = self.trace_headers(id, prepared);
        let added = if trace.is_some() { 3 } else { 1 };
        let mut headers = OutHeaders::new(raw.headers.len() + prepared.headers.len() + added);
        for position in 0..raw.headers.len() {
            let (name, value) = raw.headers.get(position);
            let stands = trace.is_none() || !is_trace_header(name);
            if stands && name != id_header && (prepared.headers.is_empty() || !prepared.changes_header(name))
            {
                headers.push(name, value);
            }
        }
        if let Some((traceparent, tracestate)) = trace {
            headers.push(TRACEPARENT, Some(traceparent.as_bytes()));
            tracestate.iter().for_each(|state| headers.push(TRACESTATE, Some(state.as_bytes())));
        }
        for (position, change) in prepared.headers.iter().enumerate() {
            let HeaderChange::Set(name, value) = change else { continue };
            let again = &prepared.headers[position + 1..];
            let later = |change: &HeaderChange| match change {
                HeaderChange::Set(later, _) | HeaderChange::Remove(later) => later == name,
            };
            if !again.iter().any(later) {
                headers.push(name, value.as_deref());
            }
        }
        self.write_id(raw, prepared.target, index);
        headers.push(id_header, Some(&self.id_text));
        headers
    }

    fn write_id(&mut self, raw: &RawRecord<'_>, target: Target, index: usize) {
        let mut number = itoa::Buffer::new();
        let text = &mut self.id_text;
        text.clear();
        text.extend_from_slice(self.program.stage.name.as_bytes());
        text.push(b'/');
        text.extend_from_slice(raw.topic.as_bytes());
        text.push(b'/');
        text.extend_from_slice(number.format(raw.partition).as_bytes());
        text.push(b'/');
        text.extend_from_slice(number.format(raw.offset).as_bytes());
        text.push(b'/');
        match target {
            Target::Output(_) => text.extend_from_slice(number.format(index).as_bytes()),
            Target::DeadLetter | Target::Mark | Target::Parked => text.extend_from_slice(b"dlq"),
        }
    }

    /// The producer is full: this record goes on when there is room, and no other before it.
    fn block(&mut self, id: EntryId, raw: RawRecord<'_>, mut batch: Batch, next: usize) {
        batch.program.get_or_insert_with(|| Arc::clone(&self.program));
        let lane = self.in_flight.get_mut(id).and_then(|entry| entry.lane);
        self.own(id, raw, lane);
        let record = self.in_flight.get_mut(id).and_then(|entry| entry.record.clone());
        if let Some(record) = record {
            self.blocked.push_back(Blocked { id, record, batch, next });
        }
    }

    /// Tries the sends again that found no room.
    pub(super) fn send_blocked(&mut self) {
        while !self.must_abort
            && let Some(Blocked { id, record, batch, next }) = self.blocked.pop_front()
        {
            let others = std::mem::take(&mut self.blocked);
            self.send_all(id, record.as_raw(), batch, next);
            let stuck = !self.blocked.is_empty();
            self.blocked.extend(others);
            if stuck {
                return;
            }
        }
    }

    /// The record holds up nobody any more: the next of its lane may start.
    pub(super) fn through(&mut self, id: EntryId) {
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        let lane = entry.lane.take();
        if let Some(key) = entry.parked.as_deref().copied() {
            self.parked.sent(key);
        }
        lane.into_iter().for_each(|lane| self.pass_on(lane));
    }

    /// The record is the first of its lane by now: it starts once it is due and its attempts are committed.
    pub(super) fn take_turn(&mut self, id: EntryId) {
        let due = self.in_flight.get(id).and_then(|entry| entry.due);
        match due.filter(|due| *due > self.now) {
            Some(due) => self.wait_until(id, due),
            None => self.start_or_await_commit(id),
        }
    }

    /// The broker has answered one send.
    pub(super) fn acknowledged(&mut self, id: EntryId, result: Result<(), SendError>) {
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        entry.unacknowledged -= 1;
        self.unacknowledged -= 1;
        match result {
            Ok(()) => {
                if entry.unacknowledged == 0 && !self.is_blocked(id) {
                    self.finish(id);
                }
            }
            Err(error) => self.send_failed(id, error, None),
        }
    }

    pub(super) fn is_blocked(&self, id: EntryId) -> bool {
        self.blocked.iter().any(|blocked| blocked.id == id)
    }

    fn finish_if_acknowledged(&mut self, id: EntryId) {
        if self.in_flight.get_mut(id).is_some_and(|entry| entry.unacknowledged == 0) {
            self.finish(id);
        }
    }

    /// The record is done: its offset may be committed.
    pub(super) fn finish(&mut self, id: EntryId) {
        let Some(entry) = self.in_flight.remove(id) else { return };
        if let Some(key) = &entry.parked {
            self.parked_finished(**key);
        }
        self.counts.sent(entry.sent);
        if let Some(mut span) = entry.span {
            span.took(entry.attempt);
            span.comes_to("sent");
        }
        if let Some(sentence) = &entry.sentence {
            self.shared.dead_lettered(&sentence.failure.code);
        }
        if let Some(timestamp) = entry.timestamp.filter(|_| entry.sampled && entry.parking.is_none()) {
            self.shared.latency(self.now_millis - timestamp);
        }
        if let Some(partition) = self.partitions.get_mut(entry.slot) {
            partition.dirty = true;
            if let Some(tracker) = &mut partition.tracker {
                tracker.finish(entry.sequence);
            }
        }
        self.equal_ended(id);
    }
}
