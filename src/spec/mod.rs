//! What the files say: TOML read into typed sections with the place of every value.
//!
//! Text in, findings and specs out; no IO, and no name is looked up across files here.

mod about;
mod breakers;
mod databases;
mod dedupe;
mod dlqs;
mod duplicate;
mod env;
mod explore;
mod http_clients;
mod jobs;
mod ledger;
mod mismatch;
mod node;
mod parse;
mod queues;
mod reader;
mod retries;
mod sections;
mod setting;
mod stages;
mod topics;
mod words;

pub use about::About;
pub use breakers::{BreakerSpec, KeyLimitSpec, RateLimitSpec};
pub use databases::DatabaseSpec;
pub use dedupe::DedupeSpec;
pub use dlqs::DlqSpec;
pub use env::EnvSpec;
pub use explore::{KeyShape, ReadSample, Shape, Takes, explore};
pub use http_clients::{Credential, HttpClientSpec};
pub use jobs::{JOB_KEYS, JobSpec, UniqueSpec};
pub use ledger::{Asked, Asks, Filled, Kind, Ledger, Origin, Type};
pub use node::{Entry, Node, NodeValue, Table};
pub use parse::parse;
pub use queues::{FairnessSpec, QueueKeySpec, QueueSpec};
pub use reader::TableReader;
pub use retries::{BackoffSpec, RetrySpec};
pub use sections::{Definition, Definitions, NAME_PATTERN, NAMED_SECTIONS, SECTIONS, Sections, is_name};
pub use setting::{NoSettings, ReadContext, Resolved, Settings, Spanned, ValueKind};
pub use stages::{OutputSpec, STAGE_KEYS, StageSpec, read_step_group, read_steps};
pub use topics::{Retention, TopicSpec};
pub use words::{
    Compression, Decoding, DlqHeaders, Guarantee, KeyState, OnConflict, OnLost, Order, Start, Tombstones,
    Unmatched, Workers,
};
