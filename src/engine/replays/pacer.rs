//! How fast a replay sends.

use std::time::{Duration, Instant};

/// Lets so many through a second, evenly; a moment's idling may be made up for.
#[derive(Debug)]
pub(super) struct Pacer {
    each: Duration,
    next: Option<Instant>,
}

/// How much idling may be made up for.
const SLACK: Duration = Duration::from_millis(100);

impl Pacer {
    /// For `per_second` records, which is more than none.
    pub(super) fn new(per_second: f64) -> Self {
        let each = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::MAX);
        Self { each, next: None }
    }

    /// How long until the next may go; none where it may go now, and then it counts as gone.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        let next = self.next.map_or(now, |next| next.max(now.checked_sub(SLACK).unwrap_or(now)));
        if next > now {
            self.next = Some(next);
            return Some(next - now);
        }
        self.next = next.checked_add(self.each);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_idling_is_made_up_for_only_a_little() {
        let mut pacer = Pacer::new(100.0);
        let start = Instant::now();
        let through = |pacer: &mut Pacer, now: Instant| {
            let mut count = 0;
            while pacer.wait(now).is_none() {
                count += 1;
            }
            count
        };
        assert_eq!(through(&mut pacer, start), 1);
        assert_eq!(through(&mut pacer, start + Duration::from_millis(5)), 0);
        assert_eq!(through(&mut pacer, start + Duration::from_millis(30)), 3);
        assert_eq!(through(&mut pacer, start + Duration::from_secs(60)), 11);
        let wait = pacer.wait(start + Duration::from_secs(60)).expect("not now");
        assert_eq!(wait, Duration::from_millis(10));
    }
}
