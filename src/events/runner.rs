//! One stage at run time: the loop that owns all of its state.
//!
//! One thread a stage polls, works, sends and commits; other threads only leave letters in its
//! [`Inbox`]. A record is worked on here and at once when its steps never wait, and on the runtime
//! otherwise; either way the loop alone decides what becomes of it. Nothing here blocks but the
//! broker's answers at a rebalance.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::again;
use super::budget::Share;
use super::commits::Commits;
use super::dedupe::Dedupe;
use super::delivery::Delivery;
use super::effects::Writing;
use super::hold::Hold;
use super::inbox::{Acknowledgement, Command, Ended, Inbox, Letter};
use super::inflight::{Entry, EntryId, InFlight};
use super::lanes::{LaneId, Lanes};
use super::offsets::OffsetTracker;
use super::outages::Breakers;
use super::parked::Parked;
use super::partitions::{Partitions, Tenure, seed};
use super::program::{Batch, Prepared, Program};
use super::reach::REACH;
use super::reset::Pending;
use super::rests::Rest;
use super::sources::{Role, Sources};
use super::stage::{LEAVE_LIMIT, StageRuntime};
use super::status::{Counts, Shared};
use super::throttle::Rates;
use super::watchdog::Watchdog;
use crate::base::guard::{self, Guard};
use crate::base::{Failure, now_millis};
use crate::broker::{BrokerError, ClientSettings, Consumer, Polled, TopicPartition};
use crate::catalog::{Bound, Order};
use crate::record::{OwnedRecord, RawRecord};

/// At most this many records are taken before other business is looked at.
const TURN: usize = 256;
/// The longest sleep: pauses and the clock are looked at this often even when nothing happens.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How soon a send that found no room is tried again, where no acknowledgement comes first.
const BLOCKED_RETRY: Duration = Duration::from_millis(5);
/// One record in so many has its latency measured.
const LATENCY_SAMPLE: u64 = 16;

/// What the loop is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Taking records.
    Running,
    /// Standing still until someone acts; membership is kept.
    Halted(String),
    /// Finishing what runs, until that moment.
    Draining(Instant),
    /// Over.
    Stopped,
}

/// A send that the producer had no room for.
pub(super) struct Blocked {
    pub(super) id: EntryId,
    pub(super) record: Arc<OwnedRecord>,
    pub(super) batch: Batch,
    pub(super) next: usize,
}

/// Opens another consumer of the same stage.
pub(super) type Reopen = Box<dyn Fn(Vec<Arc<str>>) -> Result<Consumer, BrokerError> + Send>;

