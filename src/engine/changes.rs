//! What a reload did, in words.

use std::fmt;
use std::sync::Arc;

/// What becomes of a stage, a kind of jobs or a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It runs on as it was.
    Unchanged,
    /// It goes on with other steps or policies: a stage from its next record on, jobs from the attempts that start
    /// then.
    Changed,
    /// A stage was drained and started again.
    Restarted,
    /// It is new.
    Added,
    /// It is drained and gone; a stage's offsets stay, and so do jobs.
    Removed,
}

/// What a reload did, name by name: those of the catalog in the order of the files, then those removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Each stage with what became of it.
    pub stages: Vec<(Arc<str>, Change)>,
    /// The queues that are not as they were.
    pub queues: Vec<(Arc<str>, Change)>,
    /// The kinds of jobs that are not as they were.
    pub jobs: Vec<(Arc<str>, Change)>,
    /// What should run and could not be started, and why.
    pub missing: Vec<String>,
}

impl Changes {
    /// Whether everything runs on as it was.
    pub fn is_empty(&self) -> bool {
        let mut all = self.stages.iter().chain(&self.queues).chain(&self.jobs);
        all.all(|(_, change)| *change == Change::Unchanged) && self.missing.is_empty()
    }
}

impl fmt::Display for Changes {
    /// `normalize changed, enrich unchanged, queue sync added, job pull changed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages = self.stages.iter().map(|(name, change)| line("", name, *change, "its offsets stay"));
        let queues = self.queues.iter().map(|(name, change)| line("queue ", name, *change, "its jobs wait"));
        let jobs = self.jobs.iter().map(|(name, change)| line("job ", name, *change, "its jobs wait"));
        let lines = stages.chain(queues).chain(jobs).chain(self.missing.iter().cloned());
        f.write_str(&lines.collect::<Vec<_>>().join(", "))
    }
}

fn line(noun: &str, name: &str, change: Change, left: &str) -> String {
    match change {
        Change::Unchanged => format!("{noun}{name} unchanged"),
        Change::Changed => format!("{noun}{name} changed"),
        Change::Restarted => format!("{noun}{name} restarted"),
        Change::Added => format!("{noun}{name} added"),
        Change::Removed => format!("{noun}{name} removed ({left})"),
    }
}
