//! One replay at work: reads, selects, sends, settles what is acknowledged, and moves the cursor.
//!
//! One thread; the producer's own thread only leaves answers. Each second, first what was acknowledged is
//! marked as settled, then the cursor is committed behind it. So what repeats after a kill is at most what
//! was sent since the last commit, and of dead letters only what was not marked.

use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::board::{Board, Stop};
use super::counts::{Counts, Fate};
use super::judge::Judge;
use super::ledger::{Ledger, Token};
use super::pacer::Pacer;
use super::spec::Spec;
use super::targets::{Place, Targets};
use super::{ReplayError, cursor};
use crate::base::guard::{self, Guard};
use crate::base::now_millis;
use crate::broker::{DeliverySink, Outgoing, Producer, SendError, Sink};
use crate::engine::scan::{See, Seen};
use crate::events::letters::{Again, Letter};
use crate::record::RawRecord;

/// How often the cursor is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How often orders are looked for and progress is told.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// One record in so many looks at the clock.
const CLOCK_EVERY: u32 = 64;
/// The most records that are sent or read beyond the cursor.
const MOST_OPEN: usize = 100_000;
/// How long one wait for an answer is.
const MOMENT: Duration = Duration::from_millis(5);
/// How long the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// How a run of a replay ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What became of the records so far, those of earlier runs included.
    pub counts: Counts,
    /// Why it ended before all was read.
    pub stopped: Option<Stop>,
    /// Stages that gave records up and are not in the files.
    pub gone: Vec<String>,
}

/// What the producer's thread leaves.
pub(super) struct Answers {
    reader: Thread,
    all: Mutex<Vec<(Token, Result<(), SendError>)>>,
}

impl Answers {
    /// For this thread.
    pub(super) fn here() -> Arc<Self> {
        Arc::new(Self { reader: thread::current(), all: Mutex::default() })
    }
}

impl DeliverySink for Answers {
    fn delivered(&self, token: u64, result: Result<(), SendError>) {
        let mut all = self.all.lock();
        all.push((token, result));
        if all.len() == 1 {
            self.reader.unpark();
        }
    }
}

/// See the module's documentation.
pub(super) struct Run<'a> {
    pub(super) spec: &'a Spec,
    pub(super) judge: Judge,
    pub(super) again: Again,
    pub(super) targets: Targets<'a>,
    pub(super) board: Board,
    pub(super) producer: Arc<Producer>,
    pub(super) sink: Sink,
    pub(super) answers: Arc<Answers>,
    pub(super) ledger: Ledger,
    pub(super) pacer: Option<Pacer>,
    /// Told now and then how far it is: the counts so far.
    pub(super) tell: &'a mut dyn FnMut(Counts),
    pub(super) clock: Clock,
    pub(super) taken: Vec<(Token, Result<(), SendError>)>,
    /// Why it goes no further.
    pub(super) halt: Option<Halt>,
}

/// When what is due next.
pub(super) struct Clock {
    records: u32,
    look: Instant,
    commit: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self { records: 0, look: now, commit: now + COMMIT_EVERY }
    }
}

/// Why a run goes no further.
pub(super) enum Halt {
    Stop(Stop),
    Error(ReplayError),
}

