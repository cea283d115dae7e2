//! What a step may ask of the world. Only what is shared between steps lives here; nothing is opened
//! until a step asks for it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

pub use super::step::OpenError;
use super::{ExecRoot, Pools};
use crate::base::Failure;
use crate::spec::About;

/// Shared handles, cheap to clone. One for an engine, so that stages share pools.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    /// HTTP connections by client.
    pub http: Arc<Pools>,
    /// Databases; `None`: none can be asked here.
    pub sql: Option<Arc<dyn Databases>>,
    /// Where programs lie; `None`: none may be started here.
    pub exec: Option<Arc<ExecRoot>>,
}

/// A database that belongs to somebody else, under a role of its own.
#[derive(Clone, PartialEq)]
pub struct Database {
    /// Its identity.
    pub name: Arc<str>,
    /// What people read.
    pub about: About,
    /// Where it is, user and password included; never shown.
    pub url: String,
    /// How many connections an engine holds to it at most.
    pub max_connections: u32,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A statement of SQL with named binds, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SqlText {
    /// The text between the binds, and the binds by their place in `names`.
    pub parts: Vec<SqlPart>,
    /// Each name once, in the order in which they first come.
    pub names: Vec<Arc<str>>,
    /// Whether each value is a list over several records; rows then say in [`RECORD`] whose they are.
    pub batched: bool,
}

/// The column, and the name of a bind, that tells the records of a batch from each other: from 1.
pub const RECORD: &str = "record";

/// A part of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlPart {
    /// Text as it is.
    Text(String),
    /// A value, by its place in the names.
    Bind(usize),
}

impl SqlText {
    /// The statement with `$1` and so on in place of the binds, each as `shown` says.
    pub fn numbered(&self, shown: impl Fn(usize, String) -> String) -> String {
        let part = |part: &SqlPart| match part {
            SqlPart::Text(text) => text.clone(),
            SqlPart::Bind(place) => shown(*place, format!("${}", place + 1)),
        };
        self.parts.iter().map(part).collect()
    }
}

/// What an answer of a database may come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlLimits {
    /// How long the statement may take.
    pub timeout: Duration,
    /// How many rows it may give.
    pub rows: usize,
    /// How many bytes of JSON these may have together, about.
    pub bytes: usize,
}

/// What a database answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SqlAnswer {
    /// The rows, each an object by column.
    pub rows: Vec<Json>,
    /// How many rows were touched; where rows were only read, how many these are.
    pub affected: u64,
}

/// One run of a statement.
pub type BoxedSql<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// The databases that steps may ask.
pub trait Databases: fmt::Debug + Send + Sync {
    /// A statement on `database`, or on the engine's own. Nothing is connected yet.
    ///
    /// # Errors
    /// Where there is no such database here, or its URL is none.
    fn statement(
        &self,
        database: Option<&Arc<Database>>,
        text: &Arc<SqlText>,
    ) -> Result<Box<dyn Statement>, OpenError>;
}

/// A statement on a database.
pub trait Statement: Send + Sync {
    /// Carries it out in a transaction of its own, with a value for each of its names. Dropping the future
    /// takes back what was done, unless the end of the transaction was already asked for.
    ///
    /// # Errors
    /// A failure with the code `sql-` and the SQLSTATE, or `connection`, `timeout` and those of values.
    fn run<'a>(&'a self, values: &'a [Json], limits: SqlLimits) -> BoxedSql<'a, SqlAnswer>;

    /// Asks the server whether it would take the statement; nothing is carried out.
    ///
    /// # Errors
    /// As [`Statement::run`].
    fn prepare(&self) -> BoxedSql<'_, ()>;
}
