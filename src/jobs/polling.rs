//! When an idle queue looks again: soon at first, then less and less often. Pure.

use std::time::{Duration, Instant};

use crate::base::guard::{self, Guard};

/// The first wait after nothing was found; each that follows is four times as long.
const FIRST: Duration = Duration::from_millis(50);

/// The longest wait where notifications come; a lost one costs as much.
const NOTIFIED: Duration = Duration::from_secs(20);

/// The longest wait where none come.
const ALONE: Duration = Duration::from_secs(1);

/// How long a queue whose limits hold up its work is left alone, at least and at most. What ends here wakes it; what
/// ends elsewhere does not.
const HELD: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(200));

/// How long a queue that failed is left alone.
const FAILED: Duration = Duration::from_secs(1);

/// Until when a queue waits, and for how long it has asked to be notified.
#[derive(Debug, Default)]
pub(super) struct Polling {
    until: Option<Instant>,
    last: Option<Duration>,
    armed: Option<Instant>,
}

impl Polling {
    /// For how long an idle queue asks to be notified.
    pub(super) const ARM: Duration = Duration::from_secs(60);

    /// How long is left to wait, where it waits.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }

    /// Whether it waits.
    pub(super) fn waits(&self) -> bool {
        self.until.is_some()
    }

    /// Whether nothing was found last time.
    pub(super) fn idle(&self) -> bool {
        self.last.is_some()
    }

    /// The wait is over.
    pub(super) fn due(&mut self) {
        self.until = None;
    }

    /// Somebody says that there is work.
    pub(super) fn woken(&mut self) {
        self.until = None;
    }

    /// There was work.
    pub(super) fn found(&mut self) {
        self.until = None;
        self.last = None;
    }

    /// It could not be asked.
    pub(super) fn failed(&mut self, now: Instant) {
        self.until = Some(now + FAILED);
    }

    /// There is work that limits hold up; so many jobs may start in a second.
    pub(super) fn held(&mut self, now: Instant, rate: Option<f64>) {
        let (least, most) = HELD;
        let next = rate.and_then(|rate| Duration::try_from_secs_f64(rate.recip()).ok());
        self.until = Some(now + next.unwrap_or(most).clamp(least, most));
        self.last = None;
    }

    /// Whether to ask to be notified before it waits.
    pub(super) fn wants_arming(&self, now: Instant, listening: bool) -> bool {
        listening && self.armed.is_none_or(|until| until < now + NOTIFIED + FAILED)
    }

    /// It has asked, and looks once more before it waits, since somebody may have been between.
    pub(super) fn armed(&mut self, now: Instant) {
        self.armed = Some(now + Self::ARM);
        self.until = None;
        self.last.get_or_insert(Duration::ZERO);
    }

    /// There was nothing.
    pub(super) fn nothing(&mut self, now: Instant, listening: bool) {
        let most = if listening { NOTIFIED } else { ALONE };
        if listening && guard::removed(Guard::PollAnyway) {
            self.until = Some(now + Self::ARM);
            return;
        }
        let wait = self.last.map_or(FIRST, |last| (last * 4).max(FIRST)).min(most);
        self.last = Some(wait);
        self.until = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits of a queue that finds nothing `looks` times, in milliseconds; 0: it armed and looked at once.
    fn waits(looks: usize, listening: bool) -> Vec<u128> {
        let (mut polling, mut now) = (Polling::default(), Instant::now());
        (0..looks)
            .map(|_| {
                if polling.wants_arming(now, listening) {
                    polling.armed(now);
                } else {
                    polling.nothing(now, listening);
                }
                let wait = polling.wait(now).unwrap_or_default();
                now += wait;
                polling.due();
                wait.as_millis()
            })
            .collect()
    }

    #[test]
    fn a_queue_that_is_notified_looks_ever_less_often() {
        assert_eq!(waits(8, true), [0, 50, 200, 800, 3_200, 12_800, 20_000, 20_000]);
        let hour = 3_600_000;
        let mut spent = 0;
        let looks = waits(400, true).into_iter().take_while(|wait| {
            spent += wait;
            spent < hour
        });
        assert!(looks.count() < 360, "under one look in ten seconds, arming included");
    }

    #[test]
    fn one_that_is_not_looks_every_second() {
        assert_eq!(waits(5, false), [50, 200, 800, 1_000, 1_000]);
    }

    #[test]
    fn one_whose_limits_hold_it_up_looks_again_when_the_next_may_start() {
        let now = Instant::now();
        let wait = |rate| {
            let mut polling = Polling::default();
            polling.nothing(now, true);
            polling.held(now, rate);
            assert!(!polling.idle());
            polling.wait(now).unwrap_or_default().as_millis()
        };
        assert_eq!(
            [None, Some(1e9), Some(10.0), Some(0.1), Some(1e-300)].map(wait),
            [200, 50, 100, 200, 200]
        );
    }

    #[test]
    fn work_that_is_found_starts_it_anew() {
        let (mut polling, now) = (Polling::default(), Instant::now());
        polling.nothing(now, false);
        polling.nothing(now, false);
        assert!(polling.idle() && polling.waits());
        polling.found();
        assert!(!polling.idle() && !polling.waits());
        polling.nothing(now, false);
        assert_eq!(polling.wait(now), Some(FIRST));
    }
}
