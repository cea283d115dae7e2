//! The names of all metrics and what each means, in the order `/metrics` shows them.
//!
//! Counters are listed without `_total`, which the text format appends.

/// A metric's name and its one-line help.
pub type Named = (&'static str, &'static str);

/// Which build runs; always 1.
pub const BUILD_INFO: Named = ("biplane_build_info", "The running build; always 1");

/// Records read from the inputs.
pub const RECORDS_IN: Named = ("biplane_stage_records_in", "Records read from the stage's inputs");
/// Bytes read from the inputs.
pub const BYTES_IN: Named = ("biplane_stage_bytes_in", "Bytes of keys, values and headers read");
/// Records written and acknowledged.
pub const RECORDS_OUT: Named = ("biplane_stage_records_out", "Records written and acknowledged");
/// Bytes written and acknowledged.
pub const BYTES_OUT: Named = ("biplane_stage_bytes_out", "Bytes of keys and values written");
/// Records that a step filtered out.
pub const FILTERED: Named = ("biplane_stage_records_filtered", "Records that a step filtered out");
/// Records let go by policy.
pub const DROPPED: Named = ("biplane_stage_records_dropped", "Records let go by policy, by error code");
/// Attempts that failed and are tried again.
pub const RETRIED: Named = ("biplane_stage_records_retried", "Failed attempts that are tried again, by code");
/// Records that went to the DLQ.
pub const DEAD_LETTERED: Named =
    ("biplane_stage_records_dead_lettered", "Records written to the DLQ, by error code");
/// Records that may have been finished before.
pub const REPEATED: Named = (
    "biplane_stage_records_repeated",
    "Records begun and given up by a rewind or a hand-over: they are done again",
);
/// From the record's timestamp to the end of its last acknowledgement.
pub const LATENCY: Named =
    ("biplane_stage_latency_seconds", "From the record's timestamp until it is finished");
/// How long a step takes for one record.
pub const STEP: Named = (
    "biplane_step_seconds",
    "How long one run of a step takes; of steps that never wait, of one record in sixteen",
);
/// How long a commit of offsets takes.
pub const COMMIT: Named = ("biplane_stage_commit_seconds", "How long a commit of offsets takes");
/// Stretches of which nothing stands.
pub const OFFSET_CONFLICTS: Named = (
    "biplane_stage_offset_conflicts",
    "Stretches that changed nothing, since the stage stands elsewhere in the database that it writes",
);
/// Epochs that were given up.
pub const EPOCHS_GIVEN_UP: Named = (
    "biplane_stage_epochs_given_up",
    "Epochs of what a stage wrote that were given up as a whole, and done again",
);
/// Rebalances seen.
pub const REBALANCES: Named = ("biplane_stage_rebalances", "Rebalances of the stage's consumer group");
/// Consumers that the watchdog replaced.
pub const WATCHDOG_REBUILDS: Named =
    ("biplane_watchdog_rebuilds", "Consumers that gave nothing of what was there and were replaced");
/// Records between poll and acknowledgement.
pub const IN_FLIGHT: Named = ("biplane_stage_in_flight_records", "Records between poll and acknowledgement");
/// Their bytes.
pub const IN_FLIGHT_BYTES: Named = ("biplane_stage_in_flight_bytes", "Bytes of the records in flight");
/// Lanes that hold records.
pub const LANES: Named = ("biplane_stage_lanes", "Lanes that hold records");
/// Records that wait for their next try.
pub const WAITING: Named = ("biplane_stage_waiting_records", "Records that wait in place for their next try");
/// Records that were parked.
pub const PARKED: Named =
    ("biplane_stage_records_parked", "Records parked for a later try, by why: retry or follow");
/// Records that are parked.
pub const PARKED_RECORDS: Named = ("biplane_stage_parked_records", "Records that are parked now");
/// Their bytes.
pub const PARKED_BYTES: Named = ("biplane_stage_parked_bytes", "Bytes of the records that are parked now");
/// Whether there is room for more.
pub const PARKED_FULL: Named =
    ("biplane_stage_parked_full", "1 while as much is parked as `max_parked` allows");
/// Parked records that are lost.
pub const PARKED_LOST: Named = (
    "biplane_stage_parked_lost",
    "Parked records that the stage went on without, since their topic lost them",
);
/// How late parked records are tried again.
pub const PARKED_LATE: Named =
    ("biplane_stage_parked_late_seconds", "From when a parked record is due until it is tried again");
