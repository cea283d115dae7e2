//! `biplane run`: the engine, on the brokers that the environment names.

use super::arguments::{Format, GlobalArguments};
use super::exit::{CliError, CliResult, Exit};
use super::serving::Serving;
use super::{api, connect, database, root, serving};
use crate::catalog::Bound;
use crate::engine::EngineSettings;
use crate::jobs::Retention;
use crate::telemetry::LogOptions;

pub(super) fn run(global: &GlobalArguments, window: Bound, retention: Retention, migrate: bool) -> CliResult {
    LogOptions::from_variables(|name| std::env::var(name).ok())
        .and_then(|options| options.install(None))
        .map_err(|error| CliError::usage(error.to_string()))?;
    let Some(catalog) = root::load_for(global, Format::Text)? else {
        return Ok(Exit::Findings);
    };
    let client = connect::client(global)?;
    let database = database::of_engine(global, &catalog)?;
    if migrate {
        database::bring_up(global)?;
    }
    let settings = EngineSettings {
        client,
        namespace: global.namespace.clone(),
        engine_id: global.engine_id().map(str::to_owned),
        window,
        traces: serving::traces()?,
        public_url: global.public_url()?.map(str::to_owned),
        programs: global.programs()?,
        database,
        retention,
    };
    let access = api::access(global, false)?;
    Serving { settings, catalog, listen: global.listen.clone(), access, drain: None }.run(|_| Ok(()))
}
