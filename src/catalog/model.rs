//! The resolved types that the planes run from: names are looked up, units are read, templates over
//! `env` are filled in. Nothing here can be wrong in a way that `check` finds.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::{Breakers, Database, Dedupe, Fingerprint, Job, Queue, RateLimits};
use crate::base::{ByteSize, RetryPolicy};
use crate::expr::{Expression, Template};
use crate::record::Codec;
pub use crate::spec::{
    About, Compression, DlqHeaders, Guarantee, KeyState, OnConflict, OnLost, Order, Start, Tombstones,
    Unmatched,
};
use crate::steps::{Asked, Effect, HttpClient, StepPlan};

/// One checked config root. Cheap to share; never changes.
#[derive(Debug)]
pub struct Catalog {
    pub(super) digest: String,
    pub(super) topics: IndexMap<Arc<str>, Arc<Topic>>,
    pub(super) dlqs: IndexMap<Arc<str>, Arc<Dlq>>,
    pub(super) stages: IndexMap<Arc<str>, Arc<Stage>>,
    pub(super) fingerprints: HashMap<Arc<str>, Fingerprint>,
    pub(super) queues: IndexMap<Arc<str>, Arc<Queue>>,
    pub(super) jobs: IndexMap<Arc<str>, Arc<Job>>,
    pub(super) job_fingerprints: HashMap<Arc<str>, Fingerprint>,
    pub(super) databases: IndexMap<Arc<str>, Arc<Database>>,
    pub(super) retries: IndexMap<String, Arc<RetryPolicy>>,
    pub(super) http_clients: IndexMap<String, Arc<HttpClient>>,
}

impl Catalog {
    /// A digest of all that the files say; equal digests run alike.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The topics by name.
    pub fn topics(&self) -> &IndexMap<Arc<str>, Arc<Topic>> {
        &self.topics
    }

    /// The DLQs by name.
    pub fn dlqs(&self) -> &IndexMap<Arc<str>, Arc<Dlq>> {
        &self.dlqs
    }

    /// The stages by name, in the order of the files.
    pub fn stages(&self) -> &IndexMap<Arc<str>, Arc<Stage>> {
        &self.stages
    }

    /// What tells a stage from another version of itself.
    pub fn fingerprint(&self, stage: &str) -> Option<Fingerprint> {
        self.fingerprints.get(stage).copied()
    }

    /// The queues by name, in the order of the files.
    pub fn queues(&self) -> &IndexMap<Arc<str>, Arc<Queue>> {
        &self.queues
    }

    /// The kinds of jobs by name, in the order of the files.
    pub fn jobs(&self) -> &IndexMap<Arc<str>, Arc<Job>> {
        &self.jobs
    }

    /// The kind of jobs of that name, or the one that had it before.
    pub fn job_called(&self, name: &str) -> Option<&Arc<Job>> {
        self.jobs.values().find(|job| *job.name == *name || job.was.as_deref() == Some(name))
    }

    /// What tells a kind of job from another version of itself.
    pub fn job_fingerprint(&self, job: &str) -> Option<Fingerprint> {
        self.job_fingerprints.get(job).copied()
    }

    /// What steps ask of databases, and whose steps these are, for people.
    pub fn asked(&self) -> impl Iterator<Item = (String, &Asked)> {
        let stages = self.stages.values().map(|stage| ("stage", &stage.name, &stage.steps));
        let jobs = self.jobs.values().map(|job| ("job", &job.name, &job.steps));
        stages.chain(jobs).flat_map(|(noun, name, steps)| {
            let asking = steps.iter().filter_map(|step| Some((&step.name, step.body.asked()?)));
            asking.map(move |(step, asked)| (format!("step `{step}` of {noun} `{name}`"), asked))
        })
    }

    /// The databases by name, in the order of the files.
    pub fn databases(&self) -> &IndexMap<Arc<str>, Arc<Database>> {
        &self.databases
    }
}

/// A topic of the pipeline.
#[derive(Debug)]
pub struct Topic {
    /// Its identity in the files.
    pub name: Arc<str>,
    /// Its name on the broker.
    pub physical: Arc<str>,
    /// What people read.
    pub about: About,
    /// How many partitions; `None`: the broker's default.
    pub partitions: Option<u32>,
    /// How many replicas; `None`: the broker's default.
    pub replication: Option<u16>,
    /// Settings of the topic on the broker (`retention.ms`, `cleanup.policy`, `max.message.bytes`, …),
    /// those that the files name and no others.
    pub settings: IndexMap<String, String>,
    /// The largest record, where the files say so.
    pub max_message_bytes: Option<ByteSize>,
    /// `compression.type` of what is produced to it (`none`, `gzip`, `snappy`, `lz4`, `zstd`).
    pub compression: Compression,
    /// How long what is produced to it waits for company in a batch; `None`: the engine's default.
    pub linger: Option<Duration>,
    /// The schema file, relative to `schemas/`, if it has one.
    pub schema: Option<Arc<str>>,
    /// True where the topic is another system's: never created or changed, only read or written.
    pub external: bool,
}

