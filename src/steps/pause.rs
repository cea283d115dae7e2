//! How a run waits between two attempts of one step. Whoever runs the chain decides what a wait holds
//! and whether there is time for it; how long it should be is the step's policy's.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::base::Failure;
use crate::telemetry::traces::Parent;

/// One wait; false where there is to be no further attempt.
pub type BoxedWait<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// What runs of steps wait by.
pub trait Pause: Send + Sync {
    /// Waits for `wait` after an attempt that ended in `failure`, and for whatever the next one needs.
    /// False, at once, where there is no time for it; the failure then ends the run.
    fn pause<'a>(&'a self, wait: Duration, failure: &'a Failure) -> BoxedWait<'a>;

    /// A step that asks another system, by its place in the chain, was answered, be it with a refusal of
    /// this item.
    fn answered(&self, _step: usize) {}

    /// The span under which requests of its steps belong, where spans are made.
    fn parent(&self) -> Option<&Parent> {
        None
    }
}

/// Waits and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sleep;

impl Pause for Sleep {
    fn pause<'a>(&'a self, wait: Duration, _: &'a Failure) -> BoxedWait<'a> {
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            true
        })
    }
}
