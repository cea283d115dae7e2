//! What a stage makes of one record, without a broker: outputs, verdicts and failures.

use std::sync::Arc;

use super::dead_letters::DeadLetter;
use super::partitions::Cut;
use super::program::{Batch, Part, Program, Verdict};
use super::tests::{Scripted, stage, topic};
use crate::base::{Failure, Remedy};
use crate::catalog::{Dlq, DlqHeaders, Output, Stage, Tombstones, Unmatched};
use crate::expr::{Expression, RootSet, Template};
use crate::record::{HeaderChange, Item, JsonCodec, RawRecord};
use crate::steps::{Flow, OpenError, Ports, ReadyStep, Runnable, StepBody, StepContext, StepPlan};

fn expression(text: &str) -> Expression {
    Expression::compile(text, RootSet::RECORD).unwrap()
}

/// A stage without steps and with these outputs: what each takes, and what makes its key.
fn forwarding(outputs: &[(Option<&str>, Option<&str>)]) -> Stage {
    let mut stage = stage(&Scripted { script: |_, _| Ok(()), calls: Arc::default() });
    stage.steps.clear();
    stage.tombstones = Tombstones::Forward;
    stage.outputs = outputs
        .iter()
        .map(|(when, key)| Output {
            topic: topic("out"),
            when: when.map(expression),
            key: key.map(expression),
            headers: Vec::new(),
            codec: Arc::new(JsonCodec),
        })
        .collect();
    stage
}

fn run(stage: Stage, value: Option<&[u8]>) -> Result<(Verdict, Batch), Failure> {
    let program = Program::open(Arc::new(stage), "g", &Ports::default()).unwrap();
    let raw = RawRecord {
        topic: "in",
        partition: 0,
        offset: 7,
        timestamp: None,
        log_append: false,
        key: Some(b"k"),
        value,
        headers: &(),
    };
    let mut batch = Batch::default();
    program.prepare_now(raw, 1, &mut batch).map(|verdict| (verdict, batch))
}

#[test]
fn a_tombstone_that_no_output_takes_follows_unmatched() {
    let mut stage = forwarding(&[(Some("value.kind == 'a'"), None)]);
    assert_eq!(run(stage, None).unwrap_err().code, "unmatched");
    stage = forwarding(&[(Some("value.kind == 'a'"), None)]);
    stage.unmatched = Unmatched::Drop;
    let (verdict, batch) = run(stage, None).unwrap();
    assert_eq!((verdict, batch.outputs.len(), batch.untaken), (Verdict::Unmatched, 0, 1));
    assert_eq!(run(forwarding(&[]), None).unwrap().0, Verdict::Send);
}

#[test]
fn a_tombstone_goes_out_under_the_key_of_the_records_it_stands_for() {
    let (verdict, batch) = run(forwarding(&[(Some("true"), None), (None, Some("key ~ '!'"))]), None).unwrap();
    assert_eq!((verdict, batch.outputs.len()), (Verdict::Send, 1));
    assert_eq!(batch.outputs[0].value, Part::Null);
    assert_eq!(batch.part(&batch.outputs[0].key, Some(b"k")), Some(&b"k!"[..]));
    let failure = run(forwarding(&[(None, Some("value.customer"))]), None).unwrap_err();
    assert_eq!(failure.code, "tombstone");
    assert!(failure.message.contains("made of the value"), "{failure}");
}

#[test]
fn a_tombstone_carries_the_headers_that_need_no_value() {
    let mut stage = forwarding(&[(None, None)]);
    let template = |text: &str| Template::compile(text, RootSet::RECORD).unwrap();
    stage.outputs[0].headers =
        vec![(Arc::from("from"), template("{{ topic }}")), (Arc::from("kind"), template("{{ value.kind }}"))];
    let (_, batch) = run(stage, None).unwrap();
    let names: Vec<_> = batch.outputs[0]
        .headers
        .iter()
        .map(|change| match change {
            HeaderChange::Set(name, _) | HeaderChange::Remove(name) => &**name,
        })
        .collect();
    assert_eq!(names, ["from"]);
}

