//! Standing still because somebody says so, and going on after a halt.
//!
//! A stage that is held keeps its membership and its partitions: what runs ends and is committed, and
//! nothing new starts. Who says so, and where that is kept, is the engine's business.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::runner::{Phase, Runner};

/// Why a stage is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is not known yet whether somebody wants it.
    Unknown,
    /// Somebody wants it: who, when and why.
    Paused(String),
}

/// Which stages of an engine are to be held; shared by those that start later, too.
#[derive(Debug, Default)]
pub struct Holds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: bool,
    /// The paused stages, and why.
    paused: BTreeMap<String, String>,
}

impl Holds {
    /// Nobody wants any stage to be held.
    pub fn none() -> Self {
        Self(Mutex::new(State { known: true, paused: BTreeMap::new() }))
    }

    /// All that was said so far is known now: what nobody wants to be held may run.
    pub fn known(&self) {
        self.0.lock().known = true;
    }

    /// Whether that is so.
    pub fn is_known(&self) -> bool {
        self.0.lock().known
    }

    /// Stage `stage` is to be held for this reason, or not any more.
    pub fn set(&self, stage: &str, reason: Option<String>) {
        let mut state = self.0.lock();
        match reason {
            Some(reason) => state.paused.insert(stage.to_owned(), reason),
            None => state.paused.remove(stage),
        };
    }

    pub(super) fn of(&self, stage: &str) -> Option<Hold> {
        let state = self.0.lock();
        match state.paused.get(stage) {
            Some(reason) => Some(Hold::Paused(reason.clone())),
            None => (!state.known).then_some(Hold::Unknown),
        }
    }
}

impl Runner {
    /// Is held from now on, or not any more.
    pub(super) fn hold(&mut self, hold: Option<Hold>) {
        if self.hold == hold {
            return;
        }
        match &hold {
            Some(Hold::Paused(reason)) => tracing::info!(stage = &*self.program.stage.name, "{reason}"),
            None if self.hold != Some(Hold::Unknown) => {
                tracing::info!(stage = &*self.program.stage.name, "goes on");
                self.shared.goes_on();
            }
            _ => {}
        }
        self.hold = hold;
        self.next_report = self.now;
    }

    /// Goes on after a halt: all is read again from its position, with fresh attempts.
    pub(super) fn go_on(&mut self) {
        if !matches!(self.phase, Phase::Halted(_)) {
            return;
        }
        tracing::info!(stage = &*self.program.stage.name, "goes on after a halt");
        self.phase = Phase::Running;
        self.shared.goes_on();
        self.renew_breakers();
        for slot in self.partitions.slots() {
            self.rewind(slot, None);
            self.parked.forgive(slot);
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.carried.clear();
                partition.beyond.attempts.clear();
                partition.dirty = true;
            }
        }
        self.pass_lost();
        self.next_report = self.now;
    }
}
