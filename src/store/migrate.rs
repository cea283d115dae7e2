//! Applying migrations: forward only, each with its row in one transaction, one session at a time.
//!
//! Works past a pooler in transaction mode, since every lock ends with its transaction. Dropping the future
//! between two migrations leaves those that were applied; within one, nothing of it.
//!
//! Engines go on working meanwhile. Who waits for a table that somebody holds keeps everybody else from it, so a
//! migration that does not get one soon gives up what it has, lets others through and begins again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, Row};

use super::connect::{open, open_to_ask};
use super::error::{StoreError, StoreResult};
use super::migrations::{LATEST, MIGRATIONS, Migration};
use super::schema::Schema;
use super::settings::DatabaseSettings;
use crate::base::guard::{self, Guard};

/// How long a migration waits for a table, in milliseconds. Everybody else waits behind it.
const LOCK: u32 = 1_000;

/// How long others go on before it begins again.
const LET_THROUGH: Duration = Duration::from_secs(1);

/// For how long a migration begins again and again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which migrations a database has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The newest version applied; 0 for none.
    pub version: i32,
    /// The lowest version that an engine must know to run on it.
    pub oldest_engine: i32,
    /// Those that were applied from another text than this program's.
    pub changed: Vec<i32>,
}

/// Whether this program runs on a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compatibility {
    /// The schema is the one it was written for.
    Current,
    /// The schema is newer, and the engine still runs on it.
    Newer,
    /// Migrations are missing.
    Behind,
    /// A newer program has taken away what this one needs.
    TooNew,
}

impl Standing {
    /// Whether this program runs on it.
    pub fn compatibility(&self) -> Compatibility {
        if self.oldest_engine > LATEST {
            Compatibility::TooNew
        } else if self.version > LATEST {
            Compatibility::Newer
        } else if self.version < LATEST {
            Compatibility::Behind
        } else {
            Compatibility::Current
        }
    }

    /// Those of a program's that are missing, oldest first.
    fn pending<'a>(&self, of: &'a [Migration]) -> &'a [Migration] {
        let applied = of.iter().take_while(|migration| migration.version <= self.version).count();
        &of[applied..]
    }

    /// # Errors
    /// [`StoreError::Schema`] where this program cannot run on it, with what to do.
    pub fn check(&self) -> StoreResult<()> {
        let version = self.version;
        match self.compatibility() {
            Compatibility::Current | Compatibility::Newer => Ok(()),
            Compatibility::Behind => Err(StoreError::Schema(format!(
                "the database's schema is at version {version} and this program needs {LATEST}: run `biplane migrate`"
            ))),
            Compatibility::TooNew => Err(StoreError::Schema(format!(
                "the database's schema is at version {version}, which needs a program that knows version {} and this one knows {LATEST}: run a newer biplane",
                self.oldest_engine
            ))),
        }
    }

    fn read(rows: &BTreeMap<i32, (i32, String)>) -> Self {
        let changed = MIGRATIONS.iter().filter(|migration| {
            rows.get(&migration.version).is_some_and(|(_, checksum)| *checksum != migration.checksum())
        });
        Self {
            version: rows.last_key_value().map_or(0, |(version, _)| *version),
            oldest_engine: rows.values().map(|(oldest, _)| *oldest).max().unwrap_or(0),
            changed: changed.map(|migration| migration.version).collect(),
        }
    }
}

/// What [`migrate`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Where the schema stood before.
    pub before: i32,
    /// What was applied, or would be.
    pub applied: Vec<i32>,
}

/// Asks a database where it stands; one that was never migrated stands at 0.
///
/// # Errors
/// Those of connecting and reading.
pub async fn standing(settings: &DatabaseSettings) -> StoreResult<Standing> {
    let mut connection = open_to_ask(settings, settings.direct()).await?;
    let standing = read_standing(&mut connection, settings.schema()).await;
    let _ = connection.close().await;
    standing
}

