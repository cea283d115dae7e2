//! `[http_clients.NAME]`: where `http` steps call, and how they prove who they are.

use std::time::Duration;

use super::{About, Spanned, TableReader};
use crate::base::ByteSize;
use crate::diag::Span;

/// An HTTP client as written.
#[derive(Debug, Clone)]
pub struct HttpClientSpec {
    /// The place of the table.
    pub span: Span,
    /// What people read.
    pub about: About,
    /// The name it had before.
    pub was: Option<Spanned<String>>,
    /// Scheme, host and the start of every path.
    pub base_url: Option<Spanned<String>>,
    /// A bearer token.
    pub bearer: Option<Credential>,
    /// A user and a password.
    pub basic: Option<(Spanned<String>, Credential)>,
    /// Headers of every call.
    pub headers: Vec<(Spanned<String>, Credential)>,
    /// How long a call may take in all.
    pub timeout: Option<Spanned<Duration>>,
    /// How long connecting may take.
    pub connect_timeout: Option<Spanned<Duration>>,
    /// The largest answer.
    pub max_response_bytes: Option<Spanned<ByteSize>>,
    /// How many connections at one time.
    pub max_connections: Option<Spanned<i64>>,
}

/// A text that may be a secret: its value, and how it was written.
#[derive(Clone)]
pub struct Credential {
    /// What it is.
    pub value: Spanned<String>,
    /// What the file says; a template where it comes from `env`.
    pub written: String,
}

impl Credential {
    /// Reads one.
    pub(super) fn read(table: &mut TableReader<'_>, key: &str) -> Option<Self> {
        let written = table.text(key)?.value;
        table.string(key).map(|value| Self { value, written })
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl HttpClientSpec {
    /// Reads a whole `[http_clients.NAME]`.
    pub fn read(mut table: TableReader<'_>) -> Self {
        let was = table.own_name("was");
        let about = About::read(&mut table);
        let (bearer, basic) = read_auth(&mut table);
        let spec = Self {
            span: table.span(),
            about,
            was,
            base_url: table.required("base_url", TableReader::string),
            bearer,
            basic,
            headers: read_headers(&mut table),
            timeout: table.duration("timeout"),
            connect_timeout: table.duration("connect_timeout"),
            max_response_bytes: table.size("max_response_bytes"),
            max_connections: table.integer("max_connections", 1..=10_000),
        };
        table.finish();
        spec
    }
}

/// One of the two; what is the table's own leaves the other of the defaults out.
fn read_auth(table: &mut TableReader<'_>) -> (Option<Credential>, Option<(Spanned<String>, Credential)>) {
    let bearer = Credential::read(table, "bearer");
    let basic = table.entry("basic").is_some().then(|| read_basic(table)).flatten();
    match (table.is_own("bearer"), table.is_own("basic")) {
        (true, false) => (bearer, None),
        (false, true) => (None, basic),
        _ => (bearer, basic),
    }
}

fn read_basic(table: &mut TableReader<'_>) -> Option<(Spanned<String>, Credential)> {
    let mut inner = table.table("basic")?;
    let user = inner.required("user", TableReader::string);
    let password = inner.required("password", Credential::read);
    inner.finish();
    Some((user?, password?))
}

fn read_headers(table: &mut TableReader<'_>) -> Vec<(Spanned<String>, Credential)> {
    let Some(mut inner) = table.table("headers") else { return Vec::new() };
    inner
        .rest()
        .into_iter()
        .filter_map(|entry| {
            let name = Spanned::new(entry.key.clone(), entry.key_span);
            Some((name, Credential::read(&mut inner, &entry.key)?))
        })
        .collect()
}
