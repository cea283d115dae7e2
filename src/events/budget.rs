//! What all stages of an engine may hold in flight together.
//!
//! Half of it is divided among the stages, so that one which stands still with all it could get never
//! stops another; the other half goes to whoever asks first. Each stage says once a turn what it holds,
//! so together they may pass the bound by what they take in one turn.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::ByteSize;
use crate::catalog::Bound;

/// See the module's documentation.
#[derive(Debug)]
pub struct Budget {
    limit: Bound,
    stages: AtomicUsize,
    /// What the stages hold beyond their own parts.
    common_records: AtomicUsize,
    common_bytes: AtomicUsize,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(limit: Bound) -> Arc<Self> {
        let (stages, common_records, common_bytes) = Default::default();
        Arc::new(Self { limit, stages, common_records, common_bytes })
    }

    /// The share of one more stage, until it is dropped.
    pub(super) fn join(self: &Arc<Self>) -> Share {
        self.stages.fetch_add(1, Ordering::AcqRel);
        Share { budget: Arc::clone(self), taken_records: 0, taken_bytes: 0 }
    }
}

/// One stage's part in the budget.
pub(super) struct Share {
    budget: Arc<Budget>,
    /// What it has said that it holds of the common half.
    taken_records: usize,
    taken_bytes: usize,
}

impl Share {
    /// Says what the stage holds and gives how much it may hold.
    pub(super) fn renew(&mut self, records: usize, bytes: usize) -> Bound {
        let budget = &self.budget;
        let stages = budget.stages.load(Ordering::Acquire).max(1);
        let renew = |limit: usize, held: usize, taken: &mut usize, common: &AtomicUsize| {
            let own = (limit / 2 / stages).max(1);
            let now = held.saturating_sub(own);
            let before = std::mem::replace(taken, now);
            // In two's complement one addition does for both directions.
            let change = now.wrapping_sub(before);
            let used = common.fetch_add(change, Ordering::AcqRel).wrapping_add(change);
            let others = used.saturating_sub(now);
            own + (limit / 2).saturating_sub(others)
        };
        let limit = budget.limit;
        let records = renew(limit.records, records, &mut self.taken_records, &budget.common_records);
        let bytes = renew(limit.bytes.as_usize(), bytes, &mut self.taken_bytes, &budget.common_bytes);
        Bound { records, bytes: ByteSize(bytes as u64) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.renew(0, 0);
        self.budget.stages.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("records", &self.taken_records).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(records: usize, bytes: u64) -> Arc<Budget> {
        Budget::new(Bound { records, bytes: ByteSize(bytes) })
    }

    #[test]
    fn a_stage_alone_may_hold_all_of_it() {
        let budget = budget(100, 1_000);
        let mut share = budget.join();
        assert_eq!(share.renew(0, 0), Bound { records: 100, bytes: ByteSize(1_000) });
        assert_eq!(share.renew(100, 1_000), Bound { records: 100, bytes: ByteSize(1_000) });
    }

    #[test]
    fn a_stage_that_takes_all_it_gets_leaves_every_other_its_part() {
        let budget = budget(100, 1_000);
        let (mut greedy, mut modest) = (budget.join(), budget.join());
        let most = greedy.renew(0, 0);
        assert_eq!(most.records, 75, "a quarter of its own and the common half");
        greedy.renew(most.records, most.bytes.as_usize());
        let left = modest.renew(0, 0);
        assert_eq!((left.records, left.bytes.0), (25, 250));
        modest.renew(left.records, 0);
        assert_eq!(greedy.renew(75, 750).records, 75, "its own part costs the others nothing");
    }

    #[test]
    fn what_a_stage_held_is_free_again_when_it_ends() {
        let budget = budget(100, 1_000);
        let mut first = budget.join();
        let mut second = budget.join();
        first.renew(75, 750);
        assert_eq!(second.renew(0, 0).records, 25);
        drop(first);
        assert_eq!(second.renew(0, 0), Bound { records: 100, bytes: ByteSize(1_000) });
    }

    #[test]
    fn a_budget_that_is_too_small_to_divide_still_lets_each_stage_work() {
        let budget = budget(1, 1);
        let (mut one, mut two) = (budget.join(), budget.join());
        one.renew(1, 1);
        assert!(two.renew(0, 0).records >= 1 && one.renew(1, 1).records >= 1);
    }
}
