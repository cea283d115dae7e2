//! `biplane run`: the engine, on the brokers that the environment names.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::arguments::{Format, GlobalArguments};
use super::exit::{CliError, CliResult, Exit};
use super::serving::{Serving, Started};
use super::{api, connect, database, reloading, root, serving};
use crate::broker::{Admin, ClientSettings};
use crate::catalog::{Bound, Catalog};
use crate::engine::{EngineSettings, Process, Reloader, load_tree, topics};
use crate::jobs::Retention;
use crate::telemetry::LogOptions;

/// How long the brokers may take to say which topics there are.
const ANSWER: Duration = Duration::from_secs(10);

/// What `run` is asked to do beside what every command is.
pub(super) struct Wanted {
    pub(super) window: Bound,
    pub(super) retention: Retention,
    /// Whether the migrations that are missing are applied first.
    pub(super) migrate: bool,
    /// Whether edits of the config root are taken over.
    pub(super) reload: bool,
}

pub(super) fn run(global: &GlobalArguments, wanted: &Wanted) -> CliResult {
    LogOptions::from_variables(|name| std::env::var(name).ok())
        .and_then(|options| options.install(None))
        .map_err(|error| CliError::usage(error.to_string()))?;
    let tree = load_tree(&global.config)?;
    let Some(catalog) = root::check(&tree, global.environment(), &Process, Format::Text)? else {
        return Ok(Exit::Findings);
    };
    let client = connect::client(global)?;
    let database = database::of_engine(global, &catalog)?;
    if wanted.migrate {
        database::bring_up(global)?;
    }
    let settings = EngineSettings {
        client: client.clone(),
        namespace: global.namespace.clone(),
        engine_id: global.engine_id().map(str::to_owned),
        window: wanted.window,
        traces: serving::traces()?,
        public_url: global.public_url()?.map(str::to_owned),
        programs: global.programs()?,
        database,
        retention: wanted.retention,
    };
    let access = api::access(global, false)?;
    let hangup = wanted.reload.then(Arc::default);
    let listen = global.listen.clone();
    Serving { settings, catalog, listen, access, drain: None, hangup: hangup.clone() }.run(|started| {
        if let Some(asked) = hangup {
            reloading::follow(&started, reloader(global, &started, client, asked), tree.digest());
        }
        Ok(())
    })
}

fn reloader(
    global: &GlobalArguments,
    started: &Started<'_>,
    client: ClientSettings,
    asked: Arc<Notify>,
) -> Reloader {
    Reloader {
        engine: Arc::clone(started.engine),
        root: global.config.clone(),
        environment: global.environment().map(str::to_owned),
        outside: Box::new(Process),
        make_topics: Box::new(move |catalog| topics_are_there(&client, catalog)),
        asked,
        report: Box::new(reloading::log),
    }
}

/// Whether every topic that a stage reads or writes exists: who runs an engine may not be who makes topics.
fn topics_are_there(client: &ClientSettings, catalog: &Catalog) -> Result<(), String> {
    let there = Admin::open(client).and_then(|admin| topics::missing(catalog, &admin, ANSWER));
    match there.map_err(|error| error.to_string())? {
        missing if missing.is_empty() => Ok(()),
        missing => Err(format!(
            "these topics do not exist: {}; `biplane topics apply` makes those that are the files' own",
            missing.join(", ")
        )),
    }
}
