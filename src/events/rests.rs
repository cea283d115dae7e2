//! Runs that rest between two attempts of one step: they give their place to others meanwhile, and take
//! one again before they go on. They keep their lane, since their record is not through.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::inbox::{Inbox, Letter};
use super::inflight::EntryId;
use super::runner::Runner;
use crate::base::Failure;
use crate::steps::{BoxedWait, Pause};
use crate::telemetry::traces::Parent;

/// A run as its steps wait by it.
pub(super) struct Rest {
    /// The record.
    pub(super) id: EntryId,
    /// Where the stage's thread reads.
    pub(super) inbox: Arc<Inbox>,
    /// When the record's deadline passes.
    pub(super) until: Instant,
    /// The steps that were answered by another system, each with how often.
    pub(super) answers: Mutex<Vec<(usize, usize)>>,
    /// The record's span, where spans are made.
    pub(super) parent: Option<Parent>,
}

impl Pause for Rest {
    fn pause<'a>(&'a self, wait: Duration, failure: &'a Failure) -> BoxedWait<'a> {
        Box::pin(async move {
            if Instant::now() + wait >= self.until {
                return false;
            }
            self.inbox.tell(Letter::Resting { id: self.id, failure: failure.clone() });
            tokio::time::sleep(wait).await;
            let (place, given) = oneshot::channel();
            self.inbox.tell(Letter::Rested { id: self.id, place });
            // No place is given where the stage ends, and the run with it.
            given.await.is_ok()
        })
    }

    fn answered(&self, step: usize) {
        let mut answers = self.answers.lock();
        match answers.iter_mut().find(|(known, _)| *known == step) {
            Some((_, count)) => *count += 1,
            None => answers.push((step, 1)),
        }
    }

    fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }
}

impl Runner {
    /// A run rests: its place is free.
    pub(super) fn resting(&mut self, id: EntryId, failure: &Failure) {
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        entry.resting = true;
        self.running -= 1;
        self.resting += 1;
        if let Some(span) = &mut entry.span {
            span.attempt_failed(failure);
        }
        if let Some(record) = &entry.record {
            self.shared.failed(failure, record.as_raw());
        }
        self.shared.retried(&failure.code);
        self.attempt_failed(id, failure);
        // A run that asked for a breaker and rests for whatever step is one of those that wait to ask.
        self.breakers.run_ended(id);
    }

    /// Runs that have rested go on before others start, as far as there are places. They finish what
    /// they began, so that a stage which halts or drains lets them go on, too.
    pub(super) fn let_return(&mut self) {
        while self.running < self.program.stage.concurrency
            && let Some((id, place)) = self.rested.pop_front()
        {
            self.give_place(id, place);
        }
    }

    /// A run that has rested goes on; false where it does not any more.
    pub(super) fn give_place(&mut self, id: EntryId, place: oneshot::Sender<()>) -> bool {
        // Whoever gave up waiting is told of by the end of its run.
        if place.send(()).is_err() {
            return false;
        }
        let Some(entry) = self.in_flight.get_mut(id) else { return false };
        entry.resting = false;
        self.running += 1;
        self.resting -= 1;
        true
    }
}
