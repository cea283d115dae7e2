//! `[queues.NAME]`: jobs that share workers and limits.

use super::{About, Spanned, TableReader, Workers};
use crate::base::Rate;
use crate::diag::Span;

const WORKERS: [(&str, Workers); 2] = [("engine", Workers::Engine), ("pull", Workers::Pull)];

/// A queue as written.
#[derive(Debug, Clone)]
pub struct QueueSpec {
    /// The place of the table.
    pub span: Span,
    /// What people read.
    pub about: About,
    /// The name it had before.
    pub was: Option<Spanned<String>>,
    /// Who works its jobs.
    pub workers: Option<Spanned<Workers>>,
    /// How many of its jobs one engine runs at one time.
    pub concurrency: Option<Spanned<i64>>,
    /// How many of its jobs all engines run at one time.
    pub global_concurrency: Option<Spanned<i64>>,
    /// The limit of the jobs that share a key.
    pub per_key: Option<QueueKeySpec>,
    /// Whose jobs take turns: a path into args.
    pub fairness: Option<FairnessSpec>,
    /// How many jobs all engines start.
    pub rate: Option<Spanned<Rate>>,
}

/// The limit of the jobs that share a key, as written.
#[derive(Debug, Clone)]
pub struct QueueKeySpec {
    /// The place of the table.
    pub span: Span,
    /// What counts as the key: a path into args.
    pub key: Option<Spanned<String>>,
    /// How many jobs of one key run at one time.
    pub concurrency: Option<Spanned<i64>>,
}

/// Turns between keys, as written.
#[derive(Debug, Clone)]
pub struct FairnessSpec {
    /// The place of the table.
    pub span: Span,
    /// What counts as the key: a path into args.
    pub key: Option<Spanned<String>>,
}

impl QueueSpec {
    /// Reads a whole `[queues.NAME]`.
    pub fn read(mut table: TableReader<'_>) -> Self {
        let was = table.own_name("was");
        let about = About::read(&mut table);
        let spec = Self {
            span: table.span(),
            about,
            was,
            workers: table.word("workers", &WORKERS),
            concurrency: table.integer("concurrency", 1..=10_000),
            global_concurrency: table.integer("global_concurrency", 1..=1_000_000),
            per_key: table.table("per_key").map(|mut per_key| {
                let spec = QueueKeySpec {
                    span: per_key.span(),
                    key: per_key.required("key", TableReader::text),
                    concurrency: per_key
                        .required("concurrency", |table, key| table.integer(key, 1..=1_000_000)),
                };
                per_key.finish();
                spec
            }),
            fairness: table.table("fairness").map(|mut fairness| {
                let spec =
                    FairnessSpec { span: fairness.span(), key: fairness.required("key", TableReader::text) };
                fairness.finish();
                spec
            }),
            rate: table.rate("rate"),
        };
        table.finish();
        spec
    }
}
