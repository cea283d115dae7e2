//! HTTP clients: addresses and credentials, judged.

use std::sync::Arc;
use std::time::Duration;

use super::environment::Environment;
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::spec::{Credential, HttpClientSpec, Spanned};
use crate::steps::{HttpAuth, HttpClient};

/// Requests under way at one time where nothing is said.
const MAX_CONNECTIONS: usize = 64;

/// Names of headers whose values are credentials.
pub(super) const SENSITIVE: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-access-token",
];

/// The client that a table says; `None`: something is wrong, and that has been reported.
pub(super) fn resolve(
    name: &str,
    spec: &HttpClientSpec,
    environment: &Environment,
    diagnostics: &Diagnostics,
) -> Option<HttpClient> {
    let errors = diagnostics.errors();
    let mut headers = Vec::new();
    for (header, value) in &spec.headers {
        if SENSITIVE.contains(&header.value.to_ascii_lowercase().as_str()) {
            check_secret(name, value, environment, diagnostics);
        }
        headers.push((header.value.clone(), value.value.value.clone()));
    }
    for credential in spec.bearer.iter().chain(spec.basic.iter().map(|(_, password)| password)) {
        check_secret(name, credential, environment, diagnostics);
    }
    if let (Some(token), Some((user, _))) = (&spec.bearer, &spec.basic) {
        let message = format!("HTTP client `{name}` has both a bearer token and a user");
        diagnostics.push(
            Diagnostic::new(&codes::KEY_CONFLICT, message)
                .at(token.value.span, "a bearer token")
                .also(user.span, "and a user")
                .help("keep one of the two"),
        );
    }
    let base_url = spec.base_url.as_ref().and_then(|url| check_url(name, url, diagnostics));
    let timeout = spec.timeout.as_ref().map_or(Duration::from_secs(10), |timeout| timeout.value);
    check_timeouts(name, spec, timeout, diagnostics);
    if diagnostics.errors() > errors {
        return None;
    }
    Some(HttpClient {
        name: Arc::from(name),
        base_url: Some(base_url?),
        auth: auth(spec),
        headers,
        timeout,
        connect_timeout: spec.connect_timeout.as_ref().map(|timeout| timeout.value),
        max_response_bytes: spec.max_response_bytes.as_ref().map_or(1 << 20, |size| size.value.as_usize()),
        max_connections: spec
            .max_connections
            .as_ref()
            .map_or(MAX_CONNECTIONS, |count| usize::try_from(count.value).unwrap_or(MAX_CONNECTIONS)),
    })
}

fn auth(spec: &HttpClientSpec) -> Option<HttpAuth> {
    let bearer = spec.bearer.as_ref().map(|token| HttpAuth::Bearer(token.value.value.clone()));
    bearer.or_else(|| {
        spec.basic.as_ref().map(|(user, password)| HttpAuth::Basic {
            user: user.value.clone(),
            password: password.value.value.clone(),
        })
    })
}

/// A credential comes from `env`, from a value that is marked as secret.
fn check_secret(client: &str, credential: &Credential, environment: &Environment, diagnostics: &Diagnostics) {
    let span = credential.value.span;
    if !credential.written.contains("{{") {
        diagnostics.push(
            Diagnostic::new(&codes::SECRET_LITERAL, format!("HTTP client `{client}` has a credential in the file"))
                .at(span, "readable by all who read the file")
                .help("declare it: [env] token = { var = \"TOKEN\", secret = true }, and write \"{{ env.token }}\" here"),
        );
    } else if !environment.all_secret(&credential.written) {
        diagnostics.push(
            Diagnostic::new(
                &codes::SECRET_NOT_MARKED,
                format!(
                    "HTTP client `{client}` takes a credential from a value that is not marked as secret"
                ),
            )
            .at(span, "may be shown to people")
            .help("add `secret = true` to its declaration in `[env]`"),
        );
    }
}

fn check_url(name: &str, url: &Spanned<String>, diagnostics: &Diagnostics) -> Option<String> {
    if !url.known {
        return Some("http://unknown".to_owned());
    }
    let problem = match reqwest::Url::parse(&url.value) {
        Err(_) => "not a URL",
        Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => "the scheme must be http or https",
        Ok(parsed) if !parsed.has_host() => "has no host",
        Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            "holds a user: use `basic`, with the password from `env`"
        }
        Ok(parsed) if parsed.query().is_some() || parsed.fragment().is_some() => {
            "has a query or a fragment, which belong to the step"
        }
        Ok(_) => return Some(url.value.trim_end_matches('/').to_owned()),
    };
    // The URL itself is not repeated: it may hold a password.
    let message = format!("`base_url` of HTTP client `{name}` cannot be used");
    diagnostics.push(Diagnostic::new(&codes::HTTP_CLIENT_URL, message).at(url.span, problem));
    None
}

fn check_timeouts(name: &str, spec: &HttpClientSpec, whole: Duration, diagnostics: &Diagnostics) {
    let Some(connect) =
        spec.connect_timeout.as_ref().filter(|connect| connect.known && connect.value > whole)
    else {
        return;
    };
    let message = format!("HTTP client `{name}` may connect longer than a whole call may take");
    let finding =
        Diagnostic::new(&codes::HTTP_CLIENT_TIMEOUT, message).at(connect.span, "longer than the whole");
    diagnostics.push(match &spec.timeout {
        Some(timeout) => finding.also(timeout.span, "the whole"),
        None => finding.help("`timeout` is 10s unless it is set"),
    });
}
