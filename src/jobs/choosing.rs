//! Which lane and priority of a queue is claimed next. Pure.
//!
//! Jobs that come back never wait behind the new ones, nor these behind them: where both have work they take
//! turns, and what comes back has at most half of a claim. A job goes up one priority a minute that it waits,
//! in the reckoning alone.

use std::time::Instant;

use crate::store::{AGEING, Head, Lane, LowWater};

/// The priorities of each lane.
const PRIORITIES: std::ops::RangeInclusive<i16> = 1..=9;

const LANES: [Lane; 3] = [Lane::New, Lane::Again, Lane::Alone];

/// One lane and priority.
pub(super) type Mark = (Lane, i16);

/// How far a queue is claimed, for each lane and priority.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: Vec<(Mark, LowWater)>,
    last: Option<Lane>,
}

impl Marks {
    /// Where to look for the first due job of each lane and priority.
    pub(super) fn looks(&mut self, now: Instant, idle: bool) -> Vec<(Lane, i16, i64)> {
        if self.marks.is_empty() {
            let all = LANES.into_iter().flat_map(|lane| PRIORITIES.map(move |priority| (lane, priority)));
            self.marks = all.map(|mark| (mark, LowWater::default())).collect();
        }
        self.marks.iter().map(|((lane, priority), low)| (*lane, *priority, low.peek(now, idle))).collect()
    }

    /// The next to claim from, and how many of `free` at most.
    pub(super) fn choose(&mut self, heads: &[Head], free: usize) -> Option<(Mark, usize)> {
        let lane = next_lane(self.last, heads)?;
        let best =
            heads.iter().filter(|head| head.lane == lane).min_by(|a, b| rank(a).total_cmp(&rank(b)))?;
        self.last = Some(lane);
        let contested = heads.iter().any(|head| head.lane != lane);
        let limit = match lane {
            Lane::New => free,
            Lane::Again if contested => free.div_ceil(2),
            Lane::Again => free,
            Lane::Alone => 1,
        };
        Some(((lane, best.priority), limit))
    }

    /// Every look found nothing.
    pub(super) fn found_nothing(&mut self, now: Instant, idle: bool) {
        for (_, low) in &mut self.marks {
            let scan = low.begin(now, idle);
            low.end(scan, now, None, 0, 1);
        }
    }

    /// The mark of a lane and priority.
    pub(super) fn of(&mut self, mark: Mark) -> &mut LowWater {
        if let Some(at) = self.marks.iter().position(|(known, _)| *known == mark) {
            return &mut self.marks[at].1;
        }
        self.marks.push((mark, LowWater::default()));
        let last = self.marks.len() - 1;
        &mut self.marks[last].1
    }
}

/// The lane after `last` in turn that has work.
fn next_lane(last: Option<Lane>, heads: &[Head]) -> Option<Lane> {
    let start = last.map_or(0, |last| last as usize + 1);
    let mut turns = (0..LANES.len()).map(|step| LANES[(start + step) % LANES.len()]);
    turns.find(|lane| heads.iter().any(|head| head.lane == *lane))
}

fn rank(head: &Head) -> f64 {
    f64::from(head.priority) - head.age.as_secs_f64() / AGEING
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::JobId;

    fn head(lane: Lane, priority: i16, age: u64) -> Head {
        Head { lane, priority, seq: 1, id: JobId(1), age: Duration::from_secs(age) }
    }

    #[test]
    fn the_lower_number_goes_first_until_another_has_waited_for_it() {
        let mut marks = Marks::default();
        let young = [head(Lane::New, 5, 10), head(Lane::New, 1, 0)];
        assert_eq!(marks.choose(&young, 8), Some(((Lane::New, 1), 8)));
        let old = [head(Lane::New, 5, 300), head(Lane::New, 1, 0)];
        assert_eq!(marks.choose(&old, 8), Some(((Lane::New, 5), 8)));
        assert_eq!(marks.choose(&[], 8), None);
    }

    #[test]
    fn what_comes_back_and_what_is_new_take_turns_and_neither_waits() {
        let mut marks = Marks::default();
        let both = [head(Lane::New, 5, 0), head(Lane::Again, 9, 0), head(Lane::Alone, 5, 0)];
        let chosen: Vec<_> = (0..4).filter_map(|_| marks.choose(&both, 9)).collect();
        assert_eq!(
            chosen,
            [((Lane::New, 5), 9), ((Lane::Again, 9), 5), ((Lane::Alone, 5), 1), ((Lane::New, 5), 9)]
        );
        let again = [head(Lane::Again, 5, 0)];
        assert_eq!(marks.choose(&again, 9), Some(((Lane::Again, 5), 9)), "all of it where nothing is new");
    }
}
