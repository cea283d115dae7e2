//! `[databases.NAME]`: a database that belongs to somebody else, reached under a role of its own.

use super::{About, Credential, Spanned, TableReader};
use crate::diag::Span;

/// A database as written.
#[derive(Debug, Clone)]
pub struct DatabaseSpec {
    /// The place of the table.
    pub span: Span,
    /// What people read.
    pub about: About,
    /// The name it had before.
    pub was: Option<Spanned<String>>,
    /// Where it is, user and password included.
    pub url: Option<Credential>,
    /// How many connections an engine may hold to it.
    pub max_connections: Option<Spanned<i64>>,
}

impl DatabaseSpec {
    /// Reads a whole `[databases.NAME]`.
    pub fn read(mut table: TableReader<'_>) -> Self {
        let was = table.own_name("was");
        let about = About::read(&mut table);
        let spec = Self {
            span: table.span(),
            about,
            was,
            url: table.required("url", Credential::read),
            max_connections: table.integer("max_connections", 1..=1_000),
        };
        table.finish();
        spec
    }
}
