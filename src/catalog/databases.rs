//! Databases that belong to somebody else: where they are, with their passwords from the environment.

use std::fmt;
use std::sync::Arc;

use super::scene::Scene;
use super::secrets;
use crate::diag::{Diagnostic, codes};
use crate::spec::{About, DatabaseSpec, Spanned};

/// A database that belongs to somebody else.
pub struct Database {
    /// Its identity.
    pub name: Arc<str>,
    /// What people read.
    pub about: About,
    /// Where it is, user and password included; never shown.
    pub url: String,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The database that a table says; `None`: something is wrong, and that has been reported.
pub(super) fn resolve(scene: &Scene<'_>, name: &str, spec: &DatabaseSpec) -> Option<Database> {
    let url = spec.url.as_ref()?;
    let what = format!("database `{name}`");
    // A password that is written down is a finding whether or not the rest can be read.
    if url.written.contains("{{") {
        let finding = secrets::judge(&what, &url.written, url.value.span, scene.environment);
        finding.into_iter().for_each(|finding| scene.report(finding));
    } else if secrets::in_url(&url.written) {
        scene.report(secrets::literal(&what, url.value.span));
        return None;
    }
    check_url(scene, &what, &url.value).then(|| Database {
        name: Arc::from(name),
        about: spec.about.clone(),
        url: url.value.value.clone(),
    })
}

fn check_url(scene: &Scene<'_>, what: &str, url: &Spanned<String>) -> bool {
    if !url.known {
        return true;
    }
    let problem = match reqwest::Url::parse(&url.value) {
        Err(_) => "not a URL",
        Ok(parsed) if !matches!(parsed.scheme(), "postgres" | "postgresql") => {
            "the scheme must be postgres or postgresql"
        }
        Ok(parsed) if parsed.path().trim_matches('/').is_empty() => "names no database",
        Ok(_) => return true,
    };
    // The URL itself is not repeated: it may hold a password.
    scene.report(
        Diagnostic::new(&codes::DATABASE_URL, format!("`url` of {what} cannot be used"))
            .at(url.span, problem)
            .help("write scheme, user, host and database: \"postgres://app@db.example.com/app\""),
    );
    false
}
