//! Postgres: the only module that names the client library.
//!
//! SQL lies in `sql/<noun>/<verb>.sql` and `migrations/`, one thin function each. Every time is the
//! database's: nothing here asks this machine's clock what time it is. Decides nothing about retries or
//! which work comes next: callers say what to claim and settle, and get typed outcomes back.

/// A statement whose `left_states` are jobs that leave the states in which they hold their unique keys, and which
/// ends with what it tells in `told`: with what lets go of those keys.
macro_rules! letting_go {
    ($($part:literal),+) => { concat!($(include_str!($part),)+ include_str!("sql/claim/let_go.sql")) };
}

mod callbacks;
mod claims;
mod connect;
mod enqueue;
mod error;
mod heartbeat;
mod ids;
mod inspect;
mod limits;
mod listen;
mod low_water;
mod migrate;
mod migrations;
mod operating;
mod outbox;
mod progress;
mod publish;
mod pulling;
mod queues;
mod requests;
mod returning;
mod schema;
mod secret;
mod settings;
mod settle;
mod show;
mod statement;
mod statements;
mod step_jobs;
mod tokens;
mod upkeep;
mod workers;

pub use callbacks::{CallBack, Heard};
pub use claims::{AGEING, BATCH_LIMIT, ClaimRequest, Claimed, Head, Lane};
pub use connect::Database;
pub use enqueue::JobOptions;
pub use error::{StoreError, StoreResult};
pub use heartbeat::{Heartbeat, HeartbeatOptions};
pub use ids::{BatchId, JobId, KindId, QueueId, Worker};
pub use inspect::{Inspection, Reached, Route, inspect, reach};
pub use limits::{Claiming, Look, QueueLimits};
pub use listen::Listener;
pub use low_water::{LowWater, Scan};
pub use migrate::{Compatibility, Migrated, Standing, migrate, migrate_to, standing};
pub use migrations::{LATEST, MIGRATIONS, Migration};
pub use operating::{AuditFilter, AuditRow, Change, Changed, Cursor, Ending, Selected, Selection};
pub use outbox::{Depth, Turn, Waiting};
pub use publish::{Conflict, KindDefinition, MAX_ARGS, Published, UniqueRule, states};
pub use pulling::HeldJob;
pub use queues::{Held, LimitsRow, QueueRow};
pub use requests::{KeyedRequest, Once};
pub use returning::{Promoted, Rescued};
pub use schema::Schema;
pub use secret::{SecretHash, secret};
pub use settings::DatabaseSettings;
pub use settle::{Beside, Outcome, Settlement, Verdict};
pub use show::{JobFilter, JobRow, ListedJob};
pub use statement::StepDatabases;
pub use step_jobs::StepJobs;
pub use tokens::{Bearer, NewToken, Scope, Scopes, TokenRow};
pub use upkeep::DAYS_AHEAD;
pub use workers::WorkerRow;
