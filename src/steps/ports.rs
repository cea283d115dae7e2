//! What a step may ask of the world. Only what is shared between steps lives here; nothing is opened
//! until a step asks for it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

pub use super::sql::Effect;
pub use super::step::OpenError;
use super::{ExecRoot, Pools, Schema};
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
    /// Where durable jobs are enqueued; `None`: nowhere.
    pub jobs: Option<Arc<dyn Jobs>>,
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

/// A partition that a stage reads, as the database that the stage writes knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The stage's consumer group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

/// What a record changes: statements by their places among those of its stage, each with its values.
pub type Effects = Vec<(usize, Vec<Json>)>;

/// A stretch of a partition whose records are done, from where the database says that the stage stands.
#[derive(Debug)]
pub struct Stretch {
    /// The partition.
    pub place: Place,
    /// Where the stage stands.
    pub from: i64,
    /// Where it stands then.
    pub to: i64,
    /// The records that change something, by their offsets, rising.
    pub records: Vec<(i64, Effects)>,
}

/// What became of a stretch.
#[derive(Debug, PartialEq)]
pub enum Written {
    /// All of it up to this offset stands, and nothing behind it.
    To(i64),
    /// The first of its records is refused; nothing of it stands.
    Refused(Failure),
    /// The stage does not stand where it begins: somebody else was there. Nothing of it stands.
    Elsewhere,
}

/// Where stages that are exactly-once in a database stand, and what changes with it.
pub trait StageOffsets: Send + Sync {
    /// Where these stand; `None`: nobody was ever there.
    ///
    /// # Errors
    /// As [`Statement::run`].
    fn standing<'a>(&'a self, places: &'a [Place]) -> BoxedSql<'a, Vec<Option<i64>>>;

    /// Says where these stand unless somebody has said so before; where they stand then.
    ///
    /// # Errors
    /// As [`Statement::run`].
    fn begin<'a>(&'a self, places: &'a [(Place, i64)]) -> BoxedSql<'a, Vec<i64>>;

    /// Lets these stand there, wherever they stood. Whoever is at work on them meets that.
    ///
    /// # Errors
    /// As [`Statement::run`].
    fn set<'a>(&'a self, places: &'a [(Place, i64)]) -> BoxedSql<'a, ()>;

    /// Changes what a stretch is to change and moves the stage behind it, in one transaction. Where a record
    /// is refused it does so up to there.
    ///
    /// # Errors
    /// Those that say nothing of a record, such as `connection`. Whether it stands is not known then; said
    /// again it is [`Written::Elsewhere`] if it does.
    fn write<'a>(&'a self, stretch: &'a Stretch) -> BoxedSql<'a, Written>;
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

    /// The offsets of stages in `database`, or in the engine's own, with what the steps of one change there.
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// As [`Databases::statement`].
    fn offsets(
        &self,
        database: Option<&Arc<Database>>,
        effects: Vec<(Arc<str>, Effect)>,
    ) -> Result<Arc<dyn StageOffsets>, OpenError>;
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

/// A kind of durable jobs, as far as those need to know it who enqueue.
#[derive(Debug)]
pub struct JobKind {
    /// Its identity.
    pub name: Arc<str>,
    /// What its args satisfy.
    pub schema: Option<Arc<Schema>>,
}

impl JobKind {
    /// Whether jobs of this kind can have these args.
    ///
    /// # Errors
    /// A permanent failure `args-invalid` that says where they and the schema disagree.
    pub fn check(&self, args: &Json) -> Result<(), Failure> {
        let Some(schema) = &self.schema else { return Ok(()) };
        schema.check(args).map_err(|failure| Failure::permanent("args-invalid", failure.message))
    }
}

/// Where jobs come from. For each origin they are enqueued once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Which step, and which partition.
    pub source: i64,
    /// The record's offset, or the job's id.
    pub place: i64,
    /// Which of those that have this place.
    pub part: i64,
}

/// Jobs to enqueue, all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOrder<'a> {
    /// Where they come from.
    pub origin: Origin,
    /// What they are.
    pub kind: &'a str,
    /// The args of each, as JSON text.
    pub args: Vec<String>,
    /// The unique key of each; `None`: as their kind says.
    pub unique_keys: Option<Vec<Option<String>>>,
    /// Not before this time, RFC 3339.
    pub run_at: Option<String>,
    /// Not before that much later.
    pub delay: Option<Duration>,
    /// Cancelled where they have not started so long after they were due.
    pub expires: Option<Duration>,
    /// From 1, which goes first, to 9.
    pub priority: Option<i32>,
    /// How many attempts each has.
    pub max_attempts: Option<i32>,
    /// The trace that they belong to, as W3C `traceparent`.
    pub trace: Option<String>,
    /// The kind and args of the job that comes once all of them have ended.
    pub then: Option<(&'a str, String)>,
}

/// What became of a job that was to be enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// Its id, or that of the one that is there instead; `None`: it is gone by now.
    pub id: Option<i64>,
    /// False where its origin was enqueued for before, or another job holds its unique key.
    pub is_new: bool,
}

/// Where durable jobs are enqueued.
pub trait Jobs: fmt::Debug + Send + Sync {
    /// Enqueues them unless that was done for their origin before; the answer has one for each. Dropping the future
    /// leaves open whether they are.
    ///
    /// # Errors
    /// `args-invalid` and `enqueue-refused` (permanent), `job-unknown`, `connection` and `sql-busy` (transient),
    /// `enqueue-failed`.
    fn enqueue<'a>(&'a self, order: &'a JobOrder<'a>) -> BoxedSql<'a, Vec<Enqueued>>;
}

/// A topic to which jobs publish.
#[derive(Debug)]
pub struct EventTopic {
    /// Its identity.
    pub name: Arc<str>,
    /// Its name on the broker.
    pub physical: Arc<str>,
    /// The largest record that it takes, in bytes.
    pub max_bytes: usize,
}

/// An event to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The physical name of its topic.
    pub topic: String,
    /// Its key.
    pub key: Option<String>,
    /// Its value, as JSON text; `None`: a null value.
    pub value: Option<String>,
    /// Its headers.
    pub headers: Vec<(String, String)>,
}

impl Event {
    /// What the result of a step says that publishes; `None`: it is none.
    pub fn of(result: &Json) -> Option<Self> {
        let text = |value: &Json| value.as_str().map(str::to_owned);
        let headers = result.get("headers")?.as_object()?;
        Some(Self {
            topic: text(result.get("topic")?)?,
            key: text(result.get("key")?),
            value: result.get("value").filter(|value| !value.is_null()).map(ToString::to_string),
            headers: headers.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect(),
        })
    }

    /// The bytes of key, value and headers.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        length(&self.key) + length(&self.value) + headers
    }
}
