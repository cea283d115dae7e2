//! When things are due: cron expressions in time zones. Pure, and without a clock of its own.

mod cron;
mod fields;
mod jitter;
#[cfg(test)]
mod tests;
mod zone;

pub use cron::{Cron, CronError};
pub use jitter::jitter;
