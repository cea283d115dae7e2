//! What a job's steps know of the job they run for, beside the value that they make.

use serde_json::Value as Json;

/// The job, as expressions see it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFacts {
    /// What it was enqueued with.
    pub args: Json,
    /// What the engine says of it: the fields of [`JOB_FIELDS`].
    pub job: Json,
    /// When it was to run, RFC 3339 in UTC with milliseconds: the schedule's fire time, else `run_at`.
    pub fire_at: String,
    /// `start` and `end` of the window of a backfill, in which the job runs; null in any other.
    pub window: Json,
}

/// The names below `job`.
pub const JOB_FIELDS: [&str; 7] = ["id", "kind", "queue", "attempt", "priority", "run_at", "callback"];

/// The names below `window`.
pub const WINDOW_FIELDS: [&str; 2] = ["start", "end"];
