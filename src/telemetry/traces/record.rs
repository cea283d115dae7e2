//! The span of one record, from its first attempt to the last acknowledgement of what it became.
//! Names follow OpenTelemetry's conventions for messaging. Nothing of a record's key, value or headers
//! goes in; messages of failures do, as they do in the log.

use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::Span;

use super::context::{self, TraceContext};
use super::tracer::{Parent, StageTracer};
use crate::base::Failure;

/// Where a record lies, and how large its value is.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The physical name of its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The bytes of its value; `None`: a tombstone.
    pub bytes: Option<usize>,
}

/// A record's span. It ends when it is dropped; without an outcome its record was given up, and is done
/// again elsewhere or later.
pub struct RecordSpan {
    span: Span,
    parent: Parent,
    traceparent: String,
    tracestate: Option<String>,
    failed: bool,
    outcome: Option<&'static str>,
}

impl std::fmt::Debug for RecordSpan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RecordSpan").field(&self.traceparent).finish()
    }
}

impl StageTracer {
    /// Begins the span of a record under the context that it came with.
    pub fn record(&self, source: &Source<'_>, came: Option<TraceContext>) -> RecordSpan {
        let above = match came {
            Some(TraceContext(context)) => Context::new().with_remote_span_context(context),
            None => Context::new(),
        };
        let name = format!("process {}", source.topic);
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Consumer);
        let mut span = self.tracer.build_with_context(builder, &above);
        // A trace that is not sampled costs its ids and nothing more.
        if span.is_recording() {
            span.set_attributes(self.attributes.iter().cloned().chain(source.attributes()));
        }
        let context = span.span_context().clone();
        let (traceparent, tracestate) = context::written(&context);
        let parent = Parent { tracer: self.tracer.clone(), context };
        RecordSpan { span, parent, traceparent, tracestate, failed: false, outcome: None }
    }
}

impl Source<'_> {
    fn attributes(&self) -> impl Iterator<Item = KeyValue> {
        let size = match self.bytes {
            Some(bytes) => {
                KeyValue::new("messaging.message.body.size", i64::try_from(bytes).unwrap_or(i64::MAX))
            }
            None => KeyValue::new("messaging.kafka.message.tombstone", true),
        };
        [
            KeyValue::new("messaging.destination.name", self.topic.to_owned()),
            KeyValue::new("messaging.destination.partition.id", self.partition.to_string()),
            KeyValue::new("messaging.kafka.offset", self.offset),
            size,
        ]
        .into_iter()
    }
}

impl RecordSpan {
    /// The headers that make what the record becomes part of this span: `traceparent`, and `tracestate`
    /// where there is one.
    pub fn headers(&self) -> (&str, Option<&str>) {
        (&self.traceparent, self.tracestate.as_deref())
    }

    /// What spans of its steps are made under.
    pub fn parent(&self) -> Parent {
        self.parent.clone()
    }

    /// An attempt of the record, or of one of its steps, failed.
    pub fn attempt_failed(&mut self, failure: &Failure) {
        if !self.span.is_recording() {
            return;
        }
        let mut attributes = vec![
            KeyValue::new("error.type", failure.code.to_string()),
            KeyValue::new("biplane.error.class", failure.class.as_str()),
            KeyValue::new("biplane.error.message", failure.message.clone()),
        ];
        attributes.extend(failure.step.clone().map(|step| KeyValue::new("biplane.step", step)));
        self.span.add_event("attempt failed", attributes);
    }

    /// The record failed for good; of several reasons the first counts.
    pub fn failed(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.failed, true) && self.span.is_recording() {
            self.span.set_attribute(KeyValue::new("error.type", failure.code.to_string()));
            self.span.set_status(Status::error(failure.message.clone()));
        }
    }

    /// What becomes of the record, unless that was said before.
    pub fn comes_to(&mut self, outcome: &'static str) {
        self.outcome.get_or_insert(outcome);
    }

    /// How many attempts it took.
    pub fn took(&mut self, attempts: u32) {
        self.span.set_attribute(KeyValue::new("biplane.attempts", i64::from(attempts)));
    }
}

impl Drop for RecordSpan {
    fn drop(&mut self) {
        self.span.set_attribute(KeyValue::new("biplane.outcome", self.outcome.unwrap_or("given-up")));
    }
}
