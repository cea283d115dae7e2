//! The command line: one file a command, exit codes and rendering.
//!
//! The only place that writes to standard output. Decides nothing about records or config: it
//! calls the modules below and shows what they answer.

mod api;
mod arguments;
mod asking;
mod audit;
mod check;
mod completions;
mod connect;
mod consent;
mod database;
mod dev;
mod dev_kafka;
mod dev_postgres;
mod discard;
mod dlqs;
mod entry;
mod example;
mod exit;
mod explain;
mod findings;
mod holding;
mod jobs;
mod live;
mod man;
mod members;
mod offsets;
mod operating;
mod outage;
mod output;
mod progress;
mod queues;
mod reloading;
mod replays;
mod root;
mod run;
mod sample_jobs;
mod samples;
mod schema;
mod screening;
mod selecting;
mod serving;
mod settings;
mod shown;
mod stages;
mod tailing;
mod tokens;
mod topics;

use crate::engine::scan;

pub use arguments::{Arguments, CheckFormat, Command, Format, GlobalArguments};
pub use entry::main;
pub use exit::{CliError, CliResult, Exit};
