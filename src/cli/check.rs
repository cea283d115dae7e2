//! `biplane check`: all that is wrong with a config root, in one go.

use std::time::Duration;

use super::arguments::{CheckFormat, GlobalArguments};
use super::exit::{CliError, CliResult, Exit, read_or_not};
use super::findings::{self, Shown};
use super::{connect, database, output};
use crate::broker::{Admin, ClientSettings};
use crate::catalog::{Catalog, CheckOptions, Checked, Tree, check, check_all};
use crate::diag::{Diagnostic, Diagnostics};
use crate::engine::{Process, load_tree, online};
use crate::store::StepDatabases;

/// How long the brokers may take to answer one request.
const ANSWER: Duration = Duration::from_secs(10);

/// What to check and how to show it.
pub(super) struct Options {
    pub(super) online: bool,
    pub(super) all_environments: bool,
    pub(super) require_env: bool,
    pub(super) deny_warnings: bool,
    pub(super) format: CheckFormat,
}

/// Checks and prints; errors, and warnings where they are denied, are findings.
pub(super) fn run(global: &GlobalArguments, options: &Options) -> CliResult {
    // What is wrong with the command line is said before anything is read.
    let client = if options.online { Some(connect::client(global)?) } else { None };
    let tree = load_tree(&global.config)?;
    let mut checked = check_each(&tree, global.environment(), options);
    let asked = client.map_or(Ok(()), |client| ask(global, &client, &mut checked));
    let shown = Shown { format: options.format, root: &global.config, deny_warnings: options.deny_warnings };
    read_or_not(findings::print(&checked, &shown))?;
    asked?;
    let failed = checked.errors() > 0 || options.deny_warnings && !checked.findings.is_empty();
    Ok(if failed { Exit::Findings } else { Exit::Clean })
}

/// Adds what the brokers and the databases say; where the files have errors there is nothing to ask about.
fn ask(global: &GlobalArguments, client: &ClientSettings, checked: &mut Checked) -> CliResult<()> {
    let Some(catalog) = &checked.catalog else {
        output::note("the brokers were not asked, as the files have errors");
        return Ok(());
    };
    let topics = Admin::open(client)
        .and_then(|admin| online::findings(catalog, &checked.places, &admin, ANSWER))
        .map_err(|error| CliError::failed(format!("the brokers could not be asked: {error}")));
    let databases = ask_databases(global, catalog, checked);
    let all = Diagnostics::default();
    let kept = checked.findings.drain(..);
    let found = [&topics, &databases].into_iter().filter_map(|found| found.as_ref().ok()).flatten();
    kept.chain(found.cloned()).for_each(|finding| all.push(finding));
    checked.findings = all.into_sorted(&checked.sources);
    topics.and(databases).map(|_| ())
}

/// What the databases say of the tables and statements of a catalog that asks them.
fn ask_databases(
    global: &GlobalArguments,
    catalog: &Catalog,
    checked: &Checked,
) -> CliResult<Vec<Diagnostic>> {
    let needs_own = !catalog.jobs().is_empty() || catalog.asked().any(|(_, asked)| asked.database.is_none());
    let own = global.database_url().map(|_| database::settings(global)).transpose()?;
    if own.is_none() && needs_own {
        return Err(CliError::usage(
            "the engine's database could not be asked: set DATABASE_URL to `postgres://ROLE:PASSWORD@HOST:PORT/DATABASE`",
        ));
    }
    let failed = |why: String| CliError::failed(format!("a database could not be asked: {why}"));
    database::wait(async {
        let mut found = Vec::new();
        if let Some(own) = &own {
            let tables = online::tables(catalog, &checked.places, own).await;
            found.extend(tables.map_err(|error| failed(error.to_string()))?);
        }
        let databases = StepDatabases::new(own);
        for asked in
            [online::statements(catalog, &databases).await, online::stage_offsets(catalog, &databases).await]
        {
            found.extend(asked.map_err(|failure| failed(failure.message))?);
        }
        Ok(found)
    })?
}

/// One check, or one for each environment with the findings of all.
fn check_each(tree: &Tree, environment: Option<&str>, options: &Options) -> Checked {
    // The names of topics on the broker may hang on values that only an engine needs.
    let require_env = options.require_env || options.online;
    let once = CheckOptions { environment, require_env, outside: &Process };
    if options.all_environments { check_all(tree, &once) } else { check(tree, &once) }
}
