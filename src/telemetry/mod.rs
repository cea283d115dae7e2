//! What the engine says about itself: metrics, logs and traces.
//!
//! Every metric's name stands in [`names`]; label sets are bounded whatever the records hold. Knows
//! nothing of stages beyond their names and serves nothing: `http` renders what [`Telemetry`] holds.

mod codes;
mod histogram;
mod limit;
mod logs;
mod metrics;
pub mod names;
mod panics;
mod process;
pub mod traces;

pub use codes::{MAX_CODES, OTHER};
pub use limit::RateLimit;
pub use logs::{LogError, LogFormat, LogOptions};
pub use metrics::{
    DedupeMetrics, JobMetrics, JobTimer, OutboxMetrics, OutcomeCounts, ReloadMetrics, SafeguardMetrics,
    StageCounts, StageMetrics, StepTimer, Telemetry, TraceMetrics, UnknownKinds,
};
