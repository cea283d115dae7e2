//! Traces on a real Kafka and a real receiver: spans hang together across topics, requests and dead
//! letters, and where none are exported the context that a record came with travels on as it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use parking_lot::Mutex;
use serde_json::json;

use crate::support::otlp::{Otlp, Span};
use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, ConfigRoot, Engine, Message, tls, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

/// `ask` waits for another system, `pass` never waits, `mark` writes a context of its own.
const PIPELINE: &str = r#"
[topics.input]
topic = "NAME.input"
[topics.middle]
topic = "NAME.middle"
[topics.output]
topic = "NAME.output"
[topics.marked]
topic = "NAME.marked"
[dlqs.dead]
topic = "NAME.dead"

[http_clients.stub]
base_url = "URL"

[retries.once]
max_attempts = 2
delays = ["10ms"]

[stages.ask]
from  = "input"
to    = "middle"
dlq   = "dead"
retry = "once"
[[stages.ask.steps]]
name        = "ask"
http.client = "stub"
http.path   = "/items/{{ value.number }}"
http.query  = { q = "hidden" }
[[stages.ask.steps]]
when = "value.bad"
fail = { code = "bad", message = "it is bad", class = "transient" }

[stages.pass]
from = "middle"
to   = "output"
dlq  = "dead"
[[stages.pass.steps]]
filter = "not value.filtered"

[stages.mark]
from = "input"
to   = "marked"
dlq  = "dead"
[[stages.mark.steps]]
set.headers.traceparent = "mine"
"#;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ABOVE: &str = "00f067aa0ba902b7";

/// What the other system was asked with, by path.
type Requests = Arc<Mutex<Vec<(String, BTreeMap<String, String>)>>>;

struct Scene {
    name: String,
    cluster: Cluster,
    root: ConfigRoot,
    requests: Requests,
}

impl Scene {
    fn new(pipeline: &str, topics: &[&str]) -> Self {
        let (name, cluster, requests) = (unique("traces"), Cluster::shared(), Requests::default());
        let asked = Arc::clone(&requests);
        let stub = Stub::start_with_headers(move |path, headers, stream| {
            asked.lock().push((path.to_owned(), headers.clone()));
            reply(stream, "200 OK", "[1, 2, 3, 4]");
        });
        let pipeline = pipeline.replace("NAME", &name).replace("URL", &stub.url());
        let root = ConfigRoot::new(&[("pipelines/a.toml", &pipeline)]);
        topics.iter().for_each(|topic| cluster.create_topic(&format!("{name}.{topic}"), 1, &[]));
        Self { name, cluster, root, requests }
    }

