//! `biplane migrate` and `biplane databases check`: the engine's own database, and those that the files name.

use std::sync::Arc;

use serde_json::json;

use super::arguments::{Format, GlobalArguments};
use super::exit::{CliError, CliResult, Exit};
use super::{output, root};
use crate::catalog::{self, Catalog, CheckOptions, Database as StepDatabase};
use crate::engine::{Process, load_tree};
use crate::store::{
    self, Compatibility, Database, DatabaseSettings, Inspection, LATEST, MIGRATIONS, Migration, Reached,
    Route, StepDatabases, StoreError,
};

/// Partitions for fewer days ahead than this are a finding.
const DAYS_AHEAD: i32 = 2;

/// Applies the migrations that are missing.
pub(super) fn migrate(global: &GlobalArguments, dry_run: bool, format: Format) -> CliResult {
    let settings = settings(global)?;
    let text = format == Format::Text;
    let verb = if dry_run { "would apply" } else { "applying" };
    let mut lines = Vec::new();
    let done = wait(store::migrate(&settings, dry_run, |migration: &Migration| {
        let line = format!("{verb} {} {}", migration.version, migration.name);
        // A long migration is not waited for in silence.
        if text && !dry_run { output::note(&line) } else { lines.push(line) }
    }))?
    .map_err(failed)?;
    match format {
        Format::Json => output::json(&json!({
            "before": done.before,
            "latest": LATEST,
            "applied": done.applied.iter().map(|version| described(*version)).collect::<Vec<_>>(),
            "dry_run": dry_run,
        }))?,
        Format::Text => {
            lines.iter().try_for_each(|line| output::line(line))?;
            output::line(&ended(&settings, &done, dry_run))?;
        }
    }
    Ok(Exit::Clean)
}

/// Makes the table in a named database that says how far stages are which are exactly-once there.
pub(super) fn make_stage_offset(
    global: &GlobalArguments,
    name: &str,
    dry_run: bool,
    format: Format,
) -> CliResult {
    let Some(catalog) = root::load_for(global, format)? else { return Ok(Exit::Findings) };
    let Some(database) = catalog.databases().get(name) else {
        return Err(CliError::usage(format!("there is no [databases.{name}]")));
    };
    let own = global.database_url().map(|_| settings(global)).transpose()?;
    let databases = StepDatabases::new(own);
    let made = wait(databases.make_stage_offset(database, dry_run))?.map_err(failed)?;
    match format {
        Format::Json => output::json(&json!({ "database": name, "made": made, "dry_run": dry_run }))?,
        Format::Text => output::line(&match (made, dry_run) {
            (false, _) => format!("database `{name}` can say how far stages are"),
            (true, true) => format!("would make the table `stage_offset` in database `{name}`"),
            (true, false) => format!("database `{name}` can say how far stages are: `stage_offset` is made"),
        })?,
    }
    Ok(Exit::Clean)
}

/// As [`migrate`], before an engine starts.
pub(super) fn bring_up(global: &GlobalArguments) -> CliResult<()> {
    let settings = settings(global)?;
    let done = wait(store::migrate(&settings, false, |migration: &Migration| {
        tracing::info!(version = migration.version, name = migration.name, "applying a migration");
    }))?
    .map_err(failed)?;
    tracing::info!(
        version = LATEST.max(done.before),
        applied = done.applied.len(),
        "the database's schema is current"
    );
    Ok(())
}

fn described(version: i32) -> serde_json::Value {
    let name =
        MIGRATIONS.iter().find(|migration| migration.version == version).map(|migration| migration.name);
    json!({ "version": version, "name": name })
}

fn ended(settings: &DatabaseSettings, done: &store::Migrated, dry_run: bool) -> String {
    let schema = settings.schema();
    match done.applied.len() {
        0 => format!("schema `{schema}` is current at version {}", done.before),
        count if dry_run => {
            format!("{count} to apply to schema `{schema}`, which is at version {}", done.before)
        }
        count => format!("{count} applied; schema `{schema}` is at version {LATEST}"),
    }
}