/// See the module's documentation.
pub(super) struct Runner {
    pub(super) program: Arc<Program>,
    pub(super) consumer: Arc<Consumer>,
    pub(super) reopen: Reopen,
    /// The topics that it reads.
    pub(super) sources: Sources,
    /// When a consumer that is beyond repair is replaced.
    pub(super) reopen_at: Option<Instant>,
    /// When consumers were lost lately.
    pub(super) reopened: Vec<Instant>,
    /// How Kafka is reached.
    pub(super) client: ClientSettings,
    pub(super) delivery: Box<dyn Delivery>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) shared: Arc<Shared>,
    pub(super) runtime: Handle,
    pub(super) phase: Phase,
    /// Whether it stands still because somebody says so.
    pub(super) hold: Option<Hold>,
    pub(super) partitions: Partitions,
    pub(super) in_flight: InFlight,
    /// The stage's part in what the engine may hold.
    pub(super) share: Share,
    /// How much may be in flight in this turn.
    pub(super) window: Bound,
    pub(super) lanes: Lanes,
    /// What waits in parking topics.
    pub(super) parked: Parked,
    /// Records that may start as soon as there is a free place, or at once where steps never wait.
    pub(super) ready: VecDeque<EntryId>,
    /// How many runs the runtime has of this stage, but for those that rest.
    pub(super) running: usize,
    /// How many runs rest between two attempts of a step.
    pub(super) resting: usize,
    /// Of these, those that wait for a place to go on.
    pub(super) rested: VecDeque<(EntryId, oneshot::Sender<()>)>,
    /// When waiting records are due.
    pub(super) timers: BinaryHeap<Reverse<(Instant, EntryId)>>,
    /// Sends that wait for room; while there are any, no further record is worked on.
    pub(super) blocked: VecDeque<Blocked>,
    /// Sends that are not acknowledged.
    pub(super) unacknowledged: usize,
    /// Whether what was sent last went alone: until its answer nothing else is sent.
    pub(super) alone: bool,
    /// Since when the window has been full.
    pub(super) full_since: Option<Instant>,
    pub(super) paused_all: bool,
    pub(super) breakers: Breakers,
    pub(super) rates: Rates,
    /// What is known of equal records, where the stage tells them.
    pub(super) dedupe: Option<Box<Dedupe>>,
    pub(super) commits: Commits,
    /// What is to be changed in the database that the stage writes, where that says where it stands.
    pub(super) writing: Option<Box<Writing>>,
    pub(super) next_report: Instant,
    /// Whether nothing new starts, so that the epoch can close as a whole.
    pub(super) closing: bool,
    pub(super) must_abort: bool,
    /// How far beyond a partition's position records are taken.
    pub(super) reach: i64,
    /// When that is done.
    pub(super) abort_at: Option<Instant>,
    /// When an epoch was last given up, and how many were before it in close succession, itself included.
    pub(super) aborted: Option<(Instant, u32)>,
    /// Why the brokers refuse epochs, and how often they did, until the stage goes on.
    pub(super) refused: Option<(String, u32)>,
    /// An assignment whose starts could not be looked up, and when it is tried again.
    pub(super) retry_assignment: Option<(Instant, Vec<TopicPartition>)>,
    /// How long the last commit and leaving the group may take, each.
    pub(super) leave_limit: Duration,
    /// Until when a hand-over waits for what is under way.
    pub(super) hand_over_by: Option<Instant>,
    /// When to look for a position that is not on the broker any more.
    pub(super) look_for_lost_at: Option<Instant>,
    pub(super) watchdog: Watchdog,
    /// Partitions that were told to go on elsewhere, and wait for their commits.
    pub(super) resets: Vec<Pending>,
    pub(super) now: Instant,
    pub(super) now_millis: i64,
    pub(super) scratch: Batch,
    pub(super) id_text: Vec<u8>,
    pub(super) acknowledgements: Vec<Acknowledgement>,
    pub(super) taken: u64,
    pub(super) counts: Counts,
}

impl Runner {
    pub(super) fn new(
        program: Arc<Program>,
        consumer: Arc<Consumer>,
        (reopen, sources): (Reopen, Sources),
        delivery: Box<dyn Delivery>,
        inbox: Arc<Inbox>,
        shared: Arc<Shared>,
        runtime: &StageRuntime,
    ) -> Self {
        let now = Instant::now();
        let hold = runtime.holds.of(&program.stage.name);
        let reach = if delivery.closes_whole() { REACH } else { i64::MAX };
        Self {
            commits: Commits::new(now, program.stage.commit_interval),
            writing: program.offsets.is_some().then(Box::default),
            next_report: now,
            window: program.stage.window,
            breakers: Breakers::of(&program, &shared),
            rates: Rates::of(&program, now),
            dedupe: Dedupe::of(&program, runtime).map(Box::new),
            program,
            consumer,
            reopen,
            sources,
            reopen_at: None,
            reopened: Vec::new(),
            client: runtime.client.clone(),
            delivery,
            inbox,
            shared,
            runtime: runtime.runtime.clone(),
            share: runtime.budget.join(),
            phase: Phase::Running,
            hold,
            partitions: Partitions::default(),
            in_flight: InFlight::default(),
            lanes: Lanes::default(),
            parked: Parked::default(),
            ready: VecDeque::new(),
            running: 0,
            resting: 0,
            rested: VecDeque::new(),
            timers: BinaryHeap::new(),
            blocked: VecDeque::new(),
            unacknowledged: 0,
            alone: false,
            full_since: None,
            paused_all: false,
            closing: false,
            must_abort: false,
            reach,
            abort_at: None,
            aborted: None,
            refused: None,
            retry_assignment: None,
            leave_limit: LEAVE_LIMIT,
            hand_over_by: None,
            look_for_lost_at: None,
            watchdog: Watchdog::default(),
            resets: Vec::new(),
            now,
            now_millis: 0,
            scratch: Batch::default(),
            id_text: Vec::new(),
            acknowledgements: Vec::new(),
            taken: 0,
            counts: Counts::default(),
        }
    }

    /// Runs until stopped; then what is finished is committed and the group is left.
    pub(super) fn run(mut self) {
        self.inbox.attach();
        while self.phase != Phase::Stopped {
            self.read_clock();
            self.take_letters();
            self.send_blocked();
            self.wake_due();
            let woken = self.wake_parked();
            let taken = self.take_records();
            let started = self.start_ready() + self.follow_parked();
            self.keep_pace();
            if taken + started + woken == 0 {
                self.sleep();
            }
        }
        self.leave();
    }

