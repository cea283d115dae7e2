//! The span of one request that a step sends, named by OpenTelemetry's conventions for HTTP clients.
//! A URL goes in without its query, which may hold secrets.

use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::Span;

use super::context;
use super::tracer::Parent;

/// What a request asks.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its URL without credentials, query and fragment.
    pub url: &'a str,
    /// Whom it is sent to.
    pub host: &'a str,
    /// The port there.
    pub port: Option<u16>,
}

/// A request's span; it ends when it is dropped.
pub struct RequestSpan {
    span: Span,
    failed: bool,
}

impl Parent {
    /// What is done elsewhere because of this span is told by this `traceparent`.
    pub fn traceparent(&self) -> String {
        context::written(&self.context).0
    }

    /// Begins the span of a request under this one; `others` are the parents of records that share it.
    pub fn request(&self, asked: &Asked<'_>, others: &[Self]) -> RequestSpan {
        let above = Context::new().with_remote_span_context(self.context.clone());
        let builder = SpanBuilder::from_name(asked.method.to_owned()).with_kind(SpanKind::Client);
        let mut span = self.tracer.build_with_context(builder, &above);
        if span.is_recording() {
            let attributes = [
                KeyValue::new("http.request.method", asked.method.to_owned()),
                KeyValue::new("url.full", asked.url.to_owned()),
                KeyValue::new("server.address", asked.host.to_owned()),
            ];
            span.set_attributes(attributes);
            span.set_attributes(asked.port.map(|port| KeyValue::new("server.port", i64::from(port))));
            others.iter().for_each(|other| span.add_link(other.context.clone(), Vec::new()));
        }
        RequestSpan { span, failed: false }
    }
}

impl RequestSpan {
    /// The headers to send: `traceparent`, and `tracestate` where there is one.
    pub fn headers(&self) -> (String, Option<String>) {
        context::written(self.span.span_context())
    }

    /// The other side answered with `status`.
    pub fn answered(&mut self, status: u16) {
        self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 400 {
            self.failed(&status.to_string());
        }
    }

    /// The request came to nothing; of several reasons the first counts.
    pub fn failed(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.failed, true) {
            self.span.set_attribute(KeyValue::new("error.type", reason.to_owned()));
            self.span.set_status(Status::error(""));
        }
    }
}
