//! Handing partitions over: from the news that they are taken back to the answer, for which the group
//! waits.
//!
//! Until then nothing new starts, polling goes on, and what runs or is sent may end, at most for the
//! stage's `drain`; then what is finished is committed. What did not end in time goes on only where its
//! partition comes back in the same rebalance. After a loss nobody waits and nothing is committed.

use super::partitions::Tenure;
use super::runner::Runner;
use crate::base::guard::{self, Guard};

impl Runner {
    /// The group takes all partitions back.
    pub(super) fn revoked(&mut self, lost: bool) {
        self.retry_assignment = None;
        self.look_for_lost_at = None;
        if matters(lost) {
            return self.lose_all();
        }
        self.move_tenures(Tenure::Owned, Tenure::Leaving);
        self.hand_over_by = Some(self.now + self.program.stage.drain);
        self.hand_over();
    }

    /// Answers the group once nothing of the partitions is under way, or the time for that is up.
    pub(super) fn hand_over(&mut self) {
        let Some(deadline) = self.hand_over_by else { return };
        if matters(self.consumer.assignment_lost()) {
            return self.lose_all();
        }
        self.read_acknowledgements();
        if !self.is_idle() && self.now < deadline {
            return;
        }
        self.hand_over_by = None;
        let limit = self.leave_limit.min(self.program.stage.drain);
        self.commit_now(limit);
        if self.delivery.is_open() && !guard::removed(Guard::GiveUp) {
            self.delivery.give_up(limit);
            return self.lose_all();
        }
        self.writing.iter_mut().for_each(|writing| writing.stop());
        self.move_tenures(Tenure::Leaving, Tenure::Left);
        self.consumer.forget_commits();
        self.commits.forget();
        self.consumer.unassign();
    }

    /// Whether nothing runs, waits for room, or waits for the broker's answer or the database's.
    pub(super) fn is_idle(&self) -> bool {
        self.running == 0 && self.unacknowledged == 0 && self.blocked.is_empty() && self.effects_are_idle()
    }

    pub(super) fn lose_all(&mut self) {
        self.abandon_all();
        self.consumer.forget_commits();
        self.consumer.unassign();
    }

    fn move_tenures(&mut self, from: Tenure, to: Tenure) {
        for slot in self.partitions.slots() {
            if let Some(partition) = self.partitions.get_mut(slot)
                && partition.tenure == from
            {
                partition.tenure = to;
            }
        }
    }
}

fn matters(lost: bool) -> bool {
    lost && !guard::removed(Guard::Lost)
}
