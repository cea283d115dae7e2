//! The running engine: starts stages from a catalog, watches them, drains them.

mod supervisor;

pub use supervisor::{OnError, Supervisor, TaskError};
