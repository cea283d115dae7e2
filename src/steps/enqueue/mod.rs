//! `enqueue`: durable jobs for each record or job, once each however often its step is run.

mod read;
mod step;
#[cfg(test)]
mod tests;

pub(super) use read::read;
