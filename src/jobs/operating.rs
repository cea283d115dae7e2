//! What operators do to many jobs: counted first, then done page by page, each page a transaction of its own.

use std::time::Duration;

use serde_json::json;

use super::state::State;
use crate::store::{Change, Cursor, Database, JobId, Selected, StoreResult};

/// How long a job that runs has to end once it is asked to.
pub const CANCEL_WITHIN: Duration = Duration::from_secs(10);

/// How many jobs one statement changes.
const BATCH: usize = 500;

/// How often a page is sent again where the database was busy with its jobs.
const AGAIN: u32 = 5;

/// How often a job that moved in between is looked for again.
const LOOKS: u32 = 3;

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    change: Change,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Operated {
    /// Jobs to which it was done.
    pub done: u64,
    /// Jobs that run, whose workers were asked.
    pub asked: u64,
}

impl Action {
    /// Does `change`.
    pub fn new(change: Change) -> Self {
        Self { change }
    }

    /// The verb, as the command line says it.
    pub fn verb(self) -> &'static str {
        match self.change {
            Change::Retry => "retry",
            Change::Cancel(_) => "cancel",
            Change::SnoozeFor(_) | Change::SnoozeUntil(_) => "snooze",
            Change::Discard => "discard",
            Change::Prioritise(_) => "prioritise",
        }
    }

    /// The states in which a job can take it.
    pub fn takes(self) -> &'static [State] {
        match self.change {
            Change::Retry => {
                &[State::Failed, State::Retrying, State::Scheduled, State::Cancelled, State::Discarded]
            }
            Change::Cancel(_) => {
                &[State::Scheduled, State::Retrying, State::Waiting, State::Queued, State::Running]
            }
            Change::SnoozeFor(_) | Change::SnoozeUntil(_) | Change::Prioritise(_) => {
                &[State::Scheduled, State::Retrying, State::Queued]
            }
            Change::Discard => &[State::Failed],
        }
    }

    /// The states that a filter means which names none.
    pub fn usual(self) -> &'static [State] {
        match self.change {
            Change::Retry => &[State::Failed],
            _ => self.takes(),
        }
    }

    fn detail(self) -> String {
        match self.change {
            Change::SnoozeFor(wait) => json!({ "seconds": wait.as_secs() }),
            Change::SnoozeUntil(at) => json!({ "until": at.to_rfc3339() }),
            Change::Prioritise(priority) => json!({ "priority": priority }),
            Change::Retry | Change::Cancel(_) | Change::Discard => json!({}),
        }
        .to_string()
    }

    /// Does it to these jobs. One that is being claimed or settled is looked for again.
    ///
    /// # Errors
    /// Those of the database; what was done before stays so.
    pub async fn to_jobs(self, database: &Database, ids: &[JobId], actor: &str) -> StoreResult<Operated> {
        let subject = json!({ "jobs": ids }).to_string();
        let audit = self.begin(database, actor, &subject).await?;
        let mut all = Operated::default();
        for page in ids.chunks(BATCH) {
            let mut left = page.to_vec();
            for _ in 0..LOOKS {
                let changed = self.page(database, &left, actor, audit).await?;
                all.done += changed.0.len() as u64;
                all.asked += changed.1.len() as u64;
                left.retain(|id| !changed.0.contains(id) && !changed.1.contains(id));
                if left.is_empty() {
                    break;
                }
            }
        }
        Ok(all)
    }

    /// Does it to all jobs that are meant; `step` hears after each page how many it was done to.
    ///
    /// # Errors
    /// Those of the database; what was done before stays so.
    pub async fn to_selected(
        self,
        database: &Database,
        selected: &Selected,
        subject: &str,
        actor: &str,
        mut step: impl FnMut(Operated),
    ) -> StoreResult<Operated> {
        let audit = self.begin(database, actor, subject).await?;
        let (mut all, mut cursor) = (Operated::default(), Cursor::default());
        while let Some(page) = database.next_selected(selected, &mut cursor).await? {
            for ids in page.chunks(BATCH) {
                let (done, asked) = self.page(database, ids, actor, audit).await?;
                all.done += done.len() as u64;
                all.asked += asked.len() as u64;
                step(all);
            }
        }
        Ok(all)
    }

    async fn begin(self, database: &Database, actor: &str, subject: &str) -> StoreResult<i64> {
        let action = format!("jobs.{}", self.verb());
        database.begin_audit(actor, &action, subject, &self.detail()).await
    }

    /// Sent again where the database was busy: what is done already takes it no second time.
    async fn page(
        self,
        database: &Database,
        ids: &[JobId],
        actor: &str,
        audit: i64,
    ) -> StoreResult<(Vec<JobId>, Vec<JobId>)> {
        let mut tries = 0;
        loop {
            match database.change_jobs(self.change, ids, actor, Some(audit)).await {
                Ok(changed) => return Ok((changed.done, changed.asked)),
                Err(error) if error.is_transient() && !error.is_uncertain() && tries < AGAIN => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{self, Due, Standing};
    use super::*;

    fn standing(state: State) -> Standing {
        Standing { state, attempts: 1, rescues: 0, started: true, due: None, cancelled: None }
    }

    #[test]
    fn an_action_takes_the_states_from_which_its_transition_goes() {
        let wait = Duration::from_secs(1);
        type Transition = fn(Standing) -> bool;
        let transitions: [(Change, Transition); 4] = [
            (Change::Retry, |job| state::retry_now(job).is_ok()),
            (Change::Cancel(wait), |job| state::cancel(job).is_ok()),
            (Change::SnoozeFor(wait), |job| state::postpone(job, Due::At(0)).is_ok()),
            (Change::Discard, |job| state::discard(job).is_ok()),
        ];
        for (change, goes) in transitions {
            let action = Action::new(change);
            for state in State::ALL {
                assert_eq!(
                    action.takes().contains(&state),
                    goes(standing(state)),
                    "{} {state}",
                    action.verb()
                );
            }
            assert!(action.usual().iter().all(|state| action.takes().contains(state)));
        }
    }
}
