//! `exec`: a program of the deployment's own for each record or job.
//!
//! Off unless the deployment allows it. A program is started from its arguments, never by a shell, with a clean
//! environment, in a folder of the config root and in a process group of its own, which ends with its run.

mod child;
mod lines;
mod output;
mod read;
mod step;
#[cfg(test)]
mod tests;

pub use child::ExecRoot;
pub(super) use read::read;
