//! `biplane completions SHELL`: from the same definitions as the help.

use clap::CommandFactory;
use clap_complete::Shell;

use super::arguments::Arguments;
use super::exit::{CliResult, Exit};
use super::output;

pub(super) fn run(shell: Shell) -> CliResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "biplane", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Clean)
}
