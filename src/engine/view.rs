//! What others may look at while the engine runs.

use super::status::{EngineStatus, Readiness};

/// The engine as the HTTP server and the command line see it.
pub trait View: Send + Sync {
    /// All of it, for operators.
    fn status(&self) -> EngineStatus;

    /// Whether it is ready.
    fn readiness(&self) -> Readiness;

    /// The metrics as OpenMetrics text.
    fn metrics(&self) -> String;
}
