//! The step library of both planes: one file a step, each with what it reads from TOML, how it is
//! checked and how it runs.

mod chain;
mod drop;
mod enqueue;
mod exec;
mod explode;
mod fail;
mod filter;
mod gather;
#[cfg(test)]
mod gather_tests;
mod http;
mod locate;
mod log;
mod lookup;
mod map;
mod path;
mod pause;
mod plan;
pub mod ports;
mod publish;
mod rename;
mod scope;
mod set;
mod sql;
mod step;
#[cfg(test)]
mod testing;
mod validate;
mod wait;

pub use chain::{Chain, MAX_BYTES};
pub use exec::ExecRoot;
pub use http::{HttpAuth, HttpClient, Pools};
pub use lookup::Tables;
pub use pause::{BoxedWait, Pause, Sleep};
pub use plan::{COMMON_KEYS, ConfigFiles, Find, KINDS, PlanContext, plan};
pub use ports::{Database, EventTopic, JobKind, Ports};
pub use scope::{ItemScope, decode_for};
pub use sql::{Asked, Effect};
pub use step::{
    BoxedRun, Flow, Gathering, OpenError, ReadyStep, Runnable, StepBody, StepContext, StepPlan, WaitingStep,
};
pub use validate::{Schema, SchemaError, Schemas};
