//! Who makes spans: one tracer an engine, one handle a stage, and the parent that a step is given.

use std::fmt;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, TracerProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use super::export::{self, SpanExport};
use super::settings::{TraceError, TraceSettings};
use crate::telemetry::Telemetry;

/// Makes spans; cheap to clone.
#[derive(Clone)]
pub struct Tracer(SdkTracer);

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

impl Tracer {
    /// A tracer, and what carries its spans to the receiver, which the caller runs. `instance` is the
    /// engine's id.
    ///
    /// # Errors
    /// Where the exporter refuses what the environment says.
    pub fn open(
        settings: &TraceSettings,
        telemetry: &Telemetry,
        instance: &str,
    ) -> Result<(Self, SpanExport), TraceError> {
        let resource = resource(instance);
        let (queue, export) = export::open(settings, telemetry.traces().clone(), &resource)?;
        // The sampler is the one that the environment names; the SDK reads it here.
        let provider =
            SdkTracerProvider::builder().with_resource(resource).with_span_processor(queue).build();
        Ok((Self(provider.tracer("biplane")), export))
    }

    /// The handle of a stage, which reads as `group`.
    pub fn stage(&self, stage: &str, group: &str) -> StageTracer {
        let attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.consumer.group.name", group.to_owned()),
            KeyValue::new("biplane.stage", stage.to_owned()),
        ];
        StageTracer { tracer: self.0.clone(), attributes }
    }
}

/// Makes the spans of one stage's records.
pub struct StageTracer {
    pub(super) tracer: SdkTracer,
    /// What all of them have.
    pub(super) attributes: Vec<KeyValue>,
}

/// A span that others may be made under, also on another thread.
#[derive(Clone)]
pub struct Parent {
    pub(super) tracer: SdkTracer,
    pub(super) context: SpanContext,
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Parent").field(&self.context.span_id()).finish()
    }
}

/// Who sends: what the environment says comes before what is said here.
fn resource(instance: &str) -> Resource {
    let own = [
        ("service.name", "biplane"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", instance),
    ];
    let said = Resource::builder().build();
    let unknown = |value: &str| value.starts_with("unknown_service");
    let missing = own.into_iter().filter(|(key, _)| {
        said.get(&opentelemetry::Key::new(*key)).is_none_or(|value| unknown(&value.as_str()))
    });
    let own = missing.map(|(key, value)| KeyValue::new(key, value.to_owned()));
    Resource::builder().with_attributes(own).build()
}
