//! Jobs as they end, whichever engine or worker ends them.

use std::collections::HashSet;
use std::time::Duration;

use crate::store::{Database, Ending, JobId, StoreResult};

/// How often the database is asked.
const EVERY: Duration = Duration::from_millis(500);

/// How far back each look goes: what is written later than it is dated is seen all the same.
const OVERLAP: i64 = 15;

/// Which are told of; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct Tailed {
    /// Those that come to this state.
    pub state: Option<String>,
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
}

/// Tells of jobs that end from when it was begun.
#[derive(Debug)]
pub struct Tail {
    database: Database,
    tailed: Tailed,
    seen: HashSet<(JobId, String)>,
}

impl Tail {
    /// Begins now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin(database: &Database, tailed: Tailed) -> StoreResult<Self> {
        let mut tail = Self { database: database.clone(), tailed, seen: HashSet::new() };
        // What ended before is no news.
        tail.look().await?;
        Ok(tail)
    }

    /// Waits a while and says what has ended; often nothing has.
    ///
    /// # Errors
    /// Those of the database; what has ended meanwhile is told of the next time.
    pub async fn next(&mut self) -> StoreResult<Vec<Ending>> {
        tokio::time::sleep(EVERY).await;
        self.look().await
    }

    async fn look(&mut self) -> StoreResult<Vec<Ending>> {
        let Tailed { state, queue, kind } = &self.tailed;
        let (queue, kind, state) = (queue.as_deref(), kind.as_deref(), state.as_deref());
        let mut endings = self.database.endings(OVERLAP, queue, kind, state).await?;
        let seen = endings.iter().map(|ending| (ending.id, ending.at.clone())).collect();
        let before = std::mem::replace(&mut self.seen, seen);
        endings.retain(|ending| !before.contains(&(ending.id, ending.at.clone())));
        Ok(endings)
    }
}
