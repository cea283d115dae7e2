//! What is true: the files once read, checked and resolved. Only [`check`] builds a [`Catalog`].
//!
//! Pure: the files are in memory ([`Tree`]), the process around them is behind [`Outside`]. What is
//! built here is trusted downstream; nobody looks a name up again.

mod built_in;
mod check;
mod environment;
mod explain;
mod fingerprint;
mod graph;
mod http_clients;
mod language;
mod model;
mod retries;
mod scene;
mod schema;
mod stages;
mod steps;
mod topics;
mod tree;

pub use check::{CheckOptions, Checked, check};
pub use explain::{Explained, Setting, Shown, explain};
pub use fingerprint::Fingerprint;
pub use language::Language;
pub use model::*;
pub use schema::json_schema;
pub use tree::{Nothing, Outside, Tree, TreeDigest};
