//! `biplane man`: the manual from the same definitions as the help.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;

use super::arguments::Arguments;
use super::exit::{CliResult, Exit};
use super::output;

pub(super) fn run(directory: Option<&Path>) -> CliResult {
    match directory {
        Some(directory) => {
            let failed = || format!("cannot write man pages to {}", directory.display());
            std::fs::create_dir_all(directory).with_context(failed)?;
            clap_mangen::generate_to(Arguments::command(), directory).with_context(failed)?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
            output::print(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(Exit::Clean)
}
