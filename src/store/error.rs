//! What can go wrong with the database, in the few kinds that callers act on.
//!
//! Postgres' codes are folded here and nowhere else; messages keep the server's own words for people. No
//! message holds a URL, since that may hold a password.

use std::io;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// What a call of the store returns.
pub type StoreResult<T> = Result<T, StoreError>;

/// A call of the store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The address or a setting is wrong.
    #[error("{0}")]
    Settings(String),
    /// No server answers, or the connection broke: whether the last statement was carried out is not known.
    #[error("Postgres cannot be reached: {0}")]
    Unreachable(String),
    /// The role, its password or its rights.
    #[error("Postgres refuses: {0}")]
    Denied(String),
    /// The server has no connection, lock or disk left for now.
    #[error("Postgres is short of something: {0}")]
    Busy(String),
    /// The tables are not those that this program knows.
    #[error("{0}")]
    Schema(String),
    /// The request itself is refused; the same one never succeeds.
    #[error("{message}")]
    Refused {
        /// Postgres' five characters; `BP…` are Biplane's own.
        code: String,
        /// The server's words.
        message: String,
    },
    /// Anything else.
    #[error("{message}")]
    Other {
        /// Whether the same request may succeed later.
        retriable: bool,
        /// The words of the server or the client.
        message: String,
    },
}

impl StoreError {
    /// Whether the same request may succeed later without anybody doing anything about it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Busy(_) => true,
            Self::Other { retriable, .. } => *retriable,
            Self::Settings(_) | Self::Denied(_) | Self::Schema(_) | Self::Refused { .. } => false,
        }
    }

    /// Whether it is not known if what was asked for was done.
    pub fn is_uncertain(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
                Some(error) => from_server(error),
                None => Self::Other { retriable: false, message: error.to_string() },
            },
            sqlx::Error::Io(error) => Self::Unreachable(io_words(&error)),
            sqlx::Error::Tls(error) => Self::Unreachable(format!("no TLS session: {error}")),
            sqlx::Error::PoolTimedOut => Self::Busy("all connections of the pool are in use".to_owned()),
            sqlx::Error::PoolClosed => Self::Unreachable("the pool is closed".to_owned()),
            sqlx::Error::Configuration(error) => Self::Settings(error.to_string()),
            sqlx::Error::Protocol(message) => Self::Unreachable(message),
            other => Self::Other { retriable: false, message: other.to_string() },
        }
    }
}

fn io_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused, nothing listens there".to_owned(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

fn from_server(error: &PgDatabaseError) -> StoreError {
    let code = error.code();
    let message = match error.detail() {
        // The detail of a refused value is the value, which may be a secret.
        Some(detail) if matches!(class(code), "42" | "53" | "55" | "28") => {
            format!("{} ({detail}) [{code}]", error.message())
        }
        _ => format!("{} [{code}]", error.message()),
    };
    match code {
        "42501" | "3D000" => StoreError::Denied(message),
        // A missing table, column, function or schema: migrations, not a mistake of whoever calls.
        "42P01" | "42703" | "42883" | "3F000" => {
            StoreError::Schema(format!("{message}: run `biplane migrate`, then `biplane databases check`"))
        }
        // Shutting down, starting up, ended by an administrator or with the server.
        "57P01" | "57P02" | "57P03" | "57P05" => StoreError::Unreachable(message),
        "55P03" => StoreError::Busy(message),
        "25006" => StoreError::Unreachable(format!("{message}: this is a standby")),
        "57014" => StoreError::Other { retriable: true, message },
        _ => match class(code) {
            "08" => StoreError::Unreachable(message),
            "28" => StoreError::Denied(message),
            "53" => StoreError::Busy(message),
            "40" => StoreError::Other { retriable: true, message },
            "BP" | "22" | "23" => {
                StoreError::Refused { code: code.to_owned(), message: error.message().to_owned() }
            }
            // The session ended with it, whatever it was: a server without room refuses new ones so.
            _ if matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic) => {
                StoreError::Unreachable(message)
            }
            _ => StoreError::Other { retriable: false, message },
        },
    }
}

fn class(code: &str) -> &str {
    code.get(..2).unwrap_or(code)
}
