//! The command line: one file a command, exit codes and rendering.
//!
//! The only place that writes to standard output. Decides nothing about records or config: it
//! calls the modules below and shows what they answer.

mod arguments;
mod check;
mod completions;
mod entry;
mod exit;
mod explain;
mod man;
mod output;

pub use arguments::{Arguments, Command, Format, GlobalArguments};
pub use entry::main;
pub use exit::{CliError, CliResult, Exit};
