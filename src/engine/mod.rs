//! The running engine: starts stages from a catalog, watches them, takes them over to another
//! catalog when files change, drains them.

mod changes;
pub mod control;
mod drain;
mod jobs;
mod load;
mod memory;
pub mod offsets;
pub mod online;
pub mod own_topics;
mod reconcile;
mod reload;
pub mod replays;
mod running;
pub mod scan;
mod status;
mod supervisor;
pub mod topics;
mod view;
mod watch;

pub use changes::{Change, Changes};
pub use jobs::{Holding, JobsError, LEASES, Lease, PullClaim, PullError, PulledJob, PulledJobs, Pulls, Said};
pub use load::{LoadError, Process, load_tree};
pub use memory::Warn;
pub use reload::{MakeTopics, Reload, Reloader, Report};
pub use running::{Engine, EngineError, EngineSettings, WINDOW};
pub use status::{BrokerState, EngineStatus, JobsStatus, Readiness};
pub use supervisor::{OnError, Supervisor, TaskError};
pub use view::View;
