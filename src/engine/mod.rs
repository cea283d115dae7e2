//! The running engine: starts stages from a catalog, watches them, drains them.

mod load;
mod running;
mod status;
mod supervisor;
pub mod topics;
mod view;

pub use load::{LoadError, Process, load_tree};
pub use running::{Engine, EngineError, EngineSettings};
pub use status::{BrokerState, EngineStatus, Readiness};
pub use supervisor::{OnError, Supervisor, TaskError};
pub use view::View;
