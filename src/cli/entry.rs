//! From the arguments to an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use super::arguments::{Arguments, Command, DlqsCommand, StagesCommand, TopicsCommand};
use super::dlqs::{self, Which};
use super::exit::{CliError, CliResult, Exit};
use super::topics::{self, Consent};
use super::{check, completions, dev, explain, man, output, run, schema, stages};
use crate::catalog::Bound;

/// Runs the command that `arguments` (the program's name first) ask for. Errors are written to
/// standard error; a closed pipe ends quietly.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too; a reader that went away is no error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Clean }.into();
        }
    };
    match dispatch(arguments) {
        Ok(exit) => exit,
        Err(error) => {
            output::error(&error);
            match error {
                CliError::ClosedPipe => Exit::Clean,
                CliError::Usage(_) => Exit::Usage,
                CliError::Failed(_) => Exit::Incomplete,
            }
        }
    }
    .into()
}

fn dispatch(arguments: Arguments) -> CliResult {
    let global = &arguments.global;
    match arguments.command {
        Command::Check { online, all_environments, require_env, deny_warnings, format } => check::run(
            global,
            &check::Options { online, all_environments, require_env, deny_warnings, format },
        ),
        Command::Explain { subject, format } => explain::run(global, subject.as_deref(), format),
        Command::Schema => schema::run(),
        Command::Run { window_records, window_bytes } => {
            run::run(global, Bound { records: window_records, bytes: window_bytes })
        }
        Command::Dev { sample } => dev::run(global, sample),
        Command::Topics(TopicsCommand::Plan { format }) => topics::plan(global, format),
        Command::Topics(TopicsCommand::Apply { dry_run, yes, format }) => {
            topics::apply(global, &Consent { dry_run, yes, format })
        }
        Command::Stages(StagesCommand::List { format }) => stages::list(global, format),
        Command::Stages(StagesCommand::Show { name, format }) => stages::show(global, &name, format),
        Command::Dlqs(DlqsCommand::List { format }) => dlqs::list(global, format),
        Command::Dlqs(DlqsCommand::Show { name, partition, offset, format }) => {
            dlqs::show(global, &Which { name: &name, partition, offset }, format)
        }
        Command::Completions { shell } => completions::run(shell),
        Command::Man { directory } => man::run(directory.as_deref()),
    }
}
