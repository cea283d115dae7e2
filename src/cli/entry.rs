//! From the arguments to an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use super::arguments::{
    Arguments, Command, DatabasesCommand, DlqsCommand, GlobalArguments, JobsCommand, QueuesCommand,
    StagesCommand, TopicsCommand, WorkersCommand,
};
use super::consent::Consent;
use super::dlqs::{self, Which};
use super::exit::{CliError, CliResult, Exit};
use super::selecting::{RangeArguments, SelectArguments};
use super::{
    audit, check, completions, database, dev, discard, explain, holding, jobs, man, offsets, operating,
    output, queues, replays, run, schema, stages, tailing, tokens, topics,
};
use crate::catalog::Bound;
use crate::jobs::Retention;
use crate::store::Change;

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
        Command::Run { window_records, window_bytes, keep_payloads, keep_outcomes, migrate, no_reload } => {
            let window = Bound { records: window_records, bytes: window_bytes };
            let retention = Retention { payloads: keep_payloads, outcomes: keep_outcomes };
            run::run(global, &run::Wanted { window, retention, migrate, reload: !no_reload })
        }
        Command::Migrate { database: Some(name), dry_run, format } => {
            database::make_stage_offset(global, &name, dry_run, format)
        }
        Command::Migrate { database: None, dry_run, format } => database::migrate(global, dry_run, format),
        Command::Databases(DatabasesCommand::Check { format }) => database::check(global, format),
        Command::Dev { sample, postgres_bin } => dev::run(global, sample, postgres_bin.as_deref()),
        Command::Jobs(command) => jobs_command(global, &command),
        Command::Tokens(command) => tokens::run(global, &command),
        Command::Audit(command) => audit::run(global, &command),
        Command::Queues(command) => queues_command(global, command),
        Command::Workers(WorkersCommand::List { format }) => queues::workers(global, format),
        Command::Topics(TopicsCommand::Plan { format }) => topics::plan(global, format),
        Command::Topics(TopicsCommand::Apply { dry_run, yes, format }) => {
            topics::apply(global, &Consent { dry_run, yes }, format)
        }
        Command::Stages(StagesCommand::List { format }) => stages::list(global, format),
        Command::Stages(StagesCommand::Show { name, format }) => stages::show(global, &name, format),
        Command::Stages(StagesCommand::Pause { name, reason, dry_run, format }) => {
            holding::pause(global, &name, reason, &holding::Way { dry_run, format })
        }
        Command::Stages(StagesCommand::Resume { name, dry_run, format }) => {
            holding::resume(global, &name, &holding::Way { dry_run, format })
        }
        Command::Dlqs(command) => dlqs_command(global, command),
        Command::Replays(command) => replays::run(global, &command),
        Command::Offsets(command) => offsets::run(global, command),
        Command::Completions { shell } => completions::run(shell),
        Command::Man { directory } => man::run(directory.as_deref()),
    }
}

fn jobs_command(global: &GlobalArguments, command: &JobsCommand) -> CliResult {
    match command {
        JobsCommand::Enqueue { wanted, format } => jobs::enqueue(global, wanted, *format),
        JobsCommand::List { filter, format } => jobs::list(global, filter, *format),
        JobsCommand::Show { id, format } => jobs::show(global, *id, *format),
        JobsCommand::Retry(jobs) => operating::run(global, Change::Retry, jobs),
        JobsCommand::Cancel(jobs) => operating::run(global, operating::CANCEL, jobs),
        JobsCommand::Snooze { when, jobs } => operating::run(global, when.change(), jobs),
        JobsCommand::Discard(jobs) => operating::run(global, Change::Discard, jobs),
        JobsCommand::Prioritise { priority, jobs } => {
            operating::run(global, Change::Prioritise(*priority), jobs)
        }
        JobsCommand::Tail(arguments) => tailing::run(global, arguments),
    }
}

fn queues_command(global: &GlobalArguments, command: QueuesCommand) -> CliResult {
    match command {
        QueuesCommand::List { format } => queues::list(global, format),
        QueuesCommand::Pause { name, reason, format } => {
            queues::pause(global, &name, reason.as_deref(), format)
        }
        QueuesCommand::Resume { name, format } => queues::resume(global, &name, format),
    }
}

fn dlqs_command(global: &GlobalArguments, command: DlqsCommand) -> CliResult {
    let wanted = |select: &SelectArguments, all, format| {
        let filters = select.filters(&RangeArguments::default());
        dlqs::Wanted { filters, all, format }
    };
    match command {
        DlqsCommand::List { select, all, format } => dlqs::list(global, &wanted(&select, all, format)),
        DlqsCommand::Show { name, select, partition, offset, all, format } => {
            let wanted = wanted(&select, all, format);
            dlqs::show(global, &Which { name: &name, partition, offset, wanted })
        }
        DlqsCommand::Discard { name, select, range, dry_run, yes, format } => {
            let (filters, consent) = (select.filters(&range), Consent { dry_run, yes });
            discard::run(global, &discard::Wanted { name: &name, filters, consent, format })
        }
    }
}
