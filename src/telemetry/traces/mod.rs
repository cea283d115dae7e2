//! Traces: one span a record, one a request that its steps send, exported over OTLP where the
//! environment names a receiver.
//!
//! Off, there is no [`Tracer`] and nothing of this runs. On, whoever makes spans never waits: a span
//! that ends goes into a bounded queue or is counted as dropped. The only module that names
//! `opentelemetry`.

mod context;
mod export;
mod receiver;
mod record;
mod request;
mod settings;
mod tracer;

pub use context::{TRACEPARENT, TRACESTATE, TraceContext, is_traceparent};
pub use export::SpanExport;
pub use record::{RecordSpan, Source};
pub use request::{Asked, RequestSpan};
pub use settings::{TraceError, TraceSettings};
pub use tracer::{Parent, StageTracer, Tracer};
