//! The trace context of a request: that of its own span where spans are made, else the record's as it
//! came. A `traceparent` that the step itself writes stands.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Request, Url};

use crate::expr::{Found, Root, Scope};
use crate::telemetry::traces::{Asked, Parent, RequestSpan, TRACEPARENT, TRACESTATE, is_traceparent};

/// Begins the request's span under the first of `parents` and puts its context into the headers.
pub(super) fn begin(request: &mut Request, parents: &[Parent]) -> Option<RequestSpan> {
    let (parent, others) = parents.split_first()?;
    let url = request.url();
    let shown = without_secrets(url);
    let asked = Asked {
        method: request.method().as_str(),
        url: shown.as_str(),
        host: url.host_str().unwrap_or_default(),
        port: url.port_or_known_default(),
    };
    let span = parent.request(&asked, others);
    let (traceparent, tracestate) = span.headers();
    write(request.headers_mut(), &traceparent, tracestate.as_deref());
    Some(span)
}

/// Passes the context on that the record came with, or was given by a step, where it is a valid one.
pub(super) fn pass_on(scope: &dyn Scope, headers: &mut HeaderMap) {
    let text = |name| match scope.named(Root::Headers, name) {
        Ok(Some(Found::Text(text))) => Some(text),
        _ => None,
    };
    if let Some(traceparent) = text(TRACEPARENT).filter(|text| is_traceparent(text.as_bytes())) {
        write(headers, traceparent, text(TRACESTATE));
    }
}

fn write(headers: &mut HeaderMap, traceparent: &str, tracestate: Option<&str>) {
    if headers.contains_key(TRACEPARENT) {
        return;
    }
    let mut insert = |name, text: &str| {
        // What no HTTP header can hold is no state.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    insert(TRACEPARENT, traceparent);
    tracestate.iter().for_each(|state| insert(TRACESTATE, state));
}

fn without_secrets(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Neither can fail where the URL has a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}