impl Run<'_> {
    /// All was read, or the run was halted: waits for the last answers and moves the cursor there.
    pub(super) fn finish(mut self) -> Result<Ended, ReplayError> {
        let until = Instant::now() + LAST_ANSWERS;
        while self.producer.in_flight() > 0 && !self.is_lost() && Instant::now() < until {
            thread::park_timeout(MOMENT);
        }
        self.take_answers();
        if !self.is_lost() {
            self.keep()?;
        }
        (self.tell)(self.ledger.counts());
        let open = self.ledger.open();
        let stopped = match self.halt {
            Some(Halt::Error(error)) => return Err(error),
            Some(Halt::Stop(stop)) => Some(stop),
            None if open > 0 => return Err(ReplayError::Unanswered(open)),
            None => None,
        };
        Ok(Ended { counts: self.ledger.counts(), stopped, gone: self.targets.gone().to_vec() })
    }

    /// Whether another command works on the replay by now: nothing may be committed any more.
    fn is_lost(&self) -> bool {
        matches!(self.halt, Some(Halt::Stop(Stop::TakenOver { .. })))
    }

    fn seen(&self) -> Seen {
        if self.halt.is_some() { Seen::Enough } else { Seen::More }
    }

    fn fail(&mut self, error: ReplayError) {
        self.halt.get_or_insert(Halt::Error(error));
    }

    /// One record, to its end or on its way.
    fn take(&mut self, raw: &RawRecord<'_>) {
        let letter = self.again.read(raw);
        match self.judge.judge(raw, &letter) {
            Ok(()) => self.send(raw, &letter),
            Err(fate) => self.ledger.passed(raw.partition, raw.offset, fate),
        }
    }

    fn send(&mut self, raw: &RawRecord<'_>, letter: &Letter<'_>) {
        self.wait_for_turn();
        if self.halt.is_some() {
            return;
        }
        let origin = letter.origin(raw);
        let is_stage = self.targets.is_stage();
        let (topic, partition) = match self.targets.place(letter, &origin) {
            Ok(Place::At(topic, partition)) => (topic, partition),
            Ok(Place::Nowhere) => return self.ledger.passed(raw.partition, raw.offset, Fate::StageGone),
            Err(error) => return self.fail(error),
        };
        let Some(token) = self.ledger.sending(raw.partition, raw.offset) else { return };
        let mut headers = self.again.headers(raw, letter.replays, is_stage.then_some(&origin));
        // To a stage the original's time goes in the header, so that the topic keeps the record from now on.
        let timestamp = origin.timestamp.filter(|_| !is_stage);
        loop {
            let topic = &topic;
            let out = Outgoing { topic, partition, key: raw.key, value: raw.value, timestamp, headers };
            match self.producer.send(out, &self.sink, token) {
                Ok(()) => return,
                // What was not sent keeps the cursor before it.
                Err((SendError::Full, _)) if self.halt.is_some() => return,
                Err((SendError::Full, back)) => {
                    headers = back;
                    thread::park_timeout(MOMENT);
                    self.look_around();
                }
                Err((error, _)) => return self.answered(token, Err(error)),
            }
        }
    }

    /// Waits for the rate, and for answers where too many are open.
    fn wait_for_turn(&mut self) {
        while self.halt.is_none() && self.ledger.open() >= MOST_OPEN {
            thread::park_timeout(MOMENT);
            self.look_around();
        }
        while self.halt.is_none() {
            let Some(wait) = self.pacer.as_mut().and_then(|pacer| pacer.wait(Instant::now())) else { return };
            thread::park_timeout(wait.min(LOOK_EVERY));
            self.look_around();
        }
    }

    fn take_answers(&mut self) {
        let mut taken = std::mem::take(&mut self.taken);
        std::mem::swap(&mut *self.answers.all.lock(), &mut taken);
        for (token, result) in taken.drain(..) {
            self.answered(token, result);
        }
        self.taken = taken;
    }

    fn answered(&mut self, token: Token, result: Result<(), SendError>) {
        let fate = match result {
            Ok(()) => Fate::Sent,
            Err(SendError::TooLarge) => Fate::TooLarge,
            // It stays open, so that the cursor never passes it.
            Err(error) => return self.fail(ReplayError::Send(error)),
        };
        let board = &mut self.board;
        let settles = self.spec.settles();
        self.ledger.ended(token, fate, |partition, offset| {
            if settles {
                board.mark(partition, offset);
            }
        });
    }

    /// Whatever the clock asks for.
    fn look_around(&mut self) {
        let now = Instant::now();
        self.take_answers();
        if now >= self.clock.look {
            self.clock.look = now + LOOK_EVERY;
            (self.tell)(self.ledger.counts());
            if let Some(stop) = self.board.orders() {
                self.halt.get_or_insert(Halt::Stop(stop));
            }
        }
        if now >= self.clock.commit && self.halt.is_none() {
            self.clock.commit = now + COMMIT_EVERY;
            if let Err(error) = self.keep() {
                self.fail(error);
            }
        }
    }

    /// Marks what was acknowledged, then moves the cursor behind it.
    fn keep(&mut self) -> Result<(), ReplayError> {
        self.board.flush()?;
        if guard::removed(Guard::ReplayCursor) {
            return Ok(());
        }
        cursor::commit(self.targets.looker, &self.spec.topic, self.ledger.standings(), now_millis())
    }
}

impl See for Run<'_> {
    fn record(&mut self, raw: &RawRecord<'_>) -> Seen {
        self.take(raw);
        self.clock.records += 1;
        if self.clock.records >= CLOCK_EVERY {
            self.clock.records = 0;
            self.look_around();
        }
        self.seen()
    }

    fn nothing(&mut self) -> Seen {
        self.look_around();
        self.seen()
    }
}
