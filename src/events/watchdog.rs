//! The watchdog: a partition that has records and gives none, though nothing holds it back, means that
//! the stage's consumer is stuck; it is replaced.
//!
//! The stage only suspects. An end ahead of a position proves nothing, since the offsets of transaction
//! markers and of aborted or compacted records are behind no record. So the client that looks up the ends
//! reads at the suspected position, too, and says whether a record is there. It does not ask while that
//! client gets no answers either.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::partitions::Tenure;
use super::runner::{Phase, Runner};
use crate::base::guard::{self, Guard};
use crate::broker::{Consumer, Polled, StartAt, TopicPartition};
use crate::catalog::Start;

/// An end that was not looked up again for so long says nothing: the brokers may be away.
const FRESH: Duration = Duration::from_secs(10);
/// How long one poll of the client that proves waits.
const POLL: Duration = Duration::from_millis(100);

/// Where a partition is read next; `None`: at its oldest record.
type Position = Option<i64>;

/// Whether a record is there to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Record,
    /// None up to this offset.
    Nothing(i64),
}

/// What the look-ups know of one partition.
#[derive(Debug, Clone, Copy)]
struct Known {
    end: i64,
    looked_up: Instant,
    asked: Option<Position>,
    found: Option<(Position, Finding)>,
}

/// What the stage's thread asks of the look-ups, and what they found.
#[derive(Default)]
pub(super) struct Suspicion(Mutex<HashMap<TopicPartition, Known>>);

impl Suspicion {
    /// The end of a partition was looked up.
    pub(super) fn looked_up(&self, name: &TopicPartition, end: i64) {
        let looked_up = Instant::now();
        let mut known = self.0.lock();
        let fresh = Known { end, looked_up, asked: None, found: None };
        let known = known.entry(name.clone()).or_insert(fresh);
        (known.end, known.looked_up) = (end, looked_up);
    }

    /// Answers one open question through a consumer that joins no group. Blocks for `limit` at most.
    pub(super) fn prove(&self, consumer: &Consumer, limit: Duration) {
        let open = self.0.lock().iter().find_map(|(name, known)| {
            let position = known.asked.filter(|_| known.found.is_none())?;
            Some((name.clone(), position, known.end))
        });
        let Some((name, position, end)) = open else { return };
        let start = position.map_or(StartAt::Earliest, StartAt::Offset);
        if consumer.assign(&[(name.clone(), start)]).is_err() {
            return;
        }
        let found = first_record(consumer, end, limit);
        consumer.unassign();
        if let (Some(finding), Some(known)) = (found, self.0.lock().get_mut(&name)) {
            tracing::debug!(topic = &*name.topic, partition = name.partition, ?finding, "no progress");
            known.found = Some((position, finding));
        }
    }

    fn of(&self, name: &TopicPartition) -> Option<Known> {
        self.0.lock().get(name).copied()
    }

    fn ask(&self, name: &TopicPartition, position: Position) {
        if let Some(known) = self.0.lock().get_mut(name).filter(|known| known.asked != Some(position)) {
            (known.asked, known.found) = (Some(position), None);
        }
    }

    fn keep(&self, wanted: impl Fn(&TopicPartition) -> bool) {
        self.0.lock().retain(|name, _| wanted(name));
    }
}

fn first_record(consumer: &Consumer, end: i64, limit: Duration) -> Option<Finding> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        match consumer.poll(POLL) {
            Polled::Record(_) => return Some(Finding::Record),
            Polled::End(_) => return Some(Finding::Nothing(end)),
            Polled::Rebalance(_) | Polled::Error(_) | Polled::Nothing => {}
        }
    }
    None
}

/// One partition as it was seen last.
#[derive(Debug, Clone, Copy, Default)]
struct Sight {
    next: Position,
    /// Since when it stands there although more seems to be there.
    behind: Option<Instant>,
    /// Up to here there is nothing to be read.
    clear_to: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Calm,
    Suspect,
    /// It has stood still for so long.
    Stuck(Duration),
}

impl Sight {
    fn judge(&mut self, next: Position, known: Option<Known>, now: Instant, limit: Duration) -> Judgement {
        if self.next != next {
            *self = Self { next, ..Self::default() };
        }
        let fresh = |known: &Known| now.saturating_duration_since(known.looked_up) <= FRESH;
        let Some(known) = known.filter(fresh) else {
            self.behind = None;
            return Judgement::Calm;
        };
        let finding = known.found.filter(|(position, _)| *position == next).map(|(_, finding)| finding);
        if let Some(Finding::Nothing(end)) = finding {
            self.clear_to = self.clear_to.max(end);
        }
        if known.end <= next.unwrap_or_default().max(self.clear_to) {
            self.behind = None;
            return Judgement::Calm;
        }
        let stood = now.saturating_duration_since(*self.behind.get_or_insert(now));
        match finding {
            _ if stood < limit => Judgement::Calm,
            Some(Finding::Record) => Judgement::Stuck(stood),
            _ => Judgement::Suspect,
        }
    }
}