    fn chain() -> Self {
        Self::new(PIPELINE, &["input", "middle", "output", "marked", "dead"])
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    fn start(&self, variables: &[(&str, &str)]) -> Engine {
        let own = [("BIPLANE_NAMESPACE", &*self.name), ("BIPLANE_ENGINE_ID", "one")];
        Engine::start(&self.root, self.cluster.brokers(), &[&own[..], variables].concat())
    }

    /// The only record of a topic.
    fn one(&self, topic: &str) -> Message {
        let mut all = self.cluster.wait_for_records(&self.topic(topic), 1, DEADLINE);
        assert_eq!(all.len(), 1, "{topic}");
        all.remove(0)
    }

    /// The headers of the requests for `path`, whatever their query.
    fn asked(&self, path: &str) -> Vec<BTreeMap<String, String>> {
        let requests = self.requests.lock();
        let of = requests.iter().filter(|(asked, _)| asked.split('?').next() == Some(path));
        of.map(|(_, headers)| headers.clone()).collect()
    }
}

fn record(number: u32, more: serde_json::Value) -> Message {
    let mut value = json!({ "number": number, "bad": false, "filtered": false });
    value.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    Message::json(format!("key-{number}"), &value)
}

fn traceparent(span: &Span) -> String {
    format!("00-{}-{}-01", span.trace, span.id)
}

fn exporting(receiver: &Otlp) -> Vec<(&'static str, String)> {
    vec![("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url()), ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned())]
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[test]
fn a_trace_goes_through_stages_requests_and_outputs_and_arrives_at_the_receiver() {
    let (scene, receiver) = (Scene::chain(), Otlp::start());
    let mut variables = exporting(&receiver);
    variables.push(("OTEL_EXPORTER_OTLP_HEADERS", "api-key=k%201".to_owned()));
    variables.push(("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test".to_owned()));
    let sent = record(1, json!({}))
        .header("traceparent", format!("00-{TRACE}-{ABOVE}-01"))
        .header("tracestate", "vendor=1")
        .header("kept", "yes");
    scene.cluster.produce(&scene.topic("input"), &[sent]);
    let mut engine = scene.start(&borrowed(&variables));

    let spans = receiver.wait(4, |span| span.trace == TRACE);
    let of = |stage: &str| {
        let mut found =
            spans.iter().filter(|span| span.attributes.get("biplane.stage").is_some_and(|it| it == stage));
        found.next().unwrap_or_else(|| panic!("no span of {stage}: {spans:#?}"))
    };
    let (ask, pass, mark) = (of("ask"), of("pass"), of("mark"));
    let request = spans.iter().find(|span| span.kind == SpanKind::Client).expect("a request");
    assert_eq!((&*ask.parent, &*mark.parent), (ABOVE, ABOVE));
    assert_eq!((&request.parent, &pass.parent), (&ask.id, &ask.id));
    assert!(spans.iter().all(|span| span.state == "vendor=1" && !span.failed), "{spans:#?}");
    assert_eq!((&*ask.name, ask.kind), (&*format!("process {}", scene.topic("input")), SpanKind::Consumer));
    for (name, value) in [
        ("messaging.system", "kafka"),
        ("messaging.operation.type", "process"),
        ("messaging.operation.name", "process"),
        ("messaging.destination.name", &*scene.topic("input")),
        ("messaging.destination.partition.id", "0"),
        ("messaging.kafka.offset", "0"),
        ("messaging.consumer.group.name", &*format!("{}.ask", scene.name)),
        ("biplane.outcome", "sent"),
        ("biplane.attempts", "1"),
    ] {
        assert_eq!(ask.attributes.get(name).map(String::as_str), Some(value), "{name}: {ask:#?}");
    }
    assert_eq!((request.name.as_str(), &*request.attributes["http.response.status_code"]), ("GET", "200"));
    let url = &request.attributes["url.full"];
    assert!(url.ends_with("/items/1"), "no query, which may hold secrets: {url}");
    assert!(ask.nanoseconds >= request.nanoseconds, "a record's span holds those of its steps");
    for span in &spans {
        let said = |name: &str| span.resource.get(name).map(String::as_str);
        assert_eq!((said("service.name"), said("service.instance.id")), (Some("biplane"), Some("one")));
        assert_eq!((said("deployment.environment.name"), &*span.key), (Some("test"), "k 1"));
    }

    let asked = scene.asked("/items/1");
    assert_eq!(asked.len(), 1);
    assert_eq!((&*asked[0]["traceparent"], &*asked[0]["tracestate"]), (&*traceparent(request), "vendor=1"));
    for (topic, span) in [("middle", ask), ("output", pass)] {
        let record = scene.one(topic);
        let named: Vec<_> = record.headers.iter().filter(|(name, _)| name.starts_with("trace")).collect();
        assert_eq!(named.len(), 2, "{named:?}");
        assert_eq!(record.header_text("traceparent"), Some(&*traceparent(span)), "{topic}");
        assert_eq!(
            (record.header_text("tracestate"), record.header_text("kept")),
            (Some("vendor=1"), Some("yes"))
        );
    }
    let marked = scene.one("marked");
    assert_eq!(marked.header_text("traceparent"), Some("mine"), "what the config writes stands");
    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
}

#[test]
fn a_dead_letter_carries_its_failed_span_and_its_replay_goes_on_under_it() {
    let (scene, receiver) = (Scene::chain(), Otlp::start());
    let variables = exporting(&receiver);
    let sent = record(2, json!({ "bad": true })).header("traceparent", format!("00-{TRACE}-{ABOVE}-01"));
    scene.cluster.produce(&scene.topic("input"), &[sent]);
    let _engine = scene.start(&borrowed(&variables));

    let is = |span: &Span| span.failed && span.kind == SpanKind::Consumer;
    let first = receiver.wait(1, is).remove(0);
    assert_eq!((&*first.trace, &*first.parent, &*first.message), (TRACE, ABOVE, "it is bad"));
    assert_eq!(
        (&*first.attributes["error.type"], &*first.attributes["biplane.outcome"]),
        ("bad", "dead-lettered")
    );
    assert_eq!((&*first.attributes["biplane.attempts"], first.events.len()), ("2", 2), "{first:#?}");
    assert_eq!(first.events[0]["error.type"], "bad");
    let requests = receiver.wait(2, |span| span.kind == SpanKind::Client);
    assert!(requests.iter().all(|request| request.parent == first.id), "one for each attempt: {requests:#?}");
    let letter = scene.one("dead");
    assert_eq!(letter.header_text("traceparent"), Some(&*traceparent(&first)));

    let variables = [("BIPLANE_KAFKA_BROKERS", scene.cluster.brokers()), ("BIPLANE_NAMESPACE", &*scene.name)];
    let replay =
        Engine::command(scene.root.path(), &["replays", "start", "--yes", "--dlq", "dead"], &variables);
    assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stderr));
    let again = receiver.wait(2, is).remove(1);
    assert_eq!((&again.trace, &again.parent), (&first.trace, &first.id));
    let letters = scene.cluster.wait_for_records(&scene.topic("dead"), 2, DEADLINE);
    assert_eq!(letters[1].header_text("traceparent"), Some(&*traceparent(&again)));
}

#[test]
fn what_is_not_sampled_travels_on_without_spans_and_what_is_not_valid_begins_a_trace() {
    let (scene, receiver) = (Scene::chain(), Otlp::start());
    let variables = exporting(&receiver);
    let parents = [format!("00-{TRACE}-{ABOVE}-00"), format!("00-{TRACE}-{ABOVE}-1"), String::new()];
    let records: Vec<_> = parents
        .iter()
        .zip(3..)
        .map(|(parent, number)| {
            record(number, json!({ "filtered": number == 5 })).header("traceparent", parent)
        })
        .collect();
    scene.cluster.produce(&scene.topic("input"), &records);
    let _engine = scene.start(&borrowed(&variables));

    let of = |stage: &'static str| {
        move |span: &Span| span.attributes.get("biplane.stage").is_some_and(|it| it == stage)
    };
    let spans = receiver.wait(2, of("ask"));
    assert!(spans.iter().all(|span| span.trace != TRACE && span.parent.is_empty()), "{spans:#?}");
    assert_ne!(spans[0].trace, spans[1].trace);
    let written = scene.cluster.wait_for_records(&scene.topic("middle"), 3, DEADLINE);
    let contexts: BTreeMap<_, _> = written
        .iter()
        .map(|message| (message.key_text(), message.header_text("traceparent").expect("a context")))
        .collect();
    let unsampled = contexts["key-3"];
    assert!(unsampled.starts_with(&format!("00-{TRACE}-")) && unsampled.ends_with("-00"), "{unsampled}");
    assert!(!unsampled.contains(ABOVE), "it is of the stage's own span: {unsampled}");
    assert_eq!(scene.asked("/items/3")[0]["traceparent"][..35], unsampled[..35]);
    for number in [4, 5] {
        let context = contexts[&*format!("key-{number}")];
        assert!(spans.iter().any(|span| traceparent(span) == context), "{context}: {spans:#?}");
    }
    let passed = receiver.wait(2, of("pass"));
    let mut outcomes: Vec<_> = passed.iter().map(|span| &*span.attributes["biplane.outcome"]).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["filtered", "sent"]);
    assert!(receiver.spans().iter().all(|span| span.trace != TRACE));
}

