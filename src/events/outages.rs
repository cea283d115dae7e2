//! What breakers do to a stage. While a system that its steps ask is down, the stage pauses and one record
//! at a time asks whether it is back; where too many records fail for good, the stage halts.
//!
//! A record that fails while its breaker is open, or opens it, spends no attempt: it waits, holds its lane
//! and is not charged the time. Which outcomes are too many is decided in `breaker`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::{Circuit, Flood};
use super::inflight::EntryId;
use super::partitions::Tenure;
use super::program::Program;
use super::runner::{Phase, Runner};
use super::status::{BreakerStatus, Shared};
use super::throttle::Rates;
use crate::base::guard::{self, Guard};
use crate::base::{Class, Failure, Remedy};

/// How many records that were probes are remembered, so that the next is another one.
const PROBED: usize = 1_024;
/// A deadline that passed so little before its time is no other than it should be.
const SLACK: Duration = Duration::from_millis(50);

/// The breakers of a stage.
pub(super) struct Breakers {
    /// By the place of their step in the chain.
    circuits: Vec<Option<Watched>>,
    flood: Option<Flood>,
    /// Whether the stage has had too many records that fail for good.
    flooded: bool,
    /// Records that passed since one failed for good.
    passed: usize,
    /// How many circuits are open.
    open: usize,
    /// From when on records are not charged the time, while one is open.
    held_since: Option<Instant>,
    /// The record that asks.
    probe: Option<EntryId>,
    /// Those that asked since the first circuit opened.
    probed: Vec<EntryId>,
}

struct Watched {
    circuit: Circuit,
    opened: u64,
    /// The failure that opened it, or the last probe's.
    why: String,
}

impl Breakers {
    pub(super) fn of(program: &Program, shared: &Shared) -> Self {
        let settings = program.stage.breakers;
        let watched = |step: &Arc<str>| {
            shared.metrics.safeguards().set_open(step, false);
            let circuit = Circuit::new(Arc::clone(step), settings.transient?);
            Some(Watched { circuit, opened: 0, why: String::new() })
        };
        let circuits = match settings.transient {
            None => Vec::new(),
            Some(_) => program.asking().map(|step| step.and_then(watched)).collect(),
        };
        Self {
            circuits,
            flood: settings.permanent.map(Flood::new),
            flooded: false,
            passed: 0,
            open: 0,
            held_since: None,
            probe: None,
            probed: Vec::new(),
        }
    }

    /// Whether a system that the steps ask is taken for down.
    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }

    /// The steps of a record have ended.
    pub(super) fn settled(&mut self, passed: bool) {
        self.passed += usize::from(passed);
    }

    /// A run is over: whether it asked or not, another may.
    pub(super) fn run_ended(&mut self, id: EntryId) {
        if self.probe == Some(id) {
            self.probe = None;
        }
    }

    fn watched(&mut self, step: &str) -> Option<&mut Watched> {
        self.circuits.iter_mut().flatten().find(|watched| *watched.circuit.step == *step)
    }

    /// When the next probe may be made: once every open circuit allows for it.
    fn probe_at(&self) -> Option<Instant> {
        self.circuits.iter().flatten().filter_map(|watched| watched.circuit.probe_at()).max()
    }

    /// What the open circuits say, in one line.
    fn why(&self) -> Option<&str> {
        let mut open = self.circuits.iter().flatten().filter(|watched| watched.circuit.probe_at().is_some());
        open.next().map(|watched| watched.why.as_str())
    }

    fn status(&self) -> Vec<BreakerStatus> {
        let watched = self.circuits.iter().flatten();
        watched
            .map(|watched| BreakerStatus {
                step: watched.circuit.step.to_string(),
                open: watched.circuit.probe_at().is_some(),
                opened: watched.opened,
            })
            .collect()
    }
}

impl Runner {
    /// Another generation of the stage: its breakers and rates begin anew.
    pub(super) fn replace(&mut self, program: Arc<Program>) {
        for watched in self.breakers.circuits.iter().flatten() {
            self.shared.metrics.safeguards().forget(&watched.circuit.step);
        }
        self.rates = Rates::of(&program, self.now);
        self.program = program;
        self.renew_breakers();
    }

    /// The breakers begin anew, all closed: after an edit, and whenever a halted stage goes on.
    pub(super) fn renew_breakers(&mut self) {
        self.excuse();
        if self.breakers.is_open() {
            self.shared.recovered("the breakers begin anew");
        }
        self.breakers = Breakers::of(&self.program, &self.shared);
    }

    /// Whether so many records fail for good that this one is left as it is, and the stage halts.
    pub(super) fn is_flooded_by(&mut self, failure: &Failure) -> bool {
        let breakers = &mut self.breakers;
        if !matches!(failure.class, Class::Permanent | Class::Poison) {
            return false;
        }
        let Some(flood) = &mut breakers.flood else { return false };
        if breakers.flooded {
            return true;
        }
        flood.passed(std::mem::take(&mut breakers.passed));
        let Some(why) = flood.failed(self.now, &failure.code) else { return false };
        if guard::removed(Guard::Flood) {
            return false;
        }
        breakers.flooded = true;
        self.shared.metrics.safeguards().flooded();
        self.halt(why);
        true
    }

    /// What another system answered in a run that ended.
    pub(super) fn answered(&mut self, id: EntryId, answers: &[(usize, usize)]) {
        for (step, count) in answers {
            let probe = self.breakers.probe == Some(id);
            let Some(Some(watched)) = self.breakers.circuits.get_mut(*step) else { continue };
            if !probe {
                watched.circuit.passed(*count);
            } else if watched.circuit.probe_passed() {
                let step = Arc::clone(&watched.circuit.step);
                self.closed(&step);
            }
        }
    }

