//! The words that settings take, as types. They mean the same in the files and in the catalog.

/// How a producer compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// Widely read, slow.
    Gzip,
    /// Fast.
    Snappy,
    /// Faster.
    Lz4,
    /// Smallest at a good speed.
    Zstd,
}

/// A convention for the headers of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DlqHeaders {
    /// `biplane-error-class` and its like; always written.
    Biplane,
    /// Kafka Connect's `__connect.errors.*`.
    Connect,
    /// Kafka Streams' `__streams.errors.*` (KIP-1034).
    Streams,
    /// Spring Kafka's `kafka_dlt-*`.
    Spring,
}

/// What must come one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Records of one key.
    Key,
    /// Records of one partition.
    Partition,
    /// Nothing.
    None,
}

/// Where a group without offsets starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// At the oldest record.
    Earliest,
    /// Behind the newest.
    Latest,
    /// At the first record of that time, in milliseconds since the Unix epoch.
    At(i64),
}

/// What happens where a committed offset is gone from the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnLost {
    /// The stage halts and says so.
    Halt,
    /// It goes on at the oldest record that is left.
    Earliest,
}

/// What a stage does with a null value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tombstones {
    /// It is dead-lettered with the code `tombstone`; the default, since nothing is lost unseen.
    DeadLetter,
    /// It is filtered out and counted.
    Drop,
    /// It skips the steps and goes to every output without a `when`, as a tombstone.
    Forward,
    /// The steps see `null`.
    Steps,
}

/// The fate of a record that no output takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unmatched {
    /// Dead-lettered with the code `unmatched`.
    DeadLetter,
    /// Counted and let go.
    Drop,
}

/// What is promised about repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guarantee {
    /// Nothing is lost; something may come twice, with the same id header.
    AtLeastOnce,
    /// Readers of committed records see each record's outputs once.
    ExactlyOnce,
}

/// How a topic's values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decoding {
    /// UTF-8 JSON.
    Json,
    /// UTF-8 text as one string.
    Text,
    /// Any bytes, as one string of Base64.
    Bytes,
}

/// Who works the jobs of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Workers {
    /// Engines, by the steps of the jobs.
    #[default]
    Engine,
    /// Programs of the user's own, which claim them over HTTP.
    Pull,
}

/// A state in which a job may keep its unique key to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyState {
    /// Due later.
    Scheduled,
    /// Due, and nobody has it.
    Queued,
    /// Somebody runs it.
    Running,
    /// Due later, after a failure.
    Retrying,
    /// For a callback.
    Waiting,
    /// Exhausted and kept.
    Failed,
}

impl KeyState {
    /// All of them, in the order in which a job comes by them.
    pub const ALL: [Self; 6] =
        [Self::Scheduled, Self::Queued, Self::Running, Self::Retrying, Self::Waiting, Self::Failed];

    /// The word in TOML.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

/// What becomes of a job whose unique key another holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnConflict {
    /// The one that is there stays as it is, and the new one is not enqueued.
    Keep,
    /// The one that is there takes the args of the new one, unless it runs.
    ReplaceArgs,
    /// The one that is there becomes due when the new one would have been, unless it runs.
    PushBack,
}