#[test]
fn without_a_receiver_the_context_travels_on_as_it_came() {
    let scene = Scene::chain();
    let (valid, invalid) = (format!("00-{TRACE}-{ABOVE}-01"), format!("00-{TRACE}-{ABOVE}"));
    let with = |number, parent: &str| {
        let bad = json!({ "bad": number == 7 });
        record(number, bad).header("traceparent", parent).header("tracestate", "vendor=1")
    };
    let records = [with(6, &valid), with(7, &valid), with(8, &invalid)];
    scene.cluster.produce(&scene.topic("input"), &records);
    // Named, and switched off.
    let engine =
        scene.start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_SDK_DISABLED", "true")]);

    let written = scene.cluster.wait_for_records(&scene.topic("output"), 2, DEADLINE);
    let context = |message: &Message| {
        let text = |name| message.header_text(name).map(str::to_owned);
        (message.key_text().to_owned(), text("traceparent"), text("tracestate"))
    };
    let state = || Some("vendor=1".to_owned());
    let mut contexts: Vec<_> = written.iter().map(context).collect();
    contexts.sort();
    assert_eq!(
        contexts,
        [("key-6".to_owned(), Some(valid.clone()), state()), ("key-8".to_owned(), Some(invalid), state())]
    );
    assert_eq!(context(&scene.one("dead")), ("key-7".to_owned(), Some(valid.clone()), state()));
    let asked = scene.asked("/items/6");
    assert_eq!((&*asked[0]["traceparent"], &*asked[0]["tracestate"]), (&*valid, "vendor=1"));
    let asked = scene.asked("/items/8");
    assert!(!asked[0].contains_key("traceparent") && !asked[0].contains_key("tracestate"), "{asked:?}");
    assert_eq!(engine.metric("biplane_spans_dropped_total", &[]), 0.0, "nobody made any");
}

