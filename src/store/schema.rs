//! The Postgres schema that holds everything of Biplane's.
//!
//! SQL is written for the schema `biplane`; here it becomes the one of the deployment. Names are always
//! qualified, because no session on a pooled connection may rely on a search path.

use std::fmt;

use sqlx::AssertSqlSafe;

/// How long a schema's name may be, so that what is derived from it fits Postgres' 63 bytes.
const MAX_NAME: usize = 40;

/// The name of a schema, safe to stand in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema(String);

impl Schema {
    /// The schema of this name.
    ///
    /// # Errors
    /// A message for people where it is no plain name or belongs to Postgres.
    pub fn new(name: &str) -> Result<Self, String> {
        let starts = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !starts || !name.chars().all(plain) || name.len() > MAX_NAME {
            return Err(format!(
                "a schema's name starts with a lowercase letter, goes on with a-z, 0-9 and `_` and has at most {MAX_NAME} characters"
            ));
        }
        if name.starts_with("pg_") || ["public", "information_schema"].contains(&name) {
            return Err(format!("`{name}` is not the engine's: name a schema of its own"));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// `sql` for this schema. Whoever wrote it wrote no value of a user into it.
    pub(super) fn sql(&self, sql: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.render(sql))
    }

    /// `sql` with every `biplane.` made this schema's.
    pub(super) fn render(&self, sql: &str) -> String {
        sql.replace("biplane.", &format!("\"{}\".", self.0))
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self("biplane".to_owned())
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_carried_out_in_the_schema_that_is_named() {
        let schema = Schema::new("jobs_2").unwrap();
        let sql = "select * from biplane.job, 'biplane.job'::regclass";
        assert_eq!(schema.render(sql), "select * from \"jobs_2\".job, '\"jobs_2\".job'::regclass");
    }

    #[test]
    fn a_name_that_would_need_quoting_or_is_taken_is_refused() {
        for name in ["", "1a", "Jobs", "a-b", "a b", "a\"b", "pg_jobs", "public", &"a".repeat(41)] {
            assert!(Schema::new(name).is_err(), "{name}");
        }
        assert_eq!(Schema::default(), Schema::new("biplane").unwrap());
    }
}
