//! What others may look at while the engine runs.

use std::sync::Arc;

use super::jobs::Pulls;
use super::status::{EngineStatus, Readiness};
use crate::catalog::Catalog;

/// The engine as the HTTP server and the command line see it.
pub trait View: Send + Sync {
    /// All of it, for operators.
    fn status(&self) -> EngineStatus;

    /// Whether it is ready.
    fn readiness(&self) -> Readiness;

    /// The config in force.
    fn catalog(&self) -> Arc<Catalog>;

    /// What pull workers reach; `None`: durable jobs do not run.
    fn pulls(&self) -> Option<Arc<Pulls>>;

    /// The metrics as OpenMetrics text.
    fn metrics(&self) -> String;
}