/// Where records go whose policy is exhausted.
#[derive(Debug)]
pub struct Dlq {
    /// Its identity in the files.
    pub name: Arc<str>,
    /// What people read.
    pub about: About,
    /// Its topic, with `max.message.bytes` of its inputs plus 64 KiB unless the files say otherwise.
    pub topic: Arc<Topic>,
    /// Whose header names are written.
    pub headers: Vec<DlqHeaders>,
}

/// A bound in records and in bytes; whichever is met first holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// At most this many records.
    pub records: usize,
    /// At most this many bytes of keys, values and headers.
    pub bytes: ByteSize,
}

/// A consumer of topics that applies steps and writes outputs.
pub struct Stage {
    /// Its identity; the consumer group is `<namespace>.<name>`.
    pub name: Arc<str>,
    /// What people read.
    pub about: About,
    /// The name it had before: where its own group has no offsets, those of `<namespace>.<was>` count.
    pub was: Option<Arc<str>>,
    /// The topics it reads; at least one.
    pub inputs: Vec<Arc<Topic>>,
    /// What must come one after the other.
    pub order: Order,
    /// How many records may be inside steps that wait at one time; at least 1.
    pub concurrency: usize,
    /// How much may be in flight, from poll to acknowledgement.
    pub window: Bound,
    /// How much a partition may be ahead of its contiguous offset, finished or not.
    pub span: Bound,
    /// How much one engine may have parked of it.
    pub max_parked: Bound,
    /// Where a group without offsets starts.
    pub start: Start,
    /// What happens where a committed offset is gone.
    pub on_lost: OnLost,
    /// How values are read.
    pub codec: Arc<dyn Codec>,
    /// What a null value is.
    pub tombstones: Tombstones,
    /// What is done to each record, in order.
    pub steps: Vec<StepPlan>,
    /// Where it goes then. Empty: nowhere, and finishing the steps is the end.
    pub outputs: Vec<Output>,
    /// True: every output that matches takes the record; false: the first.
    pub match_all: bool,
    /// The fate of a record that no output takes; without outputs it has no meaning.
    pub unmatched: Unmatched,
    /// When a failure is worth another try.
    pub retry: Arc<RetryPolicy>,
    /// Where exhausted records go; always there where the policy or `unmatched` says dead-letter.
    pub dlq: Option<Arc<Dlq>>,
    /// What stops it where too much fails.
    pub breakers: Breakers,
    /// How fast it takes records.
    pub rate_limit: RateLimits,
    /// Which of its records are equal, where it tells them apart.
    pub dedupe: Option<Dedupe>,
    /// How long a record may take from its first attempt on, waits included.
    pub deadline: Duration,
    /// How often offsets are committed.
    pub commit_interval: Duration,
    /// How long a stop or a hand-over waits for what is in flight.
    pub drain: Duration,
    /// After how long a partition without progress, though it has records, costs the consumer its place;
    /// `None`: never.
    pub watchdog: Option<Duration>,
    /// Set where the stage is part of a loop: how often a record may pass it.
    pub max_hops: Option<u32>,
    /// What a consumer of the outputs may rely on.
    pub delivery: Guarantee,
    /// What expressions see as `env`.
    pub env: Arc<serde_json::Value>,
}

impl Stage {
    /// Whether its records may go to a parking topic. Where a partition is one lane they would all follow
    /// the first, so they wait in place; where equal records wait for each other, or effects keep the order of
    /// offsets, they do, too.
    pub fn parks(&self) -> bool {
        let kept = self.order == Order::Partition || self.dedupe.is_some() || self.effects().next().is_some();
        !kept && self.retry.parks()
    }

    /// The statements that are carried out together with the stage's offset, by their steps: where it is
    /// exactly-once in a database. All are of one database.
    pub fn effects(&self) -> impl Iterator<Item = (&Arc<str>, &Effect)> {
        self.steps.iter().filter_map(|step| Some((&step.name, step.body.effect()?)))
    }
}

impl fmt::Debug for Stage {
    /// Never shows `env`, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("name", &self.name)
            .field("inputs", &self.inputs)
            .field("steps", &self.steps)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

/// One destination of a stage.
#[derive(Debug)]
pub struct Output {
    /// The topic.
    pub topic: Arc<Topic>,
    /// Which records it takes; `None`: all.
    pub when: Option<Expression>,
    /// The key of what is written; `None`: the input's key.
    pub key: Option<Expression>,
    /// Headers set on what is written, over those that travel on.
    pub headers: Vec<(Arc<str>, Template)>,
    /// How the value is written.
    pub codec: Arc<dyn Codec>,
}