/// What the stage remembers between two looks.
#[derive(Default)]
pub(super) struct Watchdog(HashMap<TopicPartition, Sight>);

impl Runner {
    /// Looks whether a partition stands still for which nothing in the stage is the reason; called about
    /// once a second.
    pub(super) fn watch(&mut self) {
        let limit = self.program.stage.watchdog;
        let Some(limit) = limit.filter(|_| self.is_reading() && !guard::removed(Guard::Watchdog)) else {
            return self.watchdog.0.clear();
        };
        let oldest_first = self.program.stage.start == Start::Earliest;
        let (mut seen, mut stuck) = (HashMap::new(), None);
        for partition in self.partitions.iter() {
            let next = partition.next();
            if partition.paused || partition.tenure != Tenure::Owned || next.is_none() && !oldest_first {
                continue;
            }
            let name = &partition.name;
            let known = self.shared.suspicion.of(name);
            let mut sight = self.watchdog.0.get(name).copied().unwrap_or_default();
            match sight.judge(next, known, self.now, limit) {
                Judgement::Calm => {}
                Judgement::Suspect => self.shared.suspicion.ask(name, next),
                Judgement::Stuck(stood) => stuck = Some((name.clone(), stood)),
            }
            seen.insert(name.clone(), sight);
        }
        self.shared.suspicion.keep(|name| self.partitions.find(&name.topic, name.partition).is_some());
        self.watchdog.0 = seen;
        if let Some((name, stood)) = stuck {
            self.rebuild_consumer(&name, stood);
        }
    }

    /// Whether all that the consumer has would be taken now.
    fn is_reading(&mut self) -> bool {
        let looking = self.retry_assignment.is_some() || self.look_for_lost_at.is_some();
        matches!(self.phase, Phase::Running) && !looking && !self.paused_all && self.may_poll()
    }

    fn rebuild_consumer(&mut self, name: &TopicPartition, stood: Duration) {
        self.abandon_all();
        self.watchdog.0.clear();
        self.shared.suspicion.keep(|_| false);
        self.shared.metrics.watchdog_rebuilds(1);
        self.shared.trouble(&format!(
            "{name} has records and its consumer gave none for {} s; the watchdog replaces the consumer",
            stood.as_secs()
        ));
        self.reopen_at = Some(self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn known(end: i64, looked_up: Instant) -> Option<Known> {
        Some(Known { end, looked_up, asked: None, found: None })
    }

    #[test]
    fn a_position_is_suspected_once_it_stood_behind_its_end_for_the_whole_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sight = Sight::default();
        let mut look =
            |next, end, seconds| sight.judge(Some(next), known(end, at(seconds)), at(seconds), LIMIT);
        assert_eq!(look(5, 5, 0), Judgement::Calm);
        assert_eq!(look(5, 5, 500), Judgement::Calm, "nothing is there");
        assert_eq!(look(5, 9, 501), Judgement::Calm, "it came just now");
        assert_eq!(look(6, 9, 550), Judgement::Calm, "one was taken");
        assert_eq!(look(6, 9, 600), Judgement::Calm);
        assert_eq!(look(6, 9, 610), Judgement::Suspect);
    }

    #[test]
    fn only_a_record_that_another_client_read_proves_a_stall() {
        let start = Instant::now();
        let later = start + LIMIT;
        let found =
            |finding, end, at| Some(Known { found: Some((Some(5), finding)), ..known(end, at).unwrap() });
        let mut sight = Sight::default();
        assert_eq!(sight.judge(Some(5), known(9, start), start, LIMIT), Judgement::Calm);
        let stuck = sight.judge(Some(5), found(Finding::Record, 9, later), later, LIMIT);
        assert_eq!(stuck, Judgement::Stuck(LIMIT));
        assert_eq!(sight.judge(Some(6), found(Finding::Record, 9, later), later, LIMIT), Judgement::Calm);

        let mut sight = Sight::default();
        sight.judge(Some(5), known(9, start), start, LIMIT);
        let nothing = Finding::Nothing(9);
        assert_eq!(sight.judge(Some(5), found(nothing, 9, later), later, LIMIT), Judgement::Calm);
        let much = later + 10 * LIMIT;
        assert_eq!(sight.judge(Some(5), found(nothing, 9, much), much, LIMIT), Judgement::Calm);
    }

    #[test]
    fn time_without_look_ups_does_not_count() {
        let start = Instant::now();
        let mut sight = Sight::default();
        sight.judge(Some(5), known(9, start), start, LIMIT);
        let much = start + 10 * LIMIT;
        assert_eq!(sight.judge(Some(5), known(9, start), much, LIMIT), Judgement::Calm);
        assert_eq!(sight.judge(Some(5), known(9, much), much, LIMIT), Judgement::Calm, "it begins anew");
    }
}
