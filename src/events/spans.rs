//! The span of a record on its way through a stage: when it begins, what it is told, and what of it
//! travels on. Where no spans are made, each of these is one question.

use super::inflight::EntryId;
use super::program::{Prepared, Target};
use super::runner::Runner;
use crate::base::Failure;
use crate::record::RawRecord;
use crate::telemetry::traces::{Source, TRACEPARENT, TRACESTATE, TraceContext};

/// Whether a header belongs to the trace context.
pub(super) fn is_trace_header(name: &str) -> bool {
    name == TRACEPARENT || name == TRACESTATE
}

impl Runner {
    /// A record is worked on: its span begins unless it has one.
    pub(super) fn begin_span(&mut self, id: EntryId, raw: &RawRecord<'_>) {
        let Some(tracer) = &self.program.tracer else { return };
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        entry.span.get_or_insert_with(|| {
            let traceparent = raw.headers.last(TRACEPARENT).flatten();
            let came = traceparent
                .and_then(|parent| TraceContext::read(parent, raw.headers.last(TRACESTATE).flatten()));
            let source = Source {
                topic: raw.topic,
                partition: raw.partition,
                offset: raw.offset,
                bytes: raw.value.map(<[u8]>::len),
            };
            Box::new(tracer.record(&source, came))
        });
    }

    /// What a record becomes.
    pub(super) fn comes_to(&mut self, id: EntryId, outcome: &'static str) {
        if let Some(span) = self.in_flight.get_mut(id).and_then(|entry| entry.span.as_mut()) {
            span.comes_to(outcome);
        }
    }

    /// A record failed for good, and what it becomes.
    pub(super) fn failed_for_good(&mut self, id: EntryId, outcome: &'static str, failure: &Failure) {
        if let Some(span) = self.in_flight.get_mut(id).and_then(|entry| entry.span.as_mut()) {
            span.failed(failure);
            span.comes_to(outcome);
        }
    }

    /// The context that what a record becomes carries in place of the one it came with; `None` where
    /// that travels on, or where the config itself writes one.
    pub(super) fn trace_headers(&self, id: EntryId, prepared: &Prepared) -> Option<(&str, Option<&str>)> {
        let span = self.in_flight.get(id)?.span.as_ref()?;
        let written = matches!(prepared.target, Target::Output(_)) && prepared.changes_header(TRACEPARENT);
        let (traceparent, tracestate) = span.headers();
        (!written).then(|| (traceparent, tracestate.filter(|_| !prepared.changes_header(TRACESTATE))))
    }
}
