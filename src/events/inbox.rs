//! What other threads tell a stage's thread, and how they wake it: acknowledgements from the
//! producer's thread, ended step runs from the runtime's, commands from the engine's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::dedupe::Loaded;
use super::effects;
use super::hold::Hold;
use super::inflight::EntryId;
use super::program::{Batch, Program, Verdict};
use super::reset::Reset;
use crate::base::Failure;
use crate::broker::{DeliverySink, SendError};

/// An answer of the broker to one send.
pub(super) type Acknowledgement = (EntryId, Result<(), SendError>);

/// A step run that ended on the runtime.
pub(super) struct Ended {
    /// The record.
    pub(super) id: EntryId,
    /// What it became.
    pub(super) result: Result<Verdict, Failure>,
    /// What is to be sent.
    pub(super) batch: Batch,
    /// The steps that were answered by another system, each with how often.
    pub(super) answers: Vec<(usize, usize)>,
}

/// What runs and other work on the runtime tell, in their order.
pub(super) enum Letter {
    /// A run ended.
    Ended(Ended),
    /// A run waits before it tries a step again, which ended in this failure.
    Resting { id: EntryId, failure: Failure },
    /// A run has waited and goes on once it is given a place.
    Rested { id: EntryId, place: oneshot::Sender<()> },
    /// The marks of a partition were read.
    Marks(Loaded),
    /// Effects were written, or not.
    Written(effects::Ended),
}

/// What the engine asks of a stage.
pub(super) enum Command {
    /// Go on with another program from the next record on.
    Replace(Arc<Program>),
    /// Which topics there are.
    TopicsAreThere(Vec<Arc<str>>),
    /// Stand still, or do not any more.
    Hold(Option<Hold>),
    /// Go on after a halt.
    GoOn,
    /// Let partitions go on elsewhere.
    Reset(Reset),
    /// Start nothing new, finish what runs, commit, leave the group. Said again it only hurries.
    Stop {
        /// When what runs is given up.
        by: Instant,
        /// How long the last commit and leaving the group may take, each.
        leave: Duration,
    },
}

/// The letter box of one stage.
#[derive(Default)]
pub(super) struct Inbox {
    thread: OnceLock<Thread>,
    wanted: AtomicUsize,
    acknowledgements: Mutex<Vec<Acknowledgement>>,
    letters: Mutex<Vec<Letter>>,
    commands: Mutex<Vec<Command>>,
}

impl Inbox {
    /// Says which thread to wake; called once, from that thread.
    pub(super) fn attach(&self) {
        let _ = self.thread.set(std::thread::current());
    }

    /// Wakes the stage's thread.
    pub(super) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// How many acknowledgements are reason to wake up; 0: none, the next look at the clock finds
    /// them. False where there are so many already.
    pub(super) fn want_acknowledgements(&self, wanted: usize) -> bool {
        let there = self.acknowledgements.lock();
        self.wanted.store(wanted, Ordering::Release);
        wanted == 0 || there.len() < wanted
    }

    pub(super) fn tell(&self, letter: Letter) {
        self.letters.lock().push(letter);
        self.wake();
    }

    pub(super) fn command(&self, command: Command) {
        self.commands.lock().push(command);
        self.wake();
    }

    /// Swaps the acknowledgements so far into `into`, which must be empty.
    pub(super) fn take_acknowledgements(&self, into: &mut Vec<Acknowledgement>) {
        std::mem::swap(&mut *self.acknowledgements.lock(), into);
    }

    pub(super) fn take_letters(&self) -> Vec<Letter> {
        std::mem::take(&mut *self.letters.lock())
    }

    pub(super) fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut *self.commands.lock())
    }
}

impl DeliverySink for Inbox {
    fn delivered(&self, token: u64, result: Result<(), SendError>) {
        let failed = result.is_err();
        let there = {
            let mut acknowledgements = self.acknowledgements.lock();
            acknowledgements.push((EntryId::from_token(token), result));
            acknowledgements.len()
        };
        if failed || there == self.wanted.load(Ordering::Acquire) {
            self.wake();
        }
    }
}
