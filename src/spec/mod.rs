//! What the files say: TOML read into typed sections with the place of every value.
//!
//! Text in, findings and specs out; no IO, and no name is looked up across files here.

mod node;
mod parse;
mod reader;
mod setting;

pub use node::{Entry, Node, NodeValue, Table};
pub use parse::parse;
pub use reader::TableReader;
pub use setting::{NoSettings, ReadContext, Resolved, Settings, Spanned, ValueKind};
