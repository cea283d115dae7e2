//! What `databases check` tells: whether and how the database is reached, and whether its tables fit.

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgExecutor, Row};

use super::connect::{open, open_at, open_to_ask};
use super::error::StoreResult;
use super::migrate::{Standing, read_standing};
use super::schema::Schema;
use super::settings::{self, DatabaseSettings};
use super::statement::named;
use crate::steps::ports::Database as StepDatabase;

/// How connections reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Without anything between.
    Direct,
    /// Through a pooler, on which no session can be relied.
    Pooler,
}

/// One database as it was found.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// `host:port/database`.
    pub address: String,
    /// The role that the server sees.
    pub role: String,
    /// The server's version, such as `15.4`.
    pub server: String,
    /// Whether TLS protects the connection as far as the server sees.
    pub tls: bool,
    /// How `DATABASE_URL` reaches it.
    pub route: Route,
    /// How `BIPLANE_DATABASE_DIRECT_URL` reaches it, where that is set.
    pub direct: Option<Route>,
    /// Whether both reach the same database, where both are set.
    pub same: bool,
    /// Which migrations it has.
    pub standing: Standing,
    /// How many days ahead of today have partitions; `None` without tables or the right to ask.
    pub days_ahead: Option<i32>,
    /// The rights that the role lacks, in words for people; empty without tables.
    pub missing_rights: Vec<String>,
}

/// A database of somebody else as it was found.
#[derive(Debug, Clone)]
pub struct Reached {
    /// `host:port/database`.
    pub address: String,
    /// The role that the server sees.
    pub role: String,
    /// The server's version, such as `15.4`.
    pub server: String,
    /// Whether TLS protects the connection as far as the server sees.
    pub tls: bool,
    /// How it is reached.
    pub route: Route,
}

/// Looks at a database that steps ask.
///
/// # Errors
/// Those of connecting and reading; none tells its URL.
pub async fn reach(database: &StepDatabase) -> StoreResult<Reached> {
    let options = named(database)?;
    let address = settings::address(&options);
    let place = format!("{address} (database `{}`)", database.name);
    let mut connection = open_at(&options, &place).await?;
    let about = about(&mut connection).await;
    let _ = connection.close().await;
    let About { role, server, tls } = about?;
    Ok(Reached { route: route(&options).await, address, role, server, tls })
}

/// What an engine does with each table.
const RIGHTS: &[(&str, &str)] = &[
    ("queue", "SELECT,INSERT,UPDATE"),
    ("queue_turn", "SELECT,INSERT,UPDATE"),
    ("kind", "SELECT,INSERT,UPDATE"),
    ("job", "SELECT,INSERT,UPDATE"),
    ("ready", "SELECT,INSERT,UPDATE,DELETE"),
    ("deferred", "SELECT,INSERT,UPDATE,DELETE"),
    ("lease", "SELECT,INSERT,UPDATE,DELETE"),
    ("worker", "SELECT,INSERT,UPDATE,DELETE"),
    ("failed", "SELECT,INSERT,UPDATE,DELETE"),
    ("done", "SELECT,INSERT,DELETE"),
    ("unique_claim", "SELECT,INSERT,UPDATE,DELETE"),
    ("cancel_ask", "SELECT,INSERT,UPDATE,DELETE"),
    ("progress", "SELECT,INSERT,UPDATE,DELETE"),
    ("callback", "SELECT,INSERT,UPDATE,DELETE"),
    ("enqueued", "SELECT,DELETE"),
    ("outbox", "SELECT,INSERT,DELETE"),
    ("outbox_turn", "SELECT,UPDATE"),
    ("stage_offset", "SELECT,INSERT,UPDATE"),
    ("request", "SELECT,DELETE"),
    ("token", "SELECT,INSERT,UPDATE"),
    ("audit", "SELECT,INSERT,UPDATE"),
];

/// Looks at the database.
///
/// # Errors
/// Those of connecting and reading.
pub async fn inspect(settings: &DatabaseSettings) -> StoreResult<Inspection> {
    let mut connection = open_to_ask(settings, settings.main()).await?;
    let about = about(&mut connection).await?;
    let schema = settings.schema();
    let standing = read_standing(&mut connection, schema).await?;
    let (days_ahead, missing_rights) = match standing.version {
        0 => (None, Vec::new()),
        _ => (days_ahead(&mut connection, schema).await, missing_rights(&mut connection, schema).await?),
    };
    let identity = identity(&mut connection).await?;
    let _ = connection.close().await;
    let (direct, same) = match settings.direct_address() {
        None => (None, true),
        Some(_) => {
            let mut connection = open(settings, settings.direct()).await?;
            let same = self::identity(&mut connection).await? == identity;
            let _ = connection.close().await;
            (Some(route(settings.direct()).await), same)
        }
    };
    let route = route(settings.main()).await;
    let address = settings.address();
    let About { role, server, tls } = about;
    Ok(Inspection { address, role, server, tls, route, direct, same, standing, days_ahead, missing_rights })
}

