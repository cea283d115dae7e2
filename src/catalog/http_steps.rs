//! `http` steps beyond what planning looks at: credentials, names of headers, literal URLs, and a timeout
//! that the client's own cuts off.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};

use super::scene::Scene;
use super::secrets;
use crate::base::format_duration;
use crate::diag::{Diagnostic, Span, codes};
use crate::expr::{EnvScope, RootSet, Template};
use crate::spec::{Spanned, Table, TableReader};

/// Judges the `http` of a step; `label` names the step.
pub(super) fn check(scene: &Scene<'_>, step: &Table, label: &str, roots: RootSet) {
    let Some(http) = step.get("http").and_then(|entry| entry.node.as_table()) else { return };
    for key in ["headers", "query"] {
        check_named(scene, http, key, label);
    }
    for key in ["url", "path"] {
        let text = http.get(key).and_then(|entry| entry.node.as_text());
        let Some(text) = text else { continue };
        if secrets::in_url(&text.value) {
            scene.report(secrets::literal(label, text.span));
        }
        if key == "url" && !text.value.is_empty() {
            check_url(scene, &text, label, roots);
        }
    }
    check_timeout(scene, step, http, label);
}

/// Headers or parameters: credentials by name, and headers that no request can carry.
fn check_named(scene: &Scene<'_>, http: &Table, key: &str, label: &str) {
    let named = http.get(key).and_then(|entry| entry.node.as_table());
    for entry in named.iter().flat_map(|table| &table.entries) {
        let text = entry.node.as_text();
        if secrets::is_sensitive(&entry.key) {
            let finding = match &text {
                Some(text) => secrets::judge(label, &text.value, text.span, scene.environment),
                None => Some(secrets::literal(label, entry.node.span)),
            };
            finding.into_iter().for_each(|finding| scene.report(finding));
        }
        if key == "headers" {
            let name = Spanned::new(entry.key.clone(), entry.key_span);
            let literal = text.filter(|text| !text.value.contains("{{"));
            let value = literal.as_ref().map(|text| (text.value.as_str(), text.span));
            header(label, &name, value).into_iter().for_each(|finding| scene.report(finding));
        }
    }
}

/// What no request can carry: a header of that name, or with that value where it is known.
pub(super) fn header(
    holder: &str,
    name: &Spanned<String>,
    value: Option<(&str, Span)>,
) -> Option<Diagnostic> {
    if HeaderName::from_bytes(name.value.as_bytes()).is_err() {
        let message = format!("{holder} has a header `{}`, which is no name of a header", name.value);
        return Some(
            Diagnostic::new(&codes::HTTP_HEADER, message)
                .at(name.span, "no name")
                .help("names are letters, digits and hyphens: `x-tenant`"),
        );
    }
    let (value, place) = value?;
    HeaderValue::from_str(value).is_err().then(|| {
        let message = format!("{holder} has a header `{}` whose value cannot be sent", name.value);
        Diagnostic::new(&codes::HTTP_HEADER, message)
            .at(place, "not one line of text")
            .help("a value holds no line breaks or control characters; a file's last line break is cut off")
    })
}

/// A URL of which enough is known: whole, or up to the first thing that is not.
fn check_url(scene: &Scene<'_>, text: &Spanned<String>, label: &str, roots: RootSet) {
    let Some(sample) = sample(scene, &text.value, roots) else { return };
    let problem = match reqwest::Url::parse(&sample) {
        Err(_) => "no URL",
        Ok(url) if !matches!(url.scheme(), "http" | "https") => "the scheme must be http or https",
        Ok(url) if !url.has_host() => "has no host",
        Ok(_) => return,
    };
    scene.report(
        Diagnostic::new(&codes::HTTP_URL, format!("the URL of {label} cannot be called"))
            .at(text.span, problem)
            .help("write a whole URL such as \"http://crm/tenants\", or name a `client` and write a `path`"),
    );
}

/// The URL with what `env` says filled in and something harmless for message data; `None` where a value
/// of `env` is not set, or the text has been reported.
fn sample(scene: &Scene<'_>, text: &str, roots: RootSet) -> Option<String> {
    Template::compile_url(text, roots).ok()?;
    let mut sample = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inner, behind) = after.split_once("}}")?;
        sample.push_str(before);
        match Template::compile(&format!("{{{{{inner}}}}}"), RootSet::ENV) {
            Ok(template) if scene.environment.all_known(&template) => {
                let value = template.text(&EnvScope(&scene.environment.values)).ok()??.into_owned();
                sample.push_str(&value);
            }
            Ok(_) => return None,
            Err(_) => sample.push('x'),
        }
        rest = behind;
    }
    Some(sample + rest)
}

/// A step's `timeout` beyond its client's is never reached.
fn check_timeout(scene: &Scene<'_>, step: &Table, http: &Table, label: &str) {
    // Read once more, for this judgement alone: nobody else hears of it.
    let mut reader = TableReader::new(step, label, scene.read.noting(None));
    let Some(timeout) = reader.duration("timeout").filter(|timeout| timeout.known) else { return };
    let Some(client) = http.get("client").and_then(|entry| entry.node.as_text()) else { return };
    if !scene.http_clients.contains_key(&client.value) {
        return;
    }
    let (limit, place) = match scene.client_timeouts.get(&client.value) {
        None => (Duration::from_secs(10), client.span),
        Some(None) => return,
        Some(Some((limit, place))) => (*limit, *place),
    };
    if timeout.value > limit {
        let name = &client.value;
        let limit = format_duration(limit);
        scene.report(
            Diagnostic::new(&codes::STAGE_POINTLESS, format!("`timeout` of {label} is never reached"))
                .at(timeout.span, format!("HTTP client `{name}` gives up after {limit}"))
                .also(place, format!("{limit} in all"))
                .help(format!("lengthen `timeout` of [http_clients.{name}], or remove this one")),
        );
    }
}
