//! What an expression can see, without copying any of it. Nothing is decoded here.

use serde_json::Value as Json;

use crate::base::Failure;

/// A name that may stand first in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Root {
    /// The decoded value of a record.
    Value,
    /// Its key as text.
    Key,
    /// Its headers as texts by name; the last of a name counts.
    Headers,
    /// The physical topic it was read from.
    Topic,
    /// The partition it was read from.
    Partition,
    /// Its offset there.
    Offset,
    /// Its time, RFC 3339 in UTC with milliseconds.
    Timestamp,
    /// The declared environment.
    Env,
    /// Results of earlier steps by name.
    Steps,
    /// Why a dead letter is one, by name.
    Error,
    /// What a job was enqueued with.
    Args,
    /// What the engine says of a job.
    Job,
    /// When a job was to run.
    FireAt,
    /// The window of a backfill in which a job runs.
    Window,
    /// One of the items of a list, for what is made of each.
    Item,
}

impl Root {
    /// All roots, in the order in which the documentation lists them.
    pub const ALL: [Self; 15] = [
        Self::Value,
        Self::Key,
        Self::Headers,
        Self::Topic,
        Self::Partition,
        Self::Offset,
        Self::Timestamp,
        Self::Env,
        Self::Steps,
        Self::Error,
        Self::Args,
        Self::Job,
        Self::FireAt,
        Self::Window,
        Self::Item,
    ];

    /// The word in an expression.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Key => "key",
            Self::Headers => "headers",
            Self::Topic => "topic",
            Self::Partition => "partition",
            Self::Offset => "offset",
            Self::Timestamp => "timestamp",
            Self::Env => "env",
            Self::Steps => "steps",
            Self::Error => "error",
            Self::Args => "args",
            Self::Job => "job",
            Self::FireAt => "fire_at",
            Self::Window => "window",
            Self::Item => "item",
        }
    }
}

/// A set of roots: what an expression may read, or what a place offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RootSet(u16);

impl RootSet {
    /// No root at all.
    pub const EMPTY: Self = Self(0);
    /// Only `env`: what settings are rendered over at load.
    pub const ENV: Self = Self::EMPTY.with(Root::Env);
    /// All that a stage's steps and outputs see.
    pub const RECORD: Self = Self((1 << Root::Error as u16) - 1);
    /// All that can be asked of a record that lies in a topic.
    pub const LYING: Self = Self(Self::RECORD.0 & !(1 << Root::Env as u16) & !(1 << Root::Steps as u16));
    /// The same, and why it is a dead letter.
    pub const DEAD_LETTER: Self = Self::LYING.with(Root::Error);
    /// What tells jobs apart before one is there.
    pub const ARGS: Self = Self::EMPTY.with(Root::Args);
    /// All that a job's steps see.
    pub const JOB: Self =
        Self::ARGS.with(Root::Value).with(Root::Env).with(Root::Steps).with(Root::Job).with(Root::FireAt);
    /// Every root there is.
    pub const ALL: Self = Self((1 << Root::ALL.len()) - 1);

    /// The set with `root` in it.
    #[must_use]
    pub const fn with(self, root: Root) -> Self {
        Self(self.0 | 1 << root as u16)
    }

    /// Whether `root` is in it.
    pub const fn contains(self, root: Root) -> bool {
        self.0 & 1 << root as u16 != 0
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The roots in it.
    pub fn iter(self) -> impl Iterator<Item = Root> {
        Root::ALL.into_iter().filter(move |root| self.contains(*root))
    }
}

/// What a scope holds at a place, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found<'a> {
    /// A value.
    Json(&'a Json),
    /// A text that is no JSON value yet (a key, a header, a topic).
    Text(&'a str),
    /// A whole number (a partition, an offset).
    Integer(i64),
    /// A null that stands nowhere (a null key, a null header).
    Null,
}

/// Where an expression looks its names up. Nothing is decoded or copied by a look-up: whoever
/// evaluates decodes the record first where [`RootSet::contains`] says that its value is read.
pub trait Scope: Sync {
    /// What stands under `root` itself; `None` where this scope has no such root or where the root is
    /// only reached by name ([`Root::Headers`], [`Root::Steps`], [`Root::Error`]).
    ///
    /// # Errors
    /// A failure where what stands there cannot be said (a key that is not UTF-8).
    fn root(&self, root: Root) -> Result<Option<Found<'_>>, Failure>;

    /// What stands under `name` in `headers`, `steps` or `error`.
    ///
    /// # Errors
    /// As [`Scope::root`].
    fn named(&self, root: Root, name: &str) -> Result<Option<Found<'_>>, Failure>;

    /// The names under `headers`, `steps` or `error`, for the rare expression that walks them.
    fn names(&self, root: Root) -> Vec<String>;
}

/// The scope of settings that are filled in when a config is loaded: `env` and nothing else.
#[derive(Debug, Clone, Copy)]
pub struct EnvScope<'a>(pub &'a Json);

impl Scope for EnvScope<'_> {
    fn root(&self, root: Root) -> Result<Option<Found<'_>>, Failure> {
        Ok((root == Root::Env).then_some(Found::Json(self.0)))
    }

    fn named(&self, _: Root, _: &str) -> Result<Option<Found<'_>>, Failure> {
        Ok(None)
    }

    fn names(&self, _: Root) -> Vec<String> {
        Vec::new()
    }
}
