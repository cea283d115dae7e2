//! Small values that everything else is made of: failures, sizes, durations, rates, backoff.
//!
//! Owns no state and does no IO, but for the clock and the switch for tests in [`guard`]. Imports nothing from
//! the crate.

mod backoff;
mod client;
mod clock;
mod codes;
mod failure;
pub mod guard;
mod retry;
mod share;
mod units;

pub use backoff::{Backoff, Jitter};
pub use client::{causes, http_client};
pub use clock::now_millis;
pub use codes::{ENGINE_CODES, is_code, is_engine_code, names_a_code};
pub use failure::{Class, CodePattern, Failure, Remedy};
pub use retry::{Exhausted, RetryPolicy};
pub use share::Share;
pub use units::{ByteSize, Rate, UnitError, format_duration, parse_duration};