/// Makes 2,000 parts of a record.
#[derive(Debug)]
struct Parts;

impl StepBody for Parts {
    fn kind(&self) -> &'static str {
        "parts"
    }

    fn reads(&self) -> RootSet {
        RootSet::EMPTY
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(Self)))
    }
}

impl ReadyStep for Parts {
    fn run<'r>(&self, item: &mut Item<'r>, _: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        Ok(Flow::Many((0..2_000).map(|number| item.with_value(number.into())).collect()))
    }
}

#[test]
fn outputs_of_one_record_are_bounded_with_the_keys_and_headers_that_they_repeat() {
    let with_header = |text: &str| {
        let mut stage = forwarding(&[(None, None)]);
        let body: Arc<dyn StepBody> = Arc::new(Parts);
        let name = Arc::from("parts");
        stage.steps = vec![StepPlan { name, kind: "parts", when: None, timeout: None, retry: None, body }];
        stage.outputs[0].headers = vec![(Arc::from("h"), Template::compile(text, RootSet::RECORD).unwrap())];
        stage
    };
    assert_eq!(run(with_header("x"), Some(b"1")).unwrap().1.outputs.len(), 2_000);
    let failure = run(with_header(&"x".repeat(40_000)), Some(b"1")).unwrap_err();
    assert_eq!(failure.code, "explode-too-large");
}

#[test]
fn parts_that_no_output_takes_are_counted_beside_those_that_one_takes() {
    let parts = |unmatched| {
        let mut stage = forwarding(&[(Some("value < 500"), None)]);
        let body: Arc<dyn StepBody> = Arc::new(Parts);
        let name = Arc::from("parts");
        stage.steps = vec![StepPlan { name, kind: "parts", when: None, timeout: None, retry: None, body }];
        stage.unmatched = unmatched;
        run(stage, Some(b"1"))
    };
    let (verdict, batch) = parts(Unmatched::Drop).unwrap();
    assert_eq!((verdict, batch.outputs.len(), batch.untaken), (Verdict::Send, 500, 1_500));
    assert_eq!(parts(Unmatched::DeadLetter).unwrap_err().remedy, Remedy::DeadLetter);
}

#[test]
fn a_dead_letter_carries_the_names_that_other_tools_read() {
    let mut stage = forwarding(&[]);
    let headers = vec![DlqHeaders::Biplane, DlqHeaders::Connect, DlqHeaders::Streams, DlqHeaders::Spring];
    stage.dlq = stage.dlq.map(|dlq| {
        Arc::new(Dlq {
            name: Arc::clone(&dlq.name),
            about: dlq.about.clone(),
            topic: Arc::clone(&dlq.topic),
            headers,
        })
    });
    let program = Program::open(Arc::new(stage), "g", &Ports::default()).unwrap().read_by("ns.s");
    let raw = RawRecord {
        topic: "in",
        partition: 2,
        offset: 7,
        timestamp: Some(5),
        log_append: true,
        key: None,
        value: None,
        headers: &(),
    };
    let failure = Failure::permanent("schema", "no number").in_step("validate");
    let mut batch = Batch::default();
    DeadLetter { raw, failure: &failure, attempts: 1, first_failed_at: 0, failed_at: 0, cut: Cut::Nothing }
        .prepare(&program, &mut batch);
    let text = |wanted: &str| {
        let set = batch.outputs[0].headers.iter().find_map(|change| match change {
            HeaderChange::Set(name, value) if &**name == wanted => value.clone(),
            _ => None,
        });
        String::from_utf8(set.unwrap_or_default()).unwrap()
    };
    let trace = "schema: no number\n\tat ns.s/validate";
    for (name, expected) in [
        ("__connect.errors.exception.stacktrace", trace),
        ("__streams.errors.stacktrace", trace),
        ("kafka_dlt-exception-stacktrace", trace),
        ("kafka_dlt-original-consumer-group", "ns.s"),
        ("kafka_dlt-original-timestamp-type", "LogAppendTime"),
        ("kafka_dlt-original-offset", "\0\0\0\0\0\0\0\u{7}"),
    ] {
        assert_eq!(text(name), expected, "{name}");
    }
}