    /// An attempt of a step failed; whether its breaker is open now.
    pub(super) fn attempt_failed(&mut self, id: EntryId, failure: &Failure) -> bool {
        let (now, probe) = (self.now, self.breakers.probe == Some(id));
        let Some(step) = failure.step.as_deref().filter(|_| failure.class == Class::Transient) else {
            return false;
        };
        let Some(watched) = self.breakers.watched(step) else { return false };
        let open = watched.circuit.probe_at().is_some();
        if open && probe {
            watched.circuit.probe_failed(now, failure.retry_after);
            watched.why = why(step, failure);
            self.breakers.probe = None;
        } else if !open && !guard::removed(Guard::Breaker) && watched.circuit.failed(now) {
            watched.opened += 1;
            watched.why = why(step, failure);
            self.opened(step);
            return true;
        }
        open
    }

    fn opened(&mut self, step: &str) {
        self.breakers.open += 1;
        self.breakers.held_since.get_or_insert(self.now);
        self.shared.metrics.safeguards().opened(step);
        self.shared.metrics.safeguards().set_open(step, true);
        self.next_report = self.now;
        if let Some(why) = self.breakers.why() {
            self.shared.trouble(why);
        }
    }

    fn closed(&mut self, step: &str) {
        self.excuse();
        self.breakers.open -= 1;
        self.shared.metrics.safeguards().set_open(step, false);
        self.next_report = self.now;
        if self.breakers.open == 0 {
            self.breakers.held_since = None;
            self.breakers.probed.clear();
            self.shared.recovered(&format!("step `{step}` is answered again; its breaker is closed"));
        }
    }

    /// Whether a failed record is held by a breaker, and the attempt does not count.
    pub(super) fn forgives(&mut self, id: EntryId, failure: &Failure) -> bool {
        if self.breakers.circuits.is_empty() {
            return false;
        }
        // The limit of a run was set before a breaker held it.
        if failure.step.is_none() && failure.remedy == Remedy::None && failure.code == "deadline" {
            self.excuse();
            return self.spent(id) + SLACK < self.program.stage.deadline;
        }
        self.attempt_failed(id, failure)
    }

    /// How long a record has taken so far.
    pub(super) fn spent(&self, id: EntryId) -> Duration {
        let started = self.in_flight.get(id).and_then(|entry| entry.first_started);
        started.map_or(Duration::ZERO, |started| self.now.saturating_duration_since(started))
    }

    /// The record waits for its breaker. It holds its lane, and its next attempt is the one it just had.
    pub(super) fn hold_back(&mut self, id: EntryId, failure: &Failure) {
        self.shared.retried(&failure.code);
        if self.in_flight.get(id).is_some() {
            self.ready.push_back(id);
        }
    }

    /// No record is charged the time that breakers held it so far.
    fn excuse(&mut self) {
        let Some(since) = self.breakers.held_since else { return };
        self.in_flight.excuse(since, self.now);
        self.breakers.held_since = Some(self.now);
    }

    /// Whether nothing is taken, because a breaker is open and there is a record to ask with. Where all
    /// that wait have asked, the next is read: it may be answered though they never are.
    pub(super) fn breaker_holds(&self) -> bool {
        let breakers = &self.breakers;
        let waits = self.ready.len() > breakers.probed.len() || !self.rested.is_empty();
        breakers.is_open() && (breakers.probe.is_some() || waits)
    }

    /// When the next record is to ask, where that is to come.
    pub(super) fn probe_due(&self) -> Option<Instant> {
        self.breakers.probe_at().filter(|at| self.breakers.probe.is_none() && *at > self.now)
    }

    /// While a breaker is open: lets one record ask if it is time; how many began to.
    pub(super) fn probe(&mut self) -> usize {
        if let Some(probe) = self.breakers.probe {
            if self.in_flight.slot(probe).is_some() {
                return 0;
            }
            self.breakers.probe = None;
        }
        let due = self.breakers.probe_at().is_some_and(|at| at <= self.now);
        if !due || !self.may_start() {
            return 0;
        }
        self.excuse();
        while let Some((id, place)) = self.rested.pop_front() {
            if self.give_place(id, place) {
                self.breakers.probe = Some(id);
                return 1;
            }
        }
        let Some(id) = self.next_probe() else { return 0 };
        let started = self.start(id);
        self.breakers.probe = started.then_some(id);
        usize::from(started)
    }

    /// Takes the oldest record that waits and did not ask yet: one that always fails must not keep a
    /// breaker open by itself. Where all have asked, the round begins anew.
    fn next_probe(&mut self) -> Option<EntryId> {
        let age = |id: &EntryId| {
            let entry = self.in_flight.get(*id)?;
            let partition = self.partitions.get(entry.slot)?;
            let asked = self.breakers.probed.contains(id);
            (partition.tenure == Tenure::Owned)
                .then(|| (asked, entry.timestamp.unwrap_or(i64::MAX), entry.offset))
        };
        let ages = self.ready.iter().enumerate().filter_map(|(index, id)| Some((age(id)?, index)));
        let ((asked, ..), index) = ages.min()?;
        let id = self.ready.remove(index)?;
        if asked || self.breakers.probed.len() >= PROBED {
            self.breakers.probed.clear();
        }
        self.breakers.probed.push(id);
        Some(id)
    }

    /// Says in the status what breakers do.
    pub(super) fn report_breakers(&self) {
        if let Some(why) = self.breakers.why().filter(|_| !matches!(self.phase, Phase::Halted(_))) {
            self.shared.remind(why);
        }
        self.shared.set_breakers(self.breakers.status());
    }
}

fn why(step: &str, failure: &Failure) -> String {
    format!("the breaker of step `{step}` is open, and one record at a time asks: {failure}")
}
