//! HTTP clients: addresses and credentials, judged.

use std::sync::Arc;
use std::time::Duration;

use super::environment::Environment;
use super::{http_steps, secrets};
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::spec::{Credential, HttpClientSpec, Spanned};
use crate::steps::{HttpAuth, HttpClient};

/// Requests under way at one time where nothing is said.
const MAX_CONNECTIONS: usize = 64;

/// The client that a table says; `None`: something is wrong, and that has been reported.
pub(super) fn resolve(
    name: &str,
    spec: &HttpClientSpec,
    environment: &Environment,
    diagnostics: &Diagnostics,
) -> Option<HttpClient> {
    let errors = diagnostics.errors();
    let what = format!("HTTP client `{name}`");
    let mut headers = Vec::new();
    for (header, value) in &spec.headers {
        let found = &value.value;
        if secrets::is_sensitive(&header.value) {
            check_secret(&what, value, environment, diagnostics);
        }
        let known = found.known.then_some((found.value.as_str(), found.span));
        http_steps::header(&what, header, known).into_iter().for_each(|finding| diagnostics.push(finding));
        headers.push((header.value.clone(), found.value.clone()));
    }
    for credential in spec.bearer.iter().chain(spec.basic.iter().map(|(_, password)| password)) {
        check_secret(&what, credential, environment, diagnostics);
    }
    if let Some(token) = spec.bearer.as_ref().filter(|token| token.value.known) {
        let header = Spanned::new("authorization".to_owned(), token.value.span);
        let value = Some((token.value.value.as_str(), token.value.span));
        http_steps::header(&what, &header, value).into_iter().for_each(|finding| diagnostics.push(finding));
    }
    if let (Some(token), Some((user, _))) = (&spec.bearer, &spec.basic) {
        let message = format!("{what} has both a bearer token and a user");
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
fn check_secret(what: &str, credential: &Credential, environment: &Environment, diagnostics: &Diagnostics) {
    let finding = secrets::judge(what, &credential.written, credential.value.span, environment);
    finding.into_iter().for_each(|finding| diagnostics.push(finding));
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
    diagnostics.push(
        Diagnostic::new(&codes::HTTP_CLIENT_URL, message)
            .at(url.span, problem)
            .help("write scheme, host and the start of every path: \"https://crm.example.com/api\""),
    );
    None
}

fn check_timeouts(name: &str, spec: &HttpClientSpec, whole: Duration, diagnostics: &Diagnostics) {
    if spec.timeout.as_ref().is_some_and(|timeout| !timeout.known) {
        return;
    }
    let Some(connect) =
        spec.connect_timeout.as_ref().filter(|connect| connect.known && connect.value > whole)
    else {
        return;
    };
    let message = format!("HTTP client `{name}` may connect longer than a whole call may take");
    let finding =
        Diagnostic::new(&codes::HTTP_CLIENT_TIMEOUT, message).at(connect.span, "longer than the whole");
    diagnostics.push(match &spec.timeout {
        Some(timeout) => {
            finding.also(timeout.span, "the whole").help("shorten `connect_timeout`, or lengthen `timeout`")
        }
        None => finding.help("`timeout` is 10s unless it is set: lengthen it, or shorten `connect_timeout`"),
    });
}