/// Whether the stage takes no new records.
pub const PAUSED: Named = ("biplane_stage_paused", "1 while the stage takes no new records");
/// The state the stage is in.
pub const STATE: Named = ("biplane_stage_state", "1 for the state the stage is in");
/// Records behind the end of a partition.
pub const LAG_RECORDS: Named =
    ("biplane_stage_lag_records", "Records from the oldest unfinished one to the end");
/// Age of the oldest record that is not finished.
pub const LAG_SECONDS: Named = ("biplane_stage_lag_seconds", "Age of the oldest unfinished record");

/// Whether a step's breaker is open.
pub const BREAKER_OPEN: Named =
    ("biplane_breaker_open", "1 while the breaker of a step that asks another system is open");
/// How often it opened.
pub const BREAKER_OPENED: Named = ("biplane_breaker_opened", "How often the breaker of a step opened");
/// How often too many records failed for good.
pub const FLOODS: Named =
    ("biplane_stage_floods", "How often a stage halted because too many records failed for good");
/// How often a rate limit made records wait.
pub const RATE_LIMITED: Named =
    ("biplane_stage_rate_limited", "How often a rate limit made records wait, by limit: stage or key");
/// How long they were made to wait.
pub const RATE_WAITED: Named =
    ("biplane_stage_rate_limited_seconds", "Waits that a rate limit gave, in seconds, by limit");

/// Records dropped as duplicates.
pub const DUPLICATES: Named =
    ("biplane_stage_duplicates", "Records dropped since an equal one was finished before");
/// Marks of finished records.
pub const MARKS: Named = ("biplane_stage_marks", "Marks of finished records by which duplicates are told");
/// Marks that were forgotten too soon.
pub const MARKS_FORGOTTEN: Named = (
    "biplane_stage_marks_forgotten",
    "Marks forgotten before their window was over, since there were too many",
);

/// Attempts of jobs that ended.
pub const JOB_ATTEMPTS: Named = (
    "biplane_job_attempts",
    "Attempts of durable jobs that ended here, by outcome: succeeded, retried, failed, snoozed, handed-back",
);
/// Jobs that run.
pub const JOBS_RUNNING: Named = ("biplane_jobs_running", "Durable jobs that run here now");
/// How long attempts take.
pub const JOB_SECONDS: Named = ("biplane_job_attempt_seconds", "How long one attempt of a durable job takes");
/// How long jobs wait for a worker.
pub const JOB_LATENCY: Named = (
    "biplane_job_claim_latency_seconds",
    "From when a durable job was due to run for the first time until an engine claimed it",
);
/// What came of outcomes.
pub const JOB_OUTCOMES: Named = (
    "biplane_job_outcomes",
    "Outcomes of durable jobs sent to the database, by result: written, stale (the lease had been taken back), dropped (refused, or not taken before the lease ended)",
);
/// Jobs nobody here knows.
pub const JOBS_UNKNOWN: Named =
    ("biplane_jobs_unknown_kind", "Durable jobs that were put off because the config has no such kind");

/// What became of edits.
pub const RELOADS: Named = (
    "biplane_config_reloads",
    "Edits of the config root, by result: done, refused (it does not check), failed (it could not be gone over to)",
);
/// Whether the last edit runs.
pub const LAST_RELOAD: Named = (
    "biplane_config_last_reload_successful",
    "1 where the newest config that was seen runs, 0 where an older one goes on",
);
/// Events that wait.
pub const OUTBOX_EVENTS: Named =
    ("biplane_outbox_events", "Events of jobs that are done and that Kafka has not, counted up to 100,000");
/// How long they do.
pub const OUTBOX_OLDEST: Named =
    ("biplane_outbox_oldest_seconds", "How long the oldest event that Kafka has not waits for it");
/// Events that were sent.
pub const OUTBOX_PUBLISHED: Named = ("biplane_outbox_published", "Events of jobs that Kafka has taken");
/// Topics that took none.
pub const OUTBOX_REFUSED: Named =
    ("biplane_outbox_refused", "How often a topic did not take an event of a job, which then waits");

/// Spans that the receiver took.
pub const SPANS_EXPORTED: Named = ("biplane_spans_exported", "Spans that the receiver of traces took");
/// Spans that are gone.
pub const SPANS_DROPPED: Named = (
    "biplane_spans_dropped",
    "Spans that are gone, by reason: queue-full (no room) or not-taken (the receiver did not take them in time)",
);

/// The process's resident memory.
pub const RESIDENT: Named = ("process_resident_memory_bytes", "Resident memory of the process");
/// The process's processor time.
pub const CPU: Named = ("process_cpu_seconds", "Processor time of the process, user and system");
/// The process's open file descriptors.
pub const OPEN_FDS: Named = ("process_open_fds", "Open file descriptors of the process");