    fn read_clock(&mut self) {
        self.now = Instant::now();
        self.now_millis = now_millis();
    }

    fn take_letters(&mut self) {
        for command in self.inbox.take_commands() {
            match command {
                Command::Replace(program) => self.replace(program),
                Command::TopicsAreThere(topics) => self.topics_are_there(&topics),
                Command::Hold(hold) => self.hold(hold),
                Command::GoOn => self.go_on(),
                Command::Reset(reset) => self.reset(reset),
                Command::Stop { by, leave } => self.begin_drain(by, leave),
            }
        }
        self.read_acknowledgements();
        for letter in self.inbox.take_letters() {
            match letter {
                Letter::Ended(ended) => self.ended(ended),
                Letter::Resting { id, failure } => self.resting(id, &failure),
                Letter::Rested { id, place } => self.rested.push_back((id, place)),
                Letter::Marks(loaded) => self.marks_loaded(loaded),
                Letter::Written(ended) => self.written(ended),
            }
        }
    }

    fn begin_drain(&mut self, by: Instant, leave: Duration) {
        self.leave_limit = self.leave_limit.min(leave);
        self.phase = match self.phase {
            Phase::Stopped => return,
            Phase::Draining(before) => Phase::Draining(before.min(by)),
            Phase::Running | Phase::Halted(_) => Phase::Draining(by),
        };
        self.ready.clear();
    }

    /// Takes at most a turn of records or events from the consumer; how many records there were.
    fn take_records(&mut self) -> usize {
        self.renew_window();
        let consumer = Arc::clone(&self.consumer);
        let mut taken = 0;
        while taken < TURN && self.may_poll() {
            match consumer.poll(Duration::ZERO) {
                Polled::Record(fetched) => {
                    taken += 1;
                    self.accept(fetched.raw());
                }
                Polled::Rebalance(rebalance) => {
                    self.rebalance(rebalance);
                    // What was assigned may have to be paused before anything of it is read.
                    break;
                }
                Polled::Error(error) => self.consume_error(&error),
                Polled::Nothing | Polled::End(_) => break,
            }
        }
        self.counts.flush(&self.shared.metrics);
        taken
    }

    /// A record was read: it is worked on, queued, or known to be finished.
    pub(super) fn accept(&mut self, raw: RawRecord<'_>) {
        let Some(slot) = self.partitions.find(raw.topic, raw.partition) else { return };
        let Some(partition) = self.partitions.get_mut(slot) else { return };
        let owned = partition.tenure == Tenure::Owned;
        if !owned || partition.awaited.is_some() && !self.is_expected(slot, raw.offset) {
            return;
        }
        let Some(partition) = self.partitions.get_mut(slot) else { return };
        if partition.role == Role::Parked {
            return self.read_parked(slot, raw);
        }
        let early = self.dedupe.as_ref().is_some_and(|dedupe| dedupe.holds(slot, partition.role));
        if early || self.reach < i64::MAX && partition.is_beyond(self.reach, raw.offset) {
            return self.leave_for_later(slot, raw.offset);
        }
        let tracker = partition.tracker.get_or_insert_with(|| OffsetTracker::new(raw.offset));
        let size = raw.size();
        let Some(sequence) = tracker.start(raw.offset, size) else { return };
        let again = partition.role == Role::Replay;
        partition.last_timestamp = raw.timestamp;
        partition.dirty = true;
        if !partition.beyond.finished.is_empty() && partition.beyond.is_finished(raw.offset) {
            tracker.finish(sequence);
            return;
        }
        let spent = match partition.beyond.attempts.is_empty() {
            true => 0,
            false => partition.beyond.attempts.remove(&raw.offset).unwrap_or_default(),
        };
        let carried = match partition.carried.is_empty() {
            true => None,
            false => partition.carried.remove(&raw.offset),
        };
        let alone = !partition.suspects.is_empty() && partition.suspects.remove(&raw.offset);
        self.taken += 1;
        self.counts.took(size);
        self.rates.took(self.now);
        let sampled = self.taken.is_multiple_of(LATENCY_SAMPLE);
        let id = self.in_flight.insert(Entry {
            timestamp: raw.timestamp,
            sampled,
            attempt: spent + 1,
            secured_by: carried.as_ref().map_or(0, |carried| carried.secured_by),
            alone,
            first_started: carried.as_ref().and_then(|carried| carried.first_started),
            first_failed: carried.as_ref().and_then(|carried| carried.first_failed),
            ..Entry::new(slot, sequence, raw.offset, size)
        });
        let timed = self.rates.by_key();
        let go = |raw| match carried {
            _ if !self.passes(id, slot, &raw) => {}
            None if timed => self.begin_in_time(id, slot, raw),
            None => self.begin(id, slot, raw),
            Some(carried) => self.resume(id, slot, raw, *carried),
        };
        match again.then(|| again::origin(&raw)).flatten() {
            None => go(raw),
            Some(found) => go(again::as_from(raw, &found)),
        }
    }

