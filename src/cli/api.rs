//! What the HTTP server judges requests by, and what this program shows where it asks one.

use std::sync::Arc;

use super::arguments::GlobalArguments;
use super::database;
use super::exit::{CliError, CliResult};
use crate::http::Access;

/// The token of the environment that opens everything.
const ADMIN: &str = "BIPLANE_ADMIN_TOKEN";

/// The token that this program shows.
const TOKEN: &str = "BIPLANE_TOKEN";

/// As the arguments and the environment say; `private`: the database is this engine's alone.
pub(super) fn access(global: &GlobalArguments, private: bool) -> CliResult<Arc<Access>> {
    let database = global.database_url().map(|_| database::settings(global)).transpose()?;
    let (hosts, origins) = (global.allowed_hosts(), global.allowed_origins());
    let access = Access::new(database, variable(ADMIN).as_deref(), hosts, origins);
    let access = access.map_err(CliError::usage)?;
    Ok(Arc::new(if private { access.on_private_database() } else { access }))
}

/// What is shown to an engine, if anything.
pub(super) fn token() -> Option<String> {
    variable(TOKEN).or_else(|| variable(ADMIN))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
