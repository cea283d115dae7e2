//! What is true: the files once read, checked and resolved. Only [`check`] builds a [`Catalog`].
//!
//! Pure: the files are in memory ([`Tree`]), the process around them is behind [`Outside`]. What is
//! built here is trusted downstream; nobody looks a name up again.

mod args_path;
mod breakers;
mod built_in;
mod check;
mod databases;
mod dedupe;
mod dots;
mod environment;
mod environments;
mod exactly_once;
mod explain;
mod fingerprint;
mod graph;
mod http_clients;
mod http_steps;
mod job_steps;
mod jobs;
mod language;
mod limits;
mod model;
mod pulled;
mod queues;
mod rates;
mod renames;
mod retries;
mod scene;
mod schema;
mod secrets;
mod stages;
mod steps;
mod strays;
mod topics;
mod tree;
mod unused;
mod words;

pub use crate::steps::Database;
pub use args_path::ArgsPath;
pub use breakers::{Breakers, Threshold, TransientBreaker};
pub use check::{ALLOW_EXEC, CheckOptions, Checked, check};
pub use dedupe::Dedupe;
pub use environments::check_all;
pub use explain::{Explained, Setting, Shown, explain};
pub use fingerprint::Fingerprint;
pub use jobs::{Job, Unique};
pub use language::Language;
pub use model::*;
pub use queues::{KeyConcurrency, Queue};
pub use rates::{KeyLimit, Pace, RateLimits};
pub use schema::json_schema;
pub use tree::{Nothing, Outside, Tree, TreeDigest};
