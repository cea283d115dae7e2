//! Where the stage's loop asks about equal records. Each hook does nothing where the stage has no `dedupe`.

use super::entry::{self, Owner};
use super::load::Loading;
use super::window::Seen;
use super::{Dedupe, Home, Loaded, Meeting, Place, marks_topic};
use crate::base::Failure;
use crate::base::guard::{self, Guard};
use crate::broker::TopicPartition;
use crate::events::inflight::EntryId;
use crate::events::program::{Batch, Part, Prepared, Program, Target};
use crate::events::runner::Runner;
use crate::events::sources::Role;
use crate::events::stage::StageRuntime;
use crate::events::status::DedupeStatus;
use crate::record::RawRecord;

impl Dedupe {
    /// What `program`'s stage wants, if it wants any. The cluster in this process has no topics beside
    /// those of the files, so there marks are kept in memory.
    pub(in crate::events) fn of(program: &Program, runtime: &StageRuntime) -> Option<Self> {
        let plan = program.stage.dedupe.as_ref()?;
        let loading = match plan.memory || runtime.client.mock {
            true => None,
            false => Some(Loading::new(&program.stage.name, runtime)),
        };
        Some(Self::new(plan, loading))
    }

    /// Where the marks of a record go.
    pub(in crate::events) fn place(&self, id: EntryId) -> Option<&TopicPartition> {
        let home = self.claims.get(id)?.home;
        Some(&self.homes.get(&home)?.place.as_ref()?.marks)
    }

    /// As operators see it.
    pub(in crate::events) fn status(&self) -> DedupeStatus {
        DedupeStatus {
            marks: self.marks,
            duplicates: self.duplicates,
            forgotten: self.forgotten,
            waiting: self.claims.waiting(),
            loading: self.is_loading(),
        }
    }
}

impl Runner {
    /// A partition is assigned and not taken up from before: its marks are to be read first.
    pub(in crate::events) fn begin_marks(&mut self, slot: u32) {
        let Some(partition) = self.partitions.get(slot).filter(|one| one.role == Role::Input) else { return };
        let home = partition.name.clone();
        let Some(dedupe) = &mut self.dedupe else { return };
        dedupe.remove(slot);
        let place = dedupe.loading.as_ref().map(|loading| Place {
            marks: TopicPartition::new(
                marks_topic(&loading.namespace, &loading.stage, &home.topic),
                home.partition,
            ),
            home,
            owner: Owner::new(),
            end: 0,
            alive: Default::default(),
        });
        let window = place.is_none().then(|| super::Window::new(dedupe.length));
        dedupe.homes.insert(slot, Home { place, window });
    }

    /// Reads the marks of what was assigned. What was taken up says again whose it is, since another engine
    /// may have claimed it in between, though it can have finished nothing of it.
    pub(in crate::events) fn load_marks(&mut self) {
        let Some(dedupe) = &mut self.dedupe else { return };
        let Some(loading) = &dedupe.loading else { return };
        let (mut read, mut claim) = (Vec::new(), Vec::new());
        for (slot, home) in &mut dedupe.homes {
            let Some(place) = &mut home.place else { continue };
            if home.window.is_some() {
                claim.push((*slot, place.clone()));
            } else {
                // Whoever reads for it already does so under a claim that may be an old one by now.
                (place.owner, place.alive) = (Owner::new(), Default::default());
                read.push((*slot, place.clone()));
            }
        }
        loading.claim(claim, &self.shared);
        loading.read(read, dedupe.length, dedupe.most, &self.inbox, &self.shared);
    }

    /// The marks of a partition were read.
    pub(in crate::events) fn marks_loaded(&mut self, loaded: Loaded) {
        let Loaded { slot, owner, mut window, end, forgotten } = loaded;
        let (Some(dedupe), Some(partition)) = (&mut self.dedupe, self.partitions.get(slot)) else { return };
        if let Some(position) = partition.position() {
            window.retain(|seen| seen.offset < position || partition.beyond.is_finished(seen.offset));
        }
        let name = partition.name.clone();
        let marks = window.len();
        if dedupe.install(slot, owner, window) {
            dedupe.forgotten += forgotten;
            dedupe.ends_at(slot, end, &self.shared);
            tracing::debug!(stage = &*self.program.stage.name, partition = %name, marks, "marks were read");
            self.next_report = self.now;
        }
    }

    /// A partition is given up.
    pub(in crate::events) fn forget_marks(&mut self, slot: u32) {
        if let Some(dedupe) = &mut self.dedupe {
            dedupe.remove(slot);
        }
    }

    /// A partition goes on at `to`: what was finished from there on comes again, and must meet no mark of its
    /// own or of what came behind it.
    pub(in crate::events) fn forget_marks_from(&mut self, slot: u32, to: i64) {
        if let Some(dedupe) = self.dedupe.as_mut().filter(|_| !guard::removed(Guard::MarksBefore)) {
            dedupe.change(slot, |window| window.retain(|seen| seen.offset < to));
        }
    }

    /// Records are not in flight any more though they were not finished: those that waited for them go on.
    pub(in crate::events) fn forget_claims(&mut self) {
        let Some(dedupe) = &mut self.dedupe else { return };
        let in_flight = &self.in_flight;
        let next = dedupe.claims.retain(|id| in_flight.slot(id).is_some());
        next.into_iter().for_each(|id| self.take_turn(id));
    }

