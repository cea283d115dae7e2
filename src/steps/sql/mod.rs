//! `sql`: a statement on a database for each record or job, or for several records, in a transaction of its own.
//!
//! The text is fixed and stands in the config; what comes from messages are values of named binds, never text.

mod batch;
mod deferred;
mod read;
mod step;
#[cfg(test)]
mod tests;
mod text;

pub use deferred::Effect;
pub(super) use read::read;
pub use step::Asked;
