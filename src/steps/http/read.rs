//! The step's table in TOML.

use std::sync::Arc;
use std::time::Duration;

use super::client::HttpClient;
use super::split::Parts;
use super::step::{BatchSettings, CacheSettings, Http, OnStatus, Payload, Response, StatusRule, Target};
use crate::diag::{Diagnostic, codes};
use crate::expr::{Root, Template};
use crate::spec::{Entry, Spanned, TableReader};
use crate::steps::path::FieldPath;
use crate::steps::{PlanContext, StepBody, gather};

const METHODS: [(&str, reqwest::Method); 6] = [
    ("GET", reqwest::Method::GET),
    ("HEAD", reqwest::Method::HEAD),
    ("POST", reqwest::Method::POST),
    ("PUT", reqwest::Method::PUT),
    ("PATCH", reqwest::Method::PATCH),
    ("DELETE", reqwest::Method::DELETE),
];

const ON_STATUS: [(&str, OnStatus); 4] = [
    ("null", OnStatus::Null),
    ("drop", OnStatus::Drop),
    ("dead-letter", OnStatus::DeadLetter),
    ("accept", OnStatus::Accept),
];

pub(in crate::steps) fn read(
    table: &mut TableReader<'_>,
    context: &PlanContext<'_>,
) -> Option<Arc<dyn StepBody>> {
    let timeout = table.duration("timeout").map(|timeout| timeout.value);
    let mut inner = table.table("http")?;
    let target = read_target(&mut inner, timeout, context);
    let method = inner.word("method", &METHODS);
    let query = read_templates(&mut inner, "query", context);
    let headers = read_templates(&mut inner, "headers", context);
    let payload = read_payload(&mut inner, context);
    let into = read_path(&mut inner, "into", context);
    let on_status = read_on_status(&mut inner);
    let cache = read_cache(&mut inner, context);
    let responses = [("json", Response::Json), ("text", Response::Text), ("none", Response::None)];
    let response = inner.word("response", &responses).map_or(Response::Json, |word| word.value);
    let max_bytes = inner.size("max_response_bytes").map(|size| size.value.as_usize());
    let repeatable = inner.boolean("repeatable").is_some_and(|word| word.value);
    let batch = read_batch(&mut inner, response, context);
    let callback_within = read_callback(&mut inner, context);
    inner.finish();
    let (client, target) = target?;
    let payload = payload?;
    let standard =
        if matches!(payload, Payload::None) { reqwest::Method::GET } else { reqwest::Method::POST };
    Some(Arc::new(Http {
        max_bytes: max_bytes.unwrap_or(client.max_response_bytes),
        client,
        target,
        method: method.map_or(standard, |method| method.value),
        query: query?,
        headers: headers?,
        payload,
        into: into?,
        on_status: on_status?,
        cache: cache?,
        batch: batch?,
        response,
        repeatable,
        callback_within: callback_within.map(|wait| wait.value),
    }))
}

/// `client` with `path`, or a whole `url`, whose only deadline is the step's.
fn read_target(
    table: &mut TableReader<'_>,
    timeout: Option<Duration>,
    context: &PlanContext<'_>,
) -> Option<(Arc<HttpClient>, Target)> {
    let (client, path, url) = (table.name("client"), table.text("path"), table.text("url"));
    match (client, url) {
        (Some(client), Some(url)) => {
            table.report(
                Diagnostic::new(&codes::KEY_CONFLICT, format!("{} has both `client` and `url`", table.what))
                    .at(url.span, "a whole URL")
                    .also(client.span, "a client with a base URL")
                    .help("keep `client` and write `path` for what follows its base URL"),
            );
            None
        }
        (Some(name), None) => {
            let client = (context.http_client)(&name);
            let empty = || Spanned::new(String::new(), name.span);
            let path = context.url(&path.unwrap_or_else(empty), false);
            Some((client?, Target::Path(path?)))
        }
        (None, Some(url)) => {
            if let Some(path) = path {
                table.report(
                    Diagnostic::new(
                        &codes::KEY_CONFLICT,
                        format!("{} has both `url` and `path`", table.what),
                    )
                    .at(path.span, "belongs to `client`")
                    .also(url.span, "a whole URL"),
                );
            }
            let mut client = HttpClient::default();
            client.timeout = timeout.unwrap_or(client.timeout);
            Some((Arc::new(client), Target::Url(context.url(&url, true)?)))
        }
        (None, None) => {
            table.required("url", TableReader::text);
            None
        }
    }
}

fn read_templates(
    table: &mut TableReader<'_>,
    key: &str,
    context: &PlanContext<'_>,
) -> Option<Vec<(String, Template)>> {
    if table.entry(key).is_none() {
        return Some(Vec::new());
    }
    let mut inner = table.table(key)?;
    let mut whole = true;
    let mut templates = Vec::new();
    for entry in inner.rest() {
        let template = match entry.node.as_text() {
            Some(text) => context.template(&text),
            // Numbers and booleans are their own text.
            None if entry.node.as_array().is_none() && entry.node.as_table().is_none() => {
                Some(Template::constant_value(entry.node.to_json()))
            }
            None => {
                inner.wrong_type(&entry.key, &entry.node, "a string");
                None
            }
        };
        match template {
            Some(template) => templates.push((entry.key.clone(), template)),
            None => whole = false,
        }
    }
    whole.then_some(templates)
}