    pub(super) fn begin(&mut self, id: EntryId, slot: u32, raw: RawRecord<'_>) {
        let waits = self.program.waits();
        if !waits && self.lanes.len() == 0 && self.blocked.is_empty() && self.parked.is_empty() {
            return self.work_now(id, raw);
        }
        let lane = self.lane(slot, &raw);
        if let Some(lane) = lane.filter(|lane| self.lanes.is_held(*lane)) {
            self.own(id, raw, Some(lane));
            return self.line_up(id, lane);
        }
        if lane.is_none() && self.is_parked(slot, &raw) {
            return self.finish_parked_before(id);
        }
        if !waits && self.blocked.is_empty() {
            return self.work_now(id, raw);
        }
        self.own(id, raw, lane);
        if let Some(lane) = lane {
            self.lanes.hold(lane, id);
        }
        self.ready.push_back(id);
    }

    /// The lane of a record, where its stage orders anything. A null key orders nothing.
    pub(super) fn lane(&self, slot: u32, raw: &RawRecord<'_>) -> Option<LaneId> {
        let mixed = match self.partitions.get(slot) {
            Some(partition) if partition.role == Role::Input => partition.seed,
            // What was sent again or was parked shares the lane of where it came from.
            _ => seed(raw.topic, raw.partition),
        };
        match self.program.stage.order {
            Order::None => None,
            Order::Partition => Some(mixed),
            Order::Key => raw.key.map(|key| {
                use std::hash::BuildHasher;
                foldhash::fast::FixedState::with_seed(mixed).hash_one(key)
            }),
        }
    }

    /// Keeps a copy of the record, so that it can wait.
    pub(super) fn own(&mut self, id: EntryId, raw: RawRecord<'_>, lane: Option<LaneId>) {
        if let Some(entry) = self.in_flight.get_mut(id) {
            entry.lane = lane;
            if entry.record.is_none() {
                entry.record = Some(Arc::new(raw.to_owned()));
            }
        }
    }

    /// Runs the steps here and now; only for programs that never wait.
    fn work_now(&mut self, id: EntryId, raw: RawRecord<'_>) {
        self.begin_span(id, &raw);
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        let attempt = entry.attempt;
        let mut batch = std::mem::take(&mut self.scratch);
        batch.clear();
        let program = &self.program;
        let result = match guard::removed(Guard::CatchPanic) {
            true => program.prepare_now(raw, attempt, &mut batch),
            false => catch_unwind(AssertUnwindSafe(|| program.prepare_now(raw, attempt, &mut batch)))
                .unwrap_or_else(|panic| Err(panicked(&*panic))),
        };
        self.settle(id, raw, result, batch);
    }

    /// Starts what is ready, as far as there are free places; how many that were.
    fn start_ready(&mut self) -> usize {
        if self.breakers.is_open() {
            return self.probe();
        }
        self.let_return();
        let mut started = 0;
        let mut suspended = Vec::new();
        while self.ready_now() > 0 {
            let Some(id) = self.ready.pop_front() else { break };
            let partition = self.in_flight.slot(id).and_then(|slot| self.partitions.get(slot));
            if partition.is_some_and(|partition| partition.tenure != Tenure::Owned) {
                suspended.push(id);
                continue;
            }
            started += usize::from(self.start(id));
        }
        self.ready.extend(suspended);
        started
    }

    /// Works on a record that waited; false where there is none any more.
    pub(super) fn start(&mut self, id: EntryId) -> bool {
        if self.waits_for_equal(id) {
            return false;
        }
        let Some(entry) = self.in_flight.get_mut(id) else { return false };
        entry.due = None;
        let Some(record) = entry.record.clone() else { return false };
        if self.program.waits() {
            self.work_later(id, record);
        } else {
            self.work_now(id, record.as_raw());
        }
        true
    }