/// Looks at the engine's database and at those that the files name; what an engine could not work with are findings.
pub(super) fn check(global: &GlobalArguments, format: Format) -> CliResult {
    let named = named(global)?;
    // Where the files name databases, an engine's own need not be among them.
    let own = match named.is_empty() || global.database_url().is_some() {
        true => Some(settings(global)?),
        false => None,
    };
    let found = own.as_ref().map(|own| wait(store::inspect(own))?.map_err(failed)).transpose()?;
    let problems = found.iter().zip(&own).flat_map(|(found, own)| problems(found, own)).collect::<Vec<_>>();
    let mut reached = Vec::new();
    for database in &named {
        reached.push((&database.name, wait(store::reach(database))?.map_err(failed)?));
    }
    match format {
        Format::Json => {
            let schema = own.as_ref().map(|own| own.schema().name());
            let mut told = found.as_ref().map_or_else(|| json!({}), |found| as_json(found, schema));
            told["problems"] = json!(problems);
            told["databases"] = reached.iter().map(|(name, found)| named_as_json(name, found)).collect();
            output::json(&told)?;
        }
        Format::Text => {
            if let (Some(found), Some(own)) = (&found, &own) {
                output::print_table(&["what", "found"], rows(found, own), "")?;
            }
            problems.iter().try_for_each(|problem| output::line(&format!("problem: {problem}")))?;
            if !reached.is_empty() {
                let header = ["database", "address", "role", "server", "tls", "route"];
                output::print_table(
                    &header,
                    reached.iter().map(|(name, found)| row(name, found)).collect(),
                    "",
                )?;
            }
        }
    }
    Ok(if problems.is_empty() { Exit::Clean } else { Exit::Findings })
}

/// The databases that the files name; none where there are no files.
fn named(global: &GlobalArguments) -> CliResult<Vec<Arc<StepDatabase>>> {
    let tree = load_tree(&global.config)?;
    if tree.iter().next().is_none() {
        return Ok(Vec::new());
    }
    let options = CheckOptions { environment: global.environment(), require_env: true, outside: &Process };
    match catalog::check(&tree, &options).catalog {
        Some(catalog) => Ok(catalog.databases().values().cloned().collect()),
        None => {
            output::note(
                "databases of the files were not looked at, as the files have errors: see `biplane check --require-env`",
            );
            Ok(Vec::new())
        }
    }
}

fn as_json(found: &Inspection, schema: Option<&str>) -> serde_json::Value {
    json!({
        "address": found.address,
        "role": found.role,
        "server": found.server,
        "tls": found.tls,
        "route": route(found.route),
        "direct_route": found.direct.map(route),
        "schema": schema,
        "version": found.standing.version,
        "latest": LATEST,
        "days_ahead": found.days_ahead,
    })
}

fn named_as_json(name: &str, found: &Reached) -> serde_json::Value {
    json!({
        "name": name,
        "address": found.address,
        "role": found.role,
        "server": found.server,
        "tls": found.tls,
        "route": route(found.route),
    })
}

fn rows(found: &Inspection, settings: &DatabaseSettings) -> Vec<[String; 2]> {
    let mut rows = vec![
        ["address".to_owned(), found.address.clone()],
        ["role".to_owned(), found.role.clone()],
        ["server".to_owned(), format!("PostgreSQL {}", found.server)],
        ["tls".to_owned(), yes(found.tls)],
        ["route".to_owned(), routes(found)],
        [
            "schema".to_owned(),
            format!("{}, version {} of {LATEST}", settings.schema(), found.standing.version),
        ],
    ];
    if let Some(days) = found.days_ahead {
        rows.push(["partitions".to_owned(), format!("{days} days ahead")]);
    }
    rows
}

fn row(name: &str, found: &Reached) -> [String; 6] {
    let Reached { address, role, server, .. } = found;
    let server = format!("PostgreSQL {server}");
    [name.to_owned(), address.clone(), role.clone(), server, yes(found.tls), route(found.route).to_owned()]
}

fn yes(truth: bool) -> String {
    if truth { "yes" } else { "no" }.to_owned()
}

