//! How steps enqueue jobs: on connections of their own, with what Postgres says of it as a failure.

use std::time::Duration;

use super::connect::Database;
use super::error::StoreError;
use super::settings::DatabaseSettings;
use crate::base::Failure;
use crate::steps::ports::{BoxedSql, Enqueued, JobOrder, Jobs};

/// How many connections they share, beside those that jobs are claimed on.
const CONNECTIONS: u32 = 4;
/// How long a run waits for one of them.
const PATIENCE: Duration = Duration::from_secs(10);

/// The jobs of an engine's own database. Nothing is connected before the first is enqueued.
#[derive(Debug)]
pub struct StepJobs(Option<Database>);

impl StepJobs {
    /// Those of the database that is reached so; `None`: the engine has none, and none can be enqueued.
    pub fn new(settings: Option<DatabaseSettings>) -> Self {
        Self(settings.map(|settings| Database::with_patience(settings, CONNECTIONS, PATIENCE)))
    }
}

impl Jobs for StepJobs {
    fn enqueue<'a>(&'a self, order: &'a JobOrder<'a>) -> BoxedSql<'a, Vec<Enqueued>> {
        Box::pin(async {
            let Some(database) = &self.0 else {
                let message = "the engine has no database of its own: set DATABASE_URL";
                return Err(Failure::transient("connection", message));
            };
            database.enqueue_once(order).await.map_err(failed)
        })
    }
}

fn failed(error: StoreError) -> Failure {
    let transient = error.is_transient();
    match error {
        StoreError::Refused { code, message } => match &*code {
            // `check` knows it, so it will be made known to the database soon.
            "BP001" => Failure::transient("job-unknown", message),
            "BP002" | "22P02" | "22P05" => Failure::permanent("args-invalid", message),
            _ => Failure::permanent("enqueue-refused", message),
        },
        StoreError::Unreachable(why) => Failure::transient("connection", why),
        StoreError::Busy(why) => Failure::transient("sql-busy", why),
        other if transient => Failure::transient("enqueue-failed", other.to_string()),
        other => Failure::fatal("enqueue-failed", other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Class;

    #[test]
    fn what_the_database_says_is_told_apart_by_what_may_help() {
        let refused =
            |code: &str| failed(StoreError::Refused { code: code.to_owned(), message: String::new() });
        for (code, expected) in [
            ("BP002", "args-invalid"),
            ("22P05", "args-invalid"),
            ("BP003", "enqueue-refused"),
            ("BP004", "enqueue-refused"),
        ] {
            assert_eq!((&*refused(code).code, refused(code).class), (expected, Class::Permanent), "{code}");
        }
        assert_eq!((&*refused("BP001").code, refused("BP001").class), ("job-unknown", Class::Transient));
        let other = |retriable| failed(StoreError::Other { retriable, message: String::new() });
        assert_eq!((other(true).class, other(false).class), (Class::Transient, Class::Fatal));
        assert_eq!(failed(StoreError::Unreachable(String::new())).class, Class::Transient);
    }
}
