//! Databases that belong to somebody else: where they are, with their passwords from the environment.

use std::sync::Arc;

use super::scene::Scene;
use super::secrets;
use crate::diag::{Diagnostic, codes};
use crate::spec::{DatabaseSpec, Spanned};
use crate::steps::Database;

/// How many connections an engine holds where nothing is said.
const MAX_CONNECTIONS: u32 = 4;

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
        max_connections: spec
            .max_connections
            .as_ref()
            .map_or(MAX_CONNECTIONS, |count| u32::try_from(count.value).unwrap_or(MAX_CONNECTIONS)),
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
