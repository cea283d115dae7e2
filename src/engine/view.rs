//! What others may look at while the engine runs.

use std::sync::Arc;

use super::control::{ControlError, Pause, Resume};
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

    /// Pauses a stage in every engine. Blocks while the broker is asked.
    ///
    /// # Errors
    /// Where the control topic cannot be written.
    fn pause_stage(&self, stage: &str, pause: &Pause) -> Result<(), ControlError>;

    /// Lets a stage go on in every engine. Blocks while the broker is asked.
    ///
    /// # Errors
    /// Where the control topic cannot be written.
    fn resume_stage(&self, stage: &str, resume: &Resume) -> Result<(), ControlError>;

    /// The metrics as OpenMetrics text.
    fn metrics(&self) -> String;
}