struct About {
    role: String,
    server: String,
    tls: bool,
}

async fn about(connection: &mut PgConnection) -> StoreResult<About> {
    let row = sqlx::query(
        "select current_user::text, split_part(current_setting('server_version'), ' ', 1),
            coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false)",
    )
    .fetch_one(connection)
    .await?;
    Ok(About { role: row.try_get(0)?, server: row.try_get(1)?, tls: row.try_get(2)? })
}

/// What tells this database from every other: when its server started and its number there.
async fn identity(connection: &mut PgConnection) -> StoreResult<String> {
    let asked = "select pg_postmaster_start_time()::text || ' ' || oid::text from pg_database where datname = current_database()";
    Ok(sqlx::query_scalar(asked).fetch_one(connection).await?)
}

async fn route(options: &PgConnectOptions) -> Route {
    let Ok(mut connection) = open_at(&probing(options), "").await else { return Route::Pooler };
    let told = route_of(&mut connection).await;
    let _ = connection.close().await;
    told.unwrap_or(Route::Pooler)
}

/// With a setting that comes with the start of a session: a pooler refuses or swallows it, a server takes it.
pub(super) fn probing(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().options([("biplane.route", "direct")])
}

/// What is at the other end of a connection that was opened by [`probing`].
pub(super) async fn route_of(connection: impl PgExecutor<'_>) -> Result<Route, sqlx::Error> {
    let told: Option<String> =
        sqlx::query_scalar("select current_setting('biplane.route', true)").fetch_one(connection).await?;
    Ok(if told.as_deref() == Some("direct") { Route::Direct } else { Route::Pooler })
}

async fn days_ahead(connection: &mut PgConnection, schema: &Schema) -> Option<i32> {
    let ask = schema.sql("select biplane.upkeep_days_ahead()");
    sqlx::query_scalar(ask).fetch_one(connection).await.ok()
}

async fn missing_rights(connection: &mut PgConnection, schema: &Schema) -> StoreResult<Vec<String>> {
    let usable: bool = sqlx::query_scalar("select has_schema_privilege($1, 'USAGE')")
        .bind(schema.name())
        .fetch_one(&mut *connection)
        .await?;
    if !usable {
        return Ok(vec![format!("USAGE on schema `{schema}`")]);
    }
    let mut missing = Vec::new();
    for (table, rights) in RIGHTS {
        for right in rights.split(',') {
            let has: Option<bool> = sqlx::query_scalar("select has_table_privilege(to_regclass($1), $2)")
                .bind(schema.render(&format!("biplane.{table}")))
                .bind(right)
                .fetch_one(&mut *connection)
                .await?;
            if has != Some(true) {
                missing.push(format!("{right} on table `{schema}.{table}`"));
            }
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::store::MIGRATIONS;

    /// Every statement below a folder.
    fn statements(folder: &Path) -> String {
        let paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let text = |path: &PathBuf| {
            if path.is_dir() { statements(path) } else { fs::read_to_string(path).unwrap() }
        };
        paths.iter().map(text).collect()
    }

    #[test]
    fn the_right_to_whatever_a_statement_does_to_a_table_is_asked_for() {
        let statements = statements(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sql"));
        let does = |what: &str, table: &str| {
            let what = format!("{what} biplane.{table}");
            let is_word = |rest: &str| !rest.starts_with(|next: char| next == '_' || next.is_alphanumeric());
            statements.split(&what).skip(1).any(is_word)
        };
        let mut seen = 0;
        for line in MIGRATIONS.iter().flat_map(|migration| migration.sql.lines()) {
            let Some((table, rest)) =
                line.strip_prefix("create table biplane.").and_then(|line| line.split_once(' '))
            else {
                continue;
            };
            if rest.starts_with("partition of") {
                continue;
            }
            let asked = RIGHTS.iter().find(|(known, _)| *known == table).map_or("", |(_, rights)| rights);
            for (what, right) in [
                ("from", "SELECT"),
                ("join", "SELECT"),
                ("insert into", "INSERT"),
                ("update", "UPDATE"),
                ("delete from", "DELETE"),
            ] {
                assert!(!does(what, table) || asked.contains(right), "{right} on {table}");
                seen += usize::from(does(what, table));
            }
        }
        assert!(seen > 30, "{seen}");
    }
}