/// Applies what is missing, or with `dry_run` only says what that is. `each` hears of every one before it
/// is applied.
///
/// # Errors
/// Those of connecting; [`StoreError::Denied`] where the role may not; [`StoreError::Schema`] where the
/// schema was made by a newer program or from another text.
pub async fn migrate(
    settings: &DatabaseSettings,
    dry_run: bool,
    each: impl FnMut(&Migration),
) -> StoreResult<Migrated> {
    migrate_to(settings, MIGRATIONS, dry_run, each).await
}

/// As [`migrate`], with the migrations of another version of this program.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_to(
    settings: &DatabaseSettings,
    migrations: &[Migration],
    dry_run: bool,
    mut each: impl FnMut(&Migration),
) -> StoreResult<Migrated> {
    if settings.unprepared() && settings.direct_address().is_none() {
        return Err(StoreError::Settings(
            "DATABASE_URL leads through a pooler that keeps no prepared statements: name the server itself with BIPLANE_DATABASE_DIRECT_URL".to_owned(),
        ));
    }
    let mut connection = open(settings, settings.direct()).await?;
    let found = read_standing(&mut connection, settings.schema()).await?;
    refuse_strange(&found)?;
    let mut applied = Vec::new();
    for migration in found.pending(migrations) {
        if dry_run {
            each(migration);
            applied.push(migration.version);
        } else if apply(&mut connection, settings.schema(), migration, &mut each)
            .await
            .map_err(|error| name(error, migration, settings))?
        {
            applied.push(migration.version);
        }
    }
    let _ = connection.close().await;
    Ok(Migrated { before: found.version, applied })
}

fn refuse_strange(found: &Standing) -> StoreResult<()> {
    if found.compatibility() == Compatibility::TooNew {
        return found.check();
    }
    match found.changed.first() {
        None => Ok(()),
        Some(version) => Err(StoreError::Schema(format!(
            "migration {version} was applied from another text than this program's: the schema was made by a build that was never released; make a new schema or database"
        ))),
    }
}

fn name(error: StoreError, migration: &Migration, settings: &DatabaseSettings) -> StoreError {
    let what = format!("migration {} ({})", migration.version, migration.name);
    match error {
        StoreError::Denied(why) => StoreError::Denied(format!(
            "{what}: {why}; role `{}` needs to own schema `{}`, or CREATE on the database to make it",
            settings.role(),
            settings.schema()
        )),
        StoreError::Busy(why) => StoreError::Busy(format!(
            "{what}: {why}; look in pg_stat_activity who holds the tables for longer than {} s, and run it again",
            PATIENCE.as_secs()
        )),
        StoreError::Refused { message, .. } | StoreError::Other { retriable: false, message } => {
            StoreError::Other { retriable: false, message: format!("{what}: {message}") }
        }
        other => other,
    }
}

/// Whether it was applied here; another session may have been first.
async fn apply(
    connection: &mut PgConnection,
    schema: &Schema,
    migration: &Migration,
    each: &mut impl FnMut(&Migration),
) -> StoreResult<bool> {
    let began = Instant::now();
    let mut told = false;
    let mut each = |migration: &Migration| {
        if !std::mem::replace(&mut told, true) {
            each(migration);
        }
    };
    loop {
        match try_to_apply(connection, schema, migration, &mut each).await {
            // No lock in time, or engines that waited for each other with it.
            Err(error) if error.is_transient() && !error.is_uncertain() && began.elapsed() < PATIENCE => {
                tokio::time::sleep(LET_THROUGH).await;
            }
            done => return done,
        }
    }
}