fn read_payload(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Payload> {
    let (json, body) = (table.entry("json"), table.entry("body"));
    match (json, body) {
        (Some(json), Some(body)) => {
            table.report(
                Diagnostic::new(&codes::KEY_CONFLICT, format!("{} has both `json` and `body`", table.what))
                    .at(body.key_span, "a body as text")
                    .also(json.key_span, "a body as JSON"),
            );
            None
        }
        (Some(json), None) => Some(Payload::Json(context.tree(&json.node)?)),
        (None, Some(_)) => Some(Payload::Text(context.template(&table.text("body")?)?)),
        (None, None) => Some(Payload::None),
    }
}

fn read_on_status(table: &mut TableReader<'_>) -> Option<Vec<StatusRule>> {
    if table.entry("on_status").is_none() {
        return Some(Vec::new());
    }
    let mut inner = table.table("on_status")?;
    let mut rules = Vec::new();
    let mut whole = true;
    for entry in &inner.table.entries {
        let action = inner.word(&entry.key, &ON_STATUS);
        let statuses = statuses(&entry.key);
        if statuses.is_none() {
            inner.report(
                Diagnostic::new(&codes::VALUE_RANGE, format!("`{}` is no HTTP status", entry.key))
                    .at(entry.key_span, "from 100 to 599, or a class such as `4xx`"),
            );
        }
        match (statuses, action) {
            (Some((first, last)), Some(action)) => {
                rules.push(StatusRule { first, last, action: action.value })
            }
            _ => whole = false,
        }
    }
    // The narrower rule speaks first, whatever the order in the file.
    rules.sort_by_key(|rule| rule.last - rule.first);
    whole.then_some(rules)
}

fn statuses(key: &str) -> Option<(u16, u16)> {
    if let Some(class) = key.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    let status = key.parse().ok().filter(|status| (100..=599).contains(status))?;
    Some((status, status))
}

fn read_cache(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Option<CacheSettings>> {
    if table.entry("cache").is_none() {
        return Some(None);
    }
    let mut inner = table.table("cache")?;
    let key = inner.required("key", TableReader::text);
    let ttl = inner.required("ttl", TableReader::duration);
    let max_bytes = inner.required("max_bytes", TableReader::size);
    inner.finish();
    let key = key.and_then(|text| context.expression(&text));
    let ttl: Duration = ttl?.value;
    Some(Some(CacheSettings { key: key?, ttl, max_bytes: max_bytes?.value.as_usize() }))
}

/// A path to a field, where there is one.
fn read_path(table: &mut TableReader<'_>, key: &str, context: &PlanContext<'_>) -> Option<Option<FieldPath>> {
    if table.entry(key).is_none() {
        return Some(None);
    }
    FieldPath::read(&table.text(key)?, context.diagnostics).map(Some)
}

/// Only a job can wait for somebody to call back; what was accepted is not to be remembered as an answer.
fn read_callback(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Spanned<Duration>> {
    let entry = table.entry("callback_within")?;
    let within = table.duration("callback_within")?;
    let cache = table.entry("cache");
    let what = &table.what;
    context.check_callback(entry.key_span, &format!("`callback_within` of {what}"));
    if let Some(cache) = cache.filter(|_| context.roots.contains(Root::Job)) {
        table.report(
            Diagnostic::new(&codes::KEY_CONFLICT, format!("{what} has both `callback_within` and `cache`"))
                .at(cache.key_span, "keeps answers")
                .also(entry.key_span, "waits for what is no answer yet")
                .help("keep one of the two"),
        );
    }
    Some(within)
}

fn read_batch(
    table: &mut TableReader<'_>,
    response: Response,
    context: &PlanContext<'_>,
) -> Option<Option<BatchSettings>> {
    let Some(entry) = table.entry("batch") else { return Some(None) };
    let mut inner = table.table("batch")?;
    let shared = gather::Settings::read(&mut inner);
    let answers = read_path(&mut inner, "answers", context);
    let status = read_path(&mut inner, "status", context);
    let body = read_path(&mut inner, "body", context);
    let parts = ["answers", "status", "body"].into_iter().find_map(|key| inner.entry(key));
    inner.finish();
    let fits = check_batch(table, entry, response, parts);
    let parts = Parts { answers: answers?, status: status?, body: body? };
    let shared = shared?;
    fits.then_some(Some(BatchSettings { shared, parts }))
}

/// A batch is a list of JSON and is answered by one.
fn check_batch(table: &mut TableReader<'_>, batch: &Entry, response: Response, part: Option<&Entry>) -> bool {
    let (json, text, word) = (table.entry("json"), table.entry("body"), table.entry("response"));
    let what = &table.what;
    let finding = if json.is_none() {
        let finding = match text {
            Some(text) => {
                Diagnostic::new(&codes::KEY_CONFLICT, format!("{what} has both `batch` and `body`"))
                    .at(text.key_span, "a body as text")
                    .also(batch.key_span, "a list of JSON")
            }
            None => Diagnostic::new(&codes::KEY_MISSING, format!("{what} has a `batch`, but no `json`"))
                .at(batch.key_span, "a list of what?"),
        };
        finding.help("the request of a batch is a list of what `json` gives for each record")
    } else {
        match (response, part, word) {
            (Response::Text, _, Some(word)) => {
                Diagnostic::new(&codes::KEY_CONFLICT, format!("{what} reads the answers of a batch as text"))
                    .at(word.node.span, "text holds no list")
                    .also(batch.key_span, "is answered by a list")
                    .help("`\"json\"` gives each record its answer, `\"none\"` reads none")
            }
            (Response::None, Some(part), Some(word)) => Diagnostic::new(
                &codes::KEY_CONFLICT,
                format!("`{}` says where to look in an answer that is not read", part.key),
            )
            .at(part.key_span, "never looked at")
            .also(word.node.span, "no answer is read"),
            _ => return true,
        }
    };
    table.report(finding);
    false
}
