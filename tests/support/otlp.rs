//! A receiver of traces over OTLP/HTTP on the loopback: it decodes what it is sent and keeps it.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span as Sent, span::SpanKind};
use parking_lot::Mutex;
use prost::Message as _;

/// One span as it arrived; ids are hexadecimal, attributes texts.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub kind: SpanKind,
    pub trace: String,
    pub id: String,
    /// Empty where it has none.
    pub parent: String,
    pub state: String,
    pub attributes: BTreeMap<String, String>,
    pub events: Vec<BTreeMap<String, String>>,
    /// The ids of the spans that it is linked to.
    pub links: Vec<String>,
    /// Whether its status is an error.
    pub failed: bool,
    pub message: String,
    /// What the sender says of itself.
    pub resource: BTreeMap<String, String>,
    /// The `api-key` of its request.
    pub key: String,
    pub nanoseconds: u64,
}

#[derive(Default)]
struct State {
    spans: Mutex<Vec<Span>>,
    /// How many requests were compressed.
    packed: AtomicUsize,
    down: AtomicBool,
}

/// The running receiver; it ends with the test process.
pub struct Otlp {
    address: String,
    state: Arc<State>,
}

impl Otlp {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        listener.set_nonblocking(true).expect("for the runtime");
        let state = Arc::new(State::default());
        let kept = Arc::clone(&state);
        let take = move |headers: HeaderMap, body: Bytes| {
            let kept = Arc::clone(&kept);
            async move { kept.take(&headers, body) }
        };
        let routes = Router::new().route("/v1/traces", post(take));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(listener, routes).await.expect("it serves");
            });
        });
        Self { address, state }
    }

    /// From now on it refuses everything, as it does while it is overloaded, or takes it again.
    pub fn is_down(&self, down: bool) {
        self.state.down.store(down, Ordering::Release);
    }

    /// Where it listens, as the environment names it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it is reached over TLS.
    pub fn secured(&self) -> String {
        format!("https://{}", super::tls::before(&self.address))
    }

    /// All that arrived so far.
    pub fn spans(&self) -> Vec<Span> {
        self.state.spans.lock().clone()
    }

    /// How many requests came compressed.
    pub fn packed(&self) -> usize {
        self.state.packed.load(Ordering::Acquire)
    }

    /// Waits until these many spans arrived that `wanted` says yes to, and returns them.
    pub fn wait(&self, count: usize, wanted: impl Fn(&Span) -> bool) -> Vec<Span> {
        super::wait_for("spans arrive", Duration::from_secs(60), || {
            let found: Vec<_> = self.spans().into_iter().filter(&wanted).collect();
            (found.len() >= count).then_some(found)
        })
    }
}

impl State {
    fn take(&self, headers: &HeaderMap, body: Bytes) -> StatusCode {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!(text("content-type"), "application/x-protobuf");
        if self.down.load(Ordering::Acquire) {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let body = match text("content-encoding") {
            "gzip" => {
                self.packed.fetch_add(1, Ordering::AcqRel);
                let mut whole = Vec::new();
                flate2::read::GzDecoder::new(&*body).read_to_end(&mut whole).expect("gzip");
                Bytes::from(whole)
            }
            other => {
                assert_eq!(other, "");
                body
            }
        };
        let request = ExportTraceServiceRequest::decode(body).expect("an export request");
        for group in request.resource_spans {
            let resource = texts(&group.resource.expect("a resource").attributes);
            for sent in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans.lock().push(read(sent, &resource, text("api-key")));
            }
        }
        StatusCode::OK
    }
}

fn read(sent: Sent, resource: &BTreeMap<String, String>, key: &str) -> Span {
    let status = sent.status.clone().unwrap_or_default();
    Span {
        kind: sent.kind(),
        trace: hex(&sent.trace_id),
        id: hex(&sent.span_id),
        parent: hex(&sent.parent_span_id),
        state: sent.trace_state,
        attributes: texts(&sent.attributes),
        events: sent.events.iter().map(|event| texts(&event.attributes)).collect(),
        links: sent.links.iter().map(|link| hex(&link.span_id)).collect(),
        failed: status.code == 2,
        message: status.message,
        resource: resource.clone(),
        key: key.to_owned(),
        nanoseconds: sent.end_time_unix_nano - sent.start_time_unix_nano,
        name: sent.name,
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(is) => is.to_string(),
        other => panic!("no attribute is {other:?}"),
    };
    let each = attributes.iter().filter_map(|attribute| {
        Some((attribute.key.clone(), text(attribute.value.as_ref()?.value.as_ref()?)))
    });
    let all: Vec<_> = each.collect();
    let map: BTreeMap<_, _> = all.iter().cloned().collect();
    assert_eq!(map.len(), all.len(), "no attribute twice: {all:?}");
    map
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
