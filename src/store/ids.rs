//! What jobs, batches and workers are named by.

use std::fmt;

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// A job, everywhere: milliseconds since 1970 by the database's clock, then twenty bits of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub i64);

/// A queue's number in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub i32);

/// A kind's number in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindId(pub i32);

/// A claimed batch. Whoever claims chooses it beforehand, so that a lost answer can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub Uuid);

impl JobId {
    /// When it was enqueued, in milliseconds since the Unix epoch by the database's clock.
    pub const fn enqueued_at(self) -> i64 {
        self.0 >> 20
    }
}

impl BatchId {
    /// One that nobody else has.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for BatchId {
    fn default() -> Self {
        Self::new()
    }
}

/// One run of one engine, as leases name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Its id.
    pub id: Uuid,
    /// What fences its writes: no other run ever has it.
    pub epoch: i64,
}

impl Serialize for JobId {
    /// As text: not every reader of JSON keeps a number of this size.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for BatchId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
