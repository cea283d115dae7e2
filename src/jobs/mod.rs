//! The command plane: claims durable jobs, lets them run, writes what became of them, and brings back what
//! others left.
//!
//! Each loop is a service of its own that ends when its token is cancelled. Whoever starts them owns their
//! tasks. What a job does is none of theirs: see [`Execute`]. The rules of a job's life ([`state`]) are pure, and
//! one attempt of one ([`Program`]) knows no database.

mod acker;
mod attempt;
#[cfg(test)]
mod attempt_tests;
mod callbacks;
mod choosing;
mod claiming;
mod execute;
pub mod kept;
mod operating;
mod polling;
mod pulling;
mod queue;
mod services;
pub mod state;
#[cfg(test)]
mod state_tests;
mod tail;
mod wakes;

pub use acker::Acker;
pub use attempt::{Call, Callback, Known, MAX_MESSAGE, MAX_RESULT, Outcome, Program, Run, took_longer};
pub use callbacks::call_back;
pub use execute::Execute;
pub use operating::{Action, CANCEL_WITHIN, Operated};
pub use pulling::{Admit, Ask, Pulled, pull};
pub use queue::{QueueOptions, QueueRunner, Shared, UNKNOWN};
pub use services::{Retention, fence, keep_days, listen, promote, rescue};
pub use tail::{Tail, Tailed};
pub use wakes::Wakes;
