//! Which database, and how to reach it past a pooler.

use std::fmt;
use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::error::{StoreError, StoreResult};
use super::schema::Schema;

/// What a URL says where a pooler on the way keeps no prepared statements.
const UNPREPARED: &str = "statement-cache-capacity=0";

/// Where the engine's database is. Shown without its password.
#[derive(Clone)]
pub struct DatabaseSettings {
    main: PgConnectOptions,
    direct: Option<PgConnectOptions>,
    schema: Schema,
    unprepared: bool,
}

impl DatabaseSettings {
    /// The database at `url`, whose connections may come from a pooler; `direct` reaches the same database
    /// past it.
    ///
    /// # Errors
    /// [`StoreError::Settings`] where a URL is none of Postgres'. The URL is not repeated.
    pub fn new(url: &str, direct: Option<&str>, schema: Schema) -> StoreResult<Self> {
        Ok(Self {
            main: parse(url, "DATABASE_URL")?,
            direct: direct.map(|url| parse(url, "BIPLANE_DATABASE_DIRECT_URL")).transpose()?,
            schema,
            unprepared: url.split(['?', '&']).any(|part| part == UNPREPARED),
        })
    }

    /// The schema of the tables.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// `host:port/database` as far as they are named, without role and password.
    pub fn address(&self) -> String {
        address(&self.main)
    }

    /// As [`DatabaseSettings::address`], of the way past the pooler, where one is named.
    pub fn direct_address(&self) -> Option<String> {
        self.direct.as_ref().map(address)
    }

    /// The role that connects.
    pub fn role(&self) -> &str {
        self.main.get_username()
    }

    /// Whether the database is reached through a pooler that keeps no prepared statements, as its URL says.
    pub(super) fn unprepared(&self) -> bool {
        self.unprepared
    }

    pub(super) fn main(&self) -> &PgConnectOptions {
        &self.main
    }

    /// The way past a pooler, or the only way.
    pub(super) fn direct(&self) -> &PgConnectOptions {
        self.direct.as_ref().unwrap_or(&self.main)
    }
}

impl fmt::Debug for DatabaseSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseSettings")
            .field("address", &self.address())
            .field("direct", &self.direct_address())
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// The database at a URL; `holder` says for people where the URL stands.
pub(super) fn parse(url: &str, holder: &str) -> StoreResult<PgConnectOptions> {
    let known = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    let options = known.then(|| PgConnectOptions::from_str(url).ok()).flatten();
    let options = options.ok_or_else(|| {
        StoreError::Settings(format!("{holder} is no `postgres://ROLE:PASSWORD@HOST:PORT/DATABASE`"))
    })?;
    Ok(options.application_name("biplane").disable_statement_logging())
}

/// `host:port/database` as far as they are named.
pub(super) fn address(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("{host}:{}/{database}", options.get_port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_shown_without_its_password() {
        let settings = DatabaseSettings::new(
            "postgres://app:canary@db.example:6432/work",
            Some("postgres://app:canary@db.example:5432/work"),
            Schema::default(),
        )
        .unwrap();
        assert_eq!(settings.address(), "db.example:6432/work");
        assert_eq!(settings.role(), "app");
        let shown = format!("{settings:?}");
        assert!(!shown.contains("canary") && shown.contains("db.example:5432/work"), "{shown}");
    }

    #[test]
    fn what_is_no_url_of_postgres_is_refused_without_repeating_it() {
        for url in ["canary", "mysql://canary@x/y", "postgres://canary@host:port/x"] {
            let error = DatabaseSettings::new(url, None, Schema::default()).unwrap_err().to_string();
            assert!(error.contains("DATABASE_URL") && !error.contains("canary"), "{error}");
        }
    }
}