    /// A record was read. False where that is all for now: it is a duplicate, waits for an equal one, or its
    /// key cannot be told.
    pub(in crate::events) fn passes(&mut self, id: EntryId, slot: u32, raw: &RawRecord<'_>) -> bool {
        let raw = *raw;
        let Some(dedupe) = &mut self.dedupe else { return true };
        let Some(home) = self.partitions.find(raw.topic, raw.partition) else { return true };
        let digest = match self.program.dedupe_key(raw, |key| dedupe.keys.digest(key)) {
            Ok(Some(digest)) => digest,
            Ok(None) => return true,
            Err(failure) => {
                self.key_failed(id, raw, failure);
                return false;
            }
        };
        let seen = Seen { offset: raw.offset, timestamp: raw.timestamp };
        match dedupe.meet(id, home, digest, seen) {
            Meeting::Passes => return true,
            Meeting::Duplicate => {
                self.shared.metrics.dedupe().duplicate();
                self.finish(id);
            }
            Meeting::Waits => self.wait_for_equal(id, slot, raw),
        }
        false
    }

    fn key_failed(&mut self, id: EntryId, raw: RawRecord<'_>, mut failure: Failure) {
        failure.message = format!("`dedupe.key`: {}", failure.message);
        let batch = std::mem::take(&mut self.scratch);
        self.settle(id, raw, Err(failure.given_up()), batch);
    }

    /// The record waits until it is known what becomes of an equal one, in the order of its lane.
    fn wait_for_equal(&mut self, id: EntryId, slot: u32, raw: RawRecord<'_>) {
        let lane = self.lane(slot, &raw);
        self.own(id, raw, lane);
        match lane.filter(|lane| self.lanes.is_held(*lane)) {
            Some(lane) => self.lanes.queue(lane, id),
            None => {
                lane.into_iter().for_each(|lane| self.lanes.hold(lane, id));
                self.waits_for_equal(id);
            }
        }
    }

    /// Whether a record whose turn it is in its lane has to wait on for an equal one.
    pub(in crate::events) fn waits_for_equal(&mut self, id: EntryId) -> bool {
        self.dedupe.as_mut().is_some_and(|dedupe| dedupe.claims.stops(id))
    }

    /// A record's steps have passed: its mark goes out with what it became.
    pub(in crate::events) fn mark(&mut self, id: EntryId, batch: &mut Batch) {
        let Some(dedupe) = &mut self.dedupe else { return };
        let Some(held) = dedupe.claims.get_mut(id) else { return };
        held.marked = true;
        let held = *held;
        dedupe.write(held.home, held.digest, Some(held.seen), batch);
    }

    /// A record ends without having been worked on to the end. An earlier attempt may have written its mark:
    /// the topic says again what holds without it.
    pub(in crate::events) fn unmark(&mut self, id: EntryId, batch: &mut Batch) {
        let Some(dedupe) = &mut self.dedupe else { return };
        let Some(held) = dedupe.claims.get_mut(id) else { return };
        held.marked = false;
        let held = *held;
        if guard::removed(Guard::TakeBack) {
            return;
        }
        let window = dedupe.homes.get(&held.home).and_then(|home| home.window.as_ref());
        let before = window.and_then(|window| window.of(held.digest));
        let before = before.filter(|seen| seen.offset != held.seen.offset);
        dedupe.write(held.home, held.digest, before, batch);
    }

    /// A record is finished, and with it those that waited for it and are equal.
    pub(in crate::events) fn equal_ended(&mut self, id: EntryId) {
        let Some(dedupe) = &mut self.dedupe else { return };
        let outcome = dedupe.ended(id);
        for (duplicate, in_front) in outcome.duplicates {
            self.shared.metrics.dedupe().duplicate();
            if in_front {
                self.through(duplicate);
            }
            self.finish(duplicate);
        }
        outcome.ready.into_iter().for_each(|id| self.take_turn(id));
    }

    /// Says in the status and the metrics what is known of records' keys.
    pub(in crate::events) fn report_marks(&mut self) {
        self.look_after_marks();
        let Some(dedupe) = &mut self.dedupe else { return };
        dedupe.forget_old();
        let status = dedupe.status();
        let before = self.shared.set_dedupe(status);
        self.shared.metrics.dedupe().set_marks(status.marks);
        let forgotten = status.forgotten - before.map_or(0, |before| before.forgotten);
        if forgotten > 0 {
            self.shared.metrics.dedupe().forgotten(forgotten);
            self.shared.trouble(
                "there are more marks than `dedupe.max_keys`: the oldest were forgotten before their window was \
                 over, and their duplicates pass; raise it, or shorten `dedupe.window`",
            );
        }
    }
}

impl Dedupe {
    /// Adds what the topic is to say of a key.
    fn write(&self, home: u32, digest: super::Digest, seen: Option<Seen>, batch: &mut Batch) {
        let Some(place) = self.homes.get(&home).and_then(|home| home.place.as_ref()) else { return };
        let start = batch.bytes.len();
        batch.bytes.extend_from_slice(digest.hex().as_bytes());
        let middle = batch.bytes.len();
        entry::write(&mut batch.bytes, place.owner, &place.home, seen);
        let (key, value) = (Part::Bytes(start..middle), Part::Bytes(middle..batch.bytes.len()));
        batch.outputs.push(Prepared { target: Target::Mark, key, value, headers: Vec::new() });
    }
}