fn problems(found: &Inspection, settings: &DatabaseSettings) -> Vec<String> {
    let mut problems = Vec::new();
    match found.standing.compatibility() {
        Compatibility::Current | Compatibility::Newer => {}
        Compatibility::Behind | Compatibility::TooNew => {
            problems.extend(found.standing.check().err().map(|error| error.to_string()));
        }
    }
    problems.extend(
        found
            .standing
            .changed
            .iter()
            .map(|version| format!("migration {version} was applied from another text than this program's")),
    );
    if !found.missing_rights.is_empty() {
        problems.push(format!(
            "role `{}` lacks {}; docs/database.md has the grants",
            found.role,
            found.missing_rights.join(", ")
        ));
    }
    if let Some(days) = found.days_ahead.filter(|days| *days < DAYS_AHEAD) {
        problems.push(format!("partitions exist for {days} days ahead, {DAYS_AHEAD} at least are wanted: an engine makes them while it runs"));
    }
    if !found.same {
        problems.push("BIPLANE_DATABASE_DIRECT_URL reaches another database than DATABASE_URL".to_owned());
    }
    if found.direct == Some(Route::Pooler) {
        let address = settings.direct_address().unwrap_or_default();
        problems.push(format!(
            "BIPLANE_DATABASE_DIRECT_URL ({address}) goes through a pooler: name the server itself"
        ));
    }
    problems
}

fn route(route: Route) -> &'static str {
    match route {
        Route::Direct => "direct",
        Route::Pooler => "pooler",
    }
}

fn routes(found: &Inspection) -> String {
    match (found.route, found.direct) {
        (Route::Direct, _) => "direct".to_owned(),
        (Route::Pooler, Some(_)) => "pooler; BIPLANE_DATABASE_DIRECT_URL is used past it".to_owned(),
        (Route::Pooler, None) => {
            "pooler; new jobs are found by polling alone unless BIPLANE_DATABASE_DIRECT_URL is set".to_owned()
        }
    }
}

/// The database that the arguments and the environment name, for a few statements.
pub(super) fn open(global: &GlobalArguments) -> CliResult<Database> {
    Ok(Database::new(settings(global)?, 1))
}

/// What of a catalog needs the engine's own database, in words; `None`: nothing.
pub(super) fn needed_by(catalog: &Catalog) -> Option<String> {
    if let Some(first) = catalog.jobs().keys().next() {
        return Some(format!("durable jobs (`{first}`)"));
    }
    let (place, _) = catalog.asked().find(|(_, asked)| asked.database.is_none())?;
    Some(format!("an `sql` step that asks the engine's own database ({place})"))
}

/// Where the engine's own database is; `None`: none is named, and the catalog needs none.
pub(super) fn of_engine(global: &GlobalArguments, catalog: &Catalog) -> CliResult<Option<DatabaseSettings>> {
    let Some(what) = needed_by(catalog) else {
        // An edit may come to need it. Until then the variable may be meant for others.
        return Ok(global.database_url().and_then(|_| settings(global).ok()));
    };
    if global.database_url().is_none() {
        return Err(CliError::usage(format!(
            "the config has {what} and no database is named: set DATABASE_URL to `postgres://ROLE:PASSWORD@HOST:PORT/DATABASE`"
        )));
    }
    settings(global).map(Some)
}

/// Where the arguments and the environment say that it is.
pub(super) fn settings(global: &GlobalArguments) -> CliResult<DatabaseSettings> {
    let url = global.require_database_url()?;
    DatabaseSettings::new(url, global.database_direct_url(), global.database_schema.clone())
        .map_err(|error| CliError::usage(error.to_string()))
}

/// Waits for an answer of the database, on this thread.
pub(super) fn wait<T>(asking: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(asking))
}

/// A refusal is a mistake of whoever asked; all else could not be completed.
pub(super) fn failed(error: StoreError) -> CliError {
    match error {
        StoreError::Settings(message) => CliError::usage(message),
        StoreError::Refused { code, message } => CliError::usage(format!("{message} [{code}]")),
        other => other.into(),
    }
}
