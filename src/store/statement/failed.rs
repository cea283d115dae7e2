//! From an error of the client to a failure with class and code.

use std::borrow::Cow;

use sqlx::postgres::PgDatabaseError;

use crate::base::{Class, Failure};
use crate::store::error::StoreError;

/// The failure of something that was asked of `whom`. Never tells a URL or a value of a row.
pub(super) fn failed(error: sqlx::Error, whom: &str) -> Failure {
    if let sqlx::Error::Database(told) = &error
        && let Some(told) = told.try_downcast_ref::<PgDatabaseError>()
    {
        return refused(told, whom);
    }
    match StoreError::from(error) {
        StoreError::Busy(why) => Failure::transient("sql-busy", format!("{whom}: {why}")),
        StoreError::Unreachable(why) => Failure::transient("connection", format!("{whom}: {why}")),
        other => Failure::permanent("sql-answer", format!("{whom}: {other}")),
    }
}

fn refused(told: &PgDatabaseError, whom: &str) -> Failure {
    let (state, message) = (told.code(), told.message());
    // What is violated is told by its name; the detail would tell the row.
    let what = told.constraint().map(|name| format!(" (constraint `{name}`)")).unwrap_or_default();
    Failure::new(class(state), code(state), format!("{whom}: {message}{what} [{state}]"))
}

/// `sql-23505`.
fn code(state: &str) -> Cow<'static, str> {
    format!("sql-{}", state.to_ascii_lowercase()).into()
}

/// What may help, by SQLSTATE.
fn class(state: &str) -> Class {
    match state {
        // A lock that was not had in time, an object in use, a standby that is no primary any more, a transaction
        // in which nothing happened for too long.
        "55P03" | "55006" | "25006" | "25P03" => Class::Transient,
        // Rights, and a database that does not exist.
        "42501" | "3D000" => Class::Fatal,
        _ => match state.get(..2).unwrap_or_default() {
            // Connections, serialization and deadlocks, resources, an operator or a timeout, the system.
            "08" | "40" | "53" | "57" | "58" => Class::Transient,
            "28" => Class::Fatal,
            _ => Class::Permanent,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_transient() {
        for state in
            ["40001", "40P01", "55P03", "53300", "57014", "57P01", "08006", "58030", "25006", "25P03"]
        {
            assert_eq!(class(state), Class::Transient, "{state}");
        }
        for state in ["23505", "22P02", "42P01", "42601", "P0001", "XX000", ""] {
            assert_eq!(class(state), Class::Permanent, "{state}");
        }
        assert_eq!([class("42501"), class("28P01")], [Class::Fatal; 2]);
        assert_eq!(code("22P02"), "sql-22p02");
    }
}