const TOGETHER: &str = r#"
[topics.input]
topic = "NAME.input"
[topics.output]
topic = "NAME.output"
[dlqs.dead]
topic = "NAME.dead"

[stages.score]
from        = "input"
to          = "output"
dlq         = "dead"
concurrency = 8
[[stages.score.steps]]
http.url   = "URL/score"
http.json  = "{{ value.number }}"
http.batch = { records = 4, bytes = "1MiB", linger = "20s" }
"#;

#[test]
fn a_request_that_records_share_hangs_under_one_of_them_and_is_linked_to_the_others() {
    let (scene, receiver) = (Scene::new(TOGETHER, &["input", "output", "dead"]), Otlp::start());
    let variables = exporting(&receiver);
    let record =
        |number: u32| record(number, json!({})).header("traceparent", format!("00-{TRACE}-{ABOVE}-01"));
    scene.cluster.produce(&scene.topic("input"), &(0..4).map(record).collect::<Vec<_>>());
    let _engine = scene.start(&borrowed(&variables));

    let mut records: Vec<_> =
        receiver.wait(4, |span| span.kind == SpanKind::Consumer).into_iter().map(|span| span.id).collect();
    let request = receiver.wait(1, |span| span.kind == SpanKind::Client).remove(0);
    let mut named = request.links.clone();
    assert!(!named.contains(&request.parent), "{request:#?}");
    named.push(request.parent.clone());
    named.sort_unstable();
    records.sort_unstable();
    assert_eq!(named, records);
    let asked = scene.asked("/score");
    assert_eq!(asked.len(), 1, "the context parts no batch");
    assert_eq!(asked[0]["traceparent"], traceparent(&request));
}

#[test]
fn a_variable_that_cannot_be_followed_is_a_usage_error_before_anything_starts() {
    let root = ConfigRoot::example("unused.");
    let run = |variables: &[(&str, &str)]| {
        let brokers = [("BIPLANE_KAFKA_BROKERS", "127.0.0.1:1")];
        let output = Engine::command(root.path(), &["run"], &[&brokers[..], variables].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("OTEL_EXPORTER_OTLP_ENDPOINT is `collector:4318`: write a whole URL"), "{text}");
}

#[test]
fn spans_are_packed_where_that_is_asked_for() {
    let (scene, receiver) = (Scene::chain(), Otlp::start());
    let mut variables = exporting(&receiver);
    variables.push(("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip".to_owned()));
    let _engine = scene.start(&borrowed(&variables));
    scene.cluster.produce(&scene.topic("input"), &[record(9, json!({}))]);
    receiver.wait(4, |_| true);
    assert!(receiver.packed() > 0);
}

#[test]
fn the_last_spans_are_sent_when_the_engine_ends() {
    let (scene, receiver) = (Scene::chain(), Otlp::start());
    let endpoint = receiver.url();
    scene.cluster.produce(&scene.topic("input"), &[record(9, json!({}))]);
    // They would wait for ten minutes.
    let mut engine =
        scene.start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "600000")]);
    scene.one("output");
    wait_until("all is finished", DEADLINE, || engine.metric("biplane_stage_in_flight_records", &[]) == 0.0);
    assert!(receiver.spans().is_empty());
    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
    assert_eq!(receiver.wait(4, |_| true).len(), 4, "three stages and a request");
    assert_eq!(receiver.packed(), 0);
}

/// The certificates of the system say who is trusted: here a file that the environment names.
#[test]
fn a_receiver_over_tls_is_trusted_where_an_authority_of_the_system_vouches_for_it() {
    let (scene, receiver) = (Scene::chain(), Otlp::start());
    let endpoint = receiver.secured();
    let start = |authority: std::path::PathBuf| {
        let file = authority.display().to_string();
        scene.start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("SSL_CERT_FILE", &file),
        ])
    };
    scene.cluster.produce(&scene.topic("input"), &[record(1, json!({}))]);
    let mut engine = start(tls::other_authority());
    scene.one("output");
    let dropped = || engine.metric("biplane_spans_dropped_total", &["not-taken"]) >= 4.0;
    wait_until("its spans are dropped", DEADLINE, dropped);
    let log = engine.log();
    assert!(log.contains("spans are not exported") && log.contains("UnknownIssuer"), "{log}");
    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
    assert!(receiver.spans().is_empty());

    let _engine = start(tls::authority());
    scene.cluster.produce(&scene.topic("input"), &[record(2, json!({}))]);
    receiver.wait(4, |_| true);
}
