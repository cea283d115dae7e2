//! `biplane schema`: the JSON Schema of config files, which editors complete and check with.

use super::exit::{CliResult, Exit};
use super::output;
use crate::catalog::json_schema;

/// Prints it.
pub(super) fn run() -> CliResult {
    output::json(&json_schema())?;
    Ok(Exit::Clean)
}
