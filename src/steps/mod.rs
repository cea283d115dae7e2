//! The step library of both planes: one file a step, each with what it reads from TOML, how it is
//! checked and how it runs.

mod chain;
mod plan;
mod ports;
mod scope;
mod step;

pub use chain::Chain;
pub use plan::{COMMON_KEYS, HttpClient, PlanContext, Resources};
pub use ports::Ports;
pub use scope::{ItemScope, decode_for};
pub use step::{
    BoxedRun, Flow, OpenError, ReadyStep, Runnable, StepBody, StepContext, StepPlan, WaitingStep,
};
