//! `[jobs.NAME]`: a kind of durable job: what it does, in which queue, and what its failures come to.

use std::time::Duration;

use super::{About, KeyState, OnConflict, Spanned, Table, TableReader, read_steps};
use crate::base::ByteSize;
use crate::diag::Span;

/// A kind of job as written.
#[derive(Debug, Clone)]
pub struct JobSpec<'a> {
    /// The place of the table.
    pub span: Span,
    /// What people read.
    pub about: About,
    /// The name it had before.
    pub was: Option<Spanned<String>>,
    /// The name of its queue.
    pub queue: Option<Spanned<String>>,
    /// How long one attempt may take.
    pub timeout: Option<Spanned<Duration>>,
    /// The name of its retry policy.
    pub retry: Option<Spanned<String>>,
    /// Which of two due jobs goes first; 1 before 9.
    pub priority: Option<Spanned<i64>>,
    /// Which jobs are the same.
    pub unique: Option<UniqueSpec>,
    /// The schema that its args satisfy, relative to `schemas/`.
    pub args_schema: Option<Spanned<String>>,
    /// The largest args, as JSON text.
    pub max_args_bytes: Option<Spanned<ByteSize>>,
    /// The job that is enqueued where its attempts are spent; `None`: there is none.
    pub exhausted_enqueues: Option<Spanned<String>>,
    /// After how long a job that is due and not started is cancelled.
    pub expires: Option<Spanned<Duration>>,
    /// False: a retry begins at the first step again.
    pub checkpoint: Option<Spanned<bool>>,
    /// Its steps, as tables; each kind reads its own. None where pull workers do it.
    pub steps: Vec<&'a Table>,
}

/// Which jobs are the same, as written.
#[derive(Debug, Clone)]
pub struct UniqueSpec {
    /// The args that tell jobs apart: paths into args.
    pub by: Option<Vec<Spanned<String>>>,
    /// The states in which a job keeps others out.
    pub states: Option<Vec<Spanned<KeyState>>>,
    /// For how long it keeps others out whatever its state.
    pub period: Option<Spanned<Duration>>,
    /// What becomes of the one that is kept out.
    pub on_conflict: Option<Spanned<OnConflict>>,
}

/// The keys of a job, for findings about keys that ended up in a step.
pub const JOB_KEYS: [&str; 16] = [
    "queue",
    "timeout",
    "retry",
    "priority",
    "unique",
    "args_schema",
    "max_args_bytes",
    "on_exhausted",
    "expires",
    "checkpoint",
    "steps",
    "description",
    "owner",
    "runbook",
    "labels",
    "was",
];

/// The largest args that any job may have.
const MAX_ARGS: ByteSize = ByteSize(1 << 20);

const CONFLICTS: [(&str, OnConflict); 3] = [
    ("keep", OnConflict::Keep),
    ("replace-args", OnConflict::ReplaceArgs),
    ("push-back", OnConflict::PushBack),
];

impl<'a> JobSpec<'a> {
    /// Reads a whole `[jobs.NAME]`.
    pub fn read(mut table: TableReader<'a>) -> Self {
        let was = table.own_name("was");
        let about = About::read(&mut table);
        let spec = Self {
            span: table.span(),
            about,
            was,
            queue: table.name("queue"),
            timeout: table.duration("timeout"),
            retry: table.name("retry"),
            priority: table.integer("priority", 1..=9),
            unique: table.table("unique").map(UniqueSpec::read),
            args_schema: table.string("args_schema"),
            max_args_bytes: read_max_args(&mut table),
            exhausted_enqueues: read_on_exhausted(&mut table),
            expires: table.duration("expires"),
            checkpoint: table.boolean("checkpoint"),
            steps: read_steps(&mut table),
        };
        table.finish();
        spec
    }
}

impl UniqueSpec {
    fn read(mut table: TableReader<'_>) -> Self {
        let spec = Self {
            by: table.required("by", TableReader::texts),
            states: table.words("while", &KeyState::ALL.map(|state| (state.as_str(), state))),
            period: table.duration("period"),
            on_conflict: table.word("on_conflict", &CONFLICTS),
        };
        table.finish();
        spec
    }
}

fn read_max_args(table: &mut TableReader<'_>) -> Option<Spanned<ByteSize>> {
    let expected = "a size such as \"64KiB\", at most 1MiB";
    table.parsed("max_args_bytes", expected, MAX_ARGS, |text| match ByteSize::parse(text) {
        Ok(ByteSize(0)) => Err("must be more than nothing".to_owned()),
        Ok(size) if size > MAX_ARGS => Err("must be 1MiB or less".to_owned()),
        Ok(size) => Ok(size),
        Err(error) => Err(error.0),
    })
}

/// `"keep"`, or `{ enqueue = "JOB" }`.
fn read_on_exhausted(table: &mut TableReader<'_>) -> Option<Spanned<String>> {
    if table.node("on_exhausted")?.as_table().is_none() {
        table.word("on_exhausted", &[("keep", ())]);
        return None;
    }
    let mut inner = table.table("on_exhausted")?;
    let enqueue = inner.required("enqueue", TableReader::name);
    inner.finish();
    enqueue
}
