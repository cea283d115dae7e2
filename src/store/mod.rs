//! Postgres: the only module that names the client library.
//!
//! SQL lies in `sql/<noun>/<verb>.sql` and `migrations/`, one thin function each. Every time is the
//! database's: nothing here asks this machine's clock what time it is. Decides nothing about retries or
//! which work comes next: callers say what to claim and settle, and get typed outcomes back.

mod connect;
mod error;
mod inspect;
mod migrate;
mod migrations;
mod schema;
mod settings;
mod upkeep;

pub use connect::Database;
pub use error::{StoreError, StoreResult};
pub use inspect::{Inspection, Route, inspect};
pub use migrate::{Compatibility, Migrated, Standing, migrate, standing};
pub use migrations::{LATEST, MIGRATIONS, Migration};
pub use schema::Schema;
pub use settings::DatabaseSettings;
pub use upkeep::DAYS_AHEAD;
