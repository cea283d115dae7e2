//! The pools that steps share: one a database, beside those that jobs are claimed on.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

use super::offsets::Offsets;
use super::run::Prepared;
use crate::steps::ports::{Database, Databases, Effect, OpenError, SqlText, StageOffsets, Statement};
use crate::store::connect;
use crate::store::error::StoreResult;
use crate::store::schema::Schema;
use crate::store::settings::{self, DatabaseSettings};

/// How many connections steps hold to the engine's own database.
const OWN_CONNECTIONS: u32 = 4;

/// The databases of an engine. Nothing is connected before a statement is carried out.
pub struct StepDatabases {
    own: Option<DatabaseSettings>,
    open: Mutex<Vec<Open>>,
}

struct Open {
    /// `None`: the engine's own.
    database: Option<Arc<Database>>,
    pool: PgPool,
}

impl StepDatabases {
    /// Those of an engine whose own is `own`; `None`: it has none.
    pub fn new(own: Option<DatabaseSettings>) -> Self {
        Self { own, open: Mutex::default() }
    }

    /// The schema of what the engine keeps, in its own database and in others.
    pub(in crate::store) fn schema(&self) -> Schema {
        self.own.as_ref().map(|own| own.schema().clone()).unwrap_or_default()
    }

    /// The pool that is open, unless its database is reached otherwise by now.
    fn pool(&self, database: Option<&Arc<Database>>) -> Result<PgPool, String> {
        let mut open = self.open.lock();
        if let Some(known) = open.iter().find(|known| alike(known.database.as_ref(), database)) {
            return Ok(known.pool.clone());
        }
        let pool = self.connect(database)?;
        // Statements that are still open hold on to the old pool themselves.
        open.retain(|known| name(known.database.as_ref()) != name(database));
        open.push(Open { database: database.cloned(), pool: pool.clone() });
        Ok(pool)
    }

    fn connect(&self, database: Option<&Arc<Database>>) -> Result<PgPool, String> {
        let Some(database) = database else {
            let own = self.own.as_ref().ok_or("the engine has no database of its own: set DATABASE_URL")?;
            return Ok(connect::pool(own.main().clone(), OWN_CONNECTIONS));
        };
        let options = named(database).map_err(|error| error.to_string())?;
        Ok(connect::pool(options, database.max_connections))
    }
}

/// A database, for people.
fn whom(database: Option<&Arc<Database>>) -> String {
    database.map_or("the engine's database".to_owned(), |known| format!("database `{}`", known.name))
}

/// How a named database is reached.
pub(in crate::store) fn named(database: &Database) -> StoreResult<PgConnectOptions> {
    settings::parse(&database.url, &format!("`url` of database `{}`", database.name))
}

fn name(database: Option<&Arc<Database>>) -> Option<&str> {
    database.map(|database| &*database.name)
}

/// Whether they are one, reached in the same way.
fn alike(one: Option<&Arc<Database>>, other: Option<&Arc<Database>>) -> bool {
    let way =
        |database: &Arc<Database>| (database.name.clone(), database.url.clone(), database.max_connections);
    one.map(way) == other.map(way)
}

impl Databases for StepDatabases {
    fn statement(
        &self,
        database: Option<&Arc<Database>>,
        text: &Arc<SqlText>,
    ) -> Result<Box<dyn Statement>, OpenError> {
        let pool = self.pool(database).map_err(OpenError::new)?;
        Ok(Box::new(Prepared::new(pool, Arc::clone(text), whom(database))))
    }

    fn offsets(
        &self,
        database: Option<&Arc<Database>>,
        effects: Vec<(Arc<str>, Effect)>,
    ) -> Result<Arc<dyn StageOffsets>, OpenError> {
        let pool = self.pool(database).map_err(OpenError::new)?;
        Ok(Arc::new(Offsets::new(pool, self.schema(), whom(database), effects)))
    }
}

impl fmt::Debug for StepDatabases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepDatabases").field("own", &self.own).finish_non_exhaustive()
    }
}