    /// Whether anything that waits may start now.
    pub(super) fn may_start(&self) -> bool {
        matches!(self.phase, Phase::Running)
            && self.hold.is_none()
            && self.blocked.is_empty()
            && !self.must_abort
            && !self.closing
    }

    /// How many ready records could start now.
    fn ready_now(&self) -> usize {
        if !self.may_start() {
            return 0;
        }
        let places = match self.program.waits() {
            true => self.program.stage.concurrency.saturating_sub(self.running),
            false => usize::MAX,
        };
        self.ready.len().min(places)
    }

    /// Runs the steps on the runtime. A record's whole time is bounded by the stage's deadline.
    fn work_later(&mut self, id: EntryId, record: Arc<OwnedRecord>) {
        self.begin_span(id, &record.as_raw());
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        let attempt = entry.attempt;
        let started = *entry.first_started.get_or_insert(self.now);
        let spent = self.now.saturating_duration_since(started);
        let left = self.program.stage.deadline.saturating_sub(spent);
        let program = Arc::clone(&self.program);
        let until = tokio::time::Instant::now() + left;
        let (answers, parent) = (Default::default(), entry.span.as_ref().map(|span| span.parent()));
        let rest = Rest { id, inbox: Arc::clone(&self.inbox), until, answers, parent };
        let run = async move {
            let mut batch = Batch::default();
            let work = program.prepare(record.as_raw(), attempt, &mut batch, &rest);
            let work = tokio::time::timeout_at(until, AssertUnwindSafe(work).catch_unwind());
            let result = match work.await {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => Err(panicked(&*panic)),
                Err(_) => {
                    let message = "the record's deadline passed inside a step";
                    Err(Failure::transient("deadline", message).given_up())
                }
            };
            batch.program = Some(program);
            let answers = rest.answers.into_inner();
            rest.inbox.tell(Letter::Ended(Ended { id, result, batch, answers }));
        };
        entry.task = Some(self.runtime.spawn(run).abort_handle());
        self.running += 1;
    }

    fn ended(&mut self, Ended { id, result, batch, answers }: Ended) {
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        entry.task = None;
        match std::mem::take(&mut entry.resting) {
            true => self.resting -= 1,
            false => self.running -= 1,
        }
        let record = entry.record.clone();
        self.answered(id, &answers);
        if let Some(record) = record {
            self.settle(id, record.as_raw(), result, batch);
        }
        self.breakers.run_ended(id);
    }

    /// Moves waiting records whose time has come to those that may start.
    fn wake_due(&mut self) {
        while self.timers.peek().is_some_and(|Reverse((due, _))| *due <= self.now) {
            let Some(Reverse((_, id))) = self.timers.pop() else { return };
            self.start_or_await_commit(id);
        }
    }

    fn sleep(&mut self) {
        let mut until = self.now + LONGEST_SLEEP;
        until = until.min(self.next_report);
        if let Some(Reverse((due, _))) = self.timers.peek() {
            until = until.min(*due);
        }
        if let Some(due) = self.commit_due() {
            until = until.min(due);
        }
        if let Some(due) = self.abort_at {
            until = until.min(due);
        }
        let others = [self.probe_due(), self.rates.due(self.now), self.parked_due(), self.effects_due()];
        for due in others.into_iter().flatten() {
            until = until.min(due);
        }
        let marks = self.dedupe.as_ref().is_some_and(|dedupe| dedupe.writes_again());
        if marks || !self.blocked.is_empty() {
            until = until.min(self.now + BLOCKED_RETRY);
        }
        // Waking for each acknowledgement would cost more than the work it allows.
        let ending = match self.phase {
            Phase::Draining(deadline) => Some(deadline),
            _ => self.hand_over_by,
        };
        let wanted = match ending {
            Some(deadline) => {
                until = until.min(deadline);
                self.unacknowledged
            }
            None if self.closing => self.unacknowledged,
            None if self.full_since.is_some() || !self.blocked.is_empty() => self.unacknowledged.div_ceil(2),
            None => 0,
        };
        if self.inbox.want_acknowledgements(wanted) {
            std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// A step panicked: its record fails, everything else goes on.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Failure::permanent("panic", format!("a step panicked: {message}"))
}

impl Prepared {
    /// Whether a header of the input is replaced or removed by this record's changes.
    pub(super) fn changes_header(&self, name: &str) -> bool {
        use crate::record::HeaderChange::{Remove, Set};
        self.headers.iter().any(|change| match change {
            Set(changed, _) | Remove(changed) => &**changed == name,
        })
    }
}