async fn try_to_apply(
    connection: &mut PgConnection,
    schema: &Schema,
    migration: &Migration,
    each: &mut impl FnMut(&Migration),
) -> StoreResult<bool> {
    let mut transaction = connection.begin().await?;
    // Ends with the transaction, so it holds past a pooler as well.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("biplane migrate {schema}"))
        .execute(&mut *transaction)
        .await?;
    if read_standing(&mut transaction, schema).await?.version >= migration.version {
        transaction.rollback().await?;
        return Ok(false);
    }
    each(migration);
    if !guard::removed(Guard::LockTimeout) {
        let limit = sqlx::AssertSqlSafe(format!("set local lock_timeout = {LOCK}"));
        sqlx::raw_sql(limit).execute(&mut *transaction).await?;
    }
    if migration.version == 1 {
        prepare(&mut transaction, schema).await?;
    }
    sqlx::raw_sql(schema.sql(migration.sql)).execute(&mut *transaction).await?;
    let row = schema.sql(
        "insert into biplane.migration (version, name, oldest_engine, checksum) values ($1, $2, $3, $4)",
    );
    sqlx::query(row)
        .bind(migration.version)
        .bind(migration.name)
        .bind(migration.oldest_engine())
        .bind(migration.checksum())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}

/// The schema, unless somebody with more rights has made it, and the table of what was applied.
async fn prepare(connection: &mut PgConnection, schema: &Schema) -> StoreResult<()> {
    let exists: bool = sqlx::query_scalar("select exists (select from pg_namespace where nspname = $1)")
        .bind(schema.name())
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        let make = sqlx::AssertSqlSafe(format!("create schema \"{schema}\""));
        sqlx::raw_sql(make).execute(&mut *connection).await?;
    }
    let table = schema.sql(
        "create table biplane.migration (
            version integer primary key,
            name text not null,
            oldest_engine integer not null,
            checksum text not null,
            applied_at timestamptz not null default now()
        )",
    );
    sqlx::raw_sql(table).execute(&mut *connection).await?;
    Ok(())
}

pub(super) async fn read_standing(connection: &mut PgConnection, schema: &Schema) -> StoreResult<Standing> {
    let exists: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(schema.render("biplane.migration"))
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(Standing::default());
    }
    let read = schema.sql("select version, oldest_engine, checksum from biplane.migration");
    let mut rows = BTreeMap::new();
    for row in sqlx::query(read).fetch_all(&mut *connection).await? {
        rows.insert(row.try_get::<i32, _>(0)?, (row.try_get::<i32, _>(1)?, row.try_get::<String, _>(2)?));
    }
    Ok(Standing::read(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: i32, oldest_engine: i32) -> Standing {
        Standing { version, oldest_engine, changed: Vec::new() }
    }

    #[test]
    fn an_engine_runs_on_its_own_schema_and_on_a_newer_one_that_has_only_grown() {
        assert_eq!(at(LATEST, 1).compatibility(), Compatibility::Current);
        assert_eq!(at(LATEST + 1, LATEST).compatibility(), Compatibility::Newer);
        assert!(at(LATEST + 1, LATEST).check().is_ok());
        assert_eq!(at(LATEST + 2, LATEST + 1).compatibility(), Compatibility::TooNew);
        let error = at(LATEST + 2, LATEST + 1).check().unwrap_err().to_string();
        assert!(error.contains("run a newer biplane"), "{error}");
    }

    #[test]
    fn a_schema_without_migrations_is_behind_and_lacks_all() {
        let none = Standing::default();
        assert_eq!(none.compatibility(), Compatibility::Behind);
        assert_eq!(none.pending(MIGRATIONS).len(), MIGRATIONS.len());
        assert!(none.check().unwrap_err().to_string().contains("biplane migrate"));
        assert!(at(LATEST, 1).pending(MIGRATIONS).is_empty());
    }

    #[test]
    fn a_migration_from_another_text_is_seen() {
        let rows = BTreeMap::from([(1, (1, "other".to_owned()))]);
        let standing = Standing::read(&rows);
        assert_eq!(standing.changed, [1]);
        assert!(refuse_strange(&standing).is_err());
        let same = BTreeMap::from([(1, (1, MIGRATIONS[0].checksum()))]);
        assert!(refuse_strange(&Standing::read(&same)).is_ok());
    }
}
