//! `biplane replays start|list|show|resume|cancel`: dead letters, or records of any topic, sent again.
//!
//! The command that starts or resumes a replay runs it; `cancel` reaches it from anywhere. What is sent
//! where, and what is counted, is `engine::replays`' to say.

pub(super) mod arguments;
mod listing;
mod start;
mod telling;

use self::arguments::ReplaysCommand;
use super::arguments::GlobalArguments;
use super::exit::{CliError, CliResult};
use crate::engine::replays::ReplayError;

pub(super) fn run(global: &GlobalArguments, command: &ReplaysCommand) -> CliResult {
    match command {
        ReplaysCommand::Start(arguments) => start::start(global, arguments),
        ReplaysCommand::List { format } => listing::list(global, *format),
        ReplaysCommand::Show { id, format } => listing::show(global, id, *format),
        ReplaysCommand::Resume { id, format } => start::resume(global, id, *format),
        ReplaysCommand::Cancel { id } => listing::cancel(global, id),
    }
}

pub(super) use self::start::send_again;

/// What the command line got wrong is told from what went wrong.
fn told(error: ReplayError) -> CliError {
    match error {
        ReplayError::Filters(_)
        | ReplayError::NoStage(_)
        | ReplayError::Unknown(_)
        | ReplayError::Ended(_) => CliError::usage(error.to_string()),
        error => error.into(),
    }
}
