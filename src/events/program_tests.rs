//! What a stage makes of one record, without a broker: outputs, verdicts and failures.

use std::sync::Arc;

use super::program::{Batch, Part, Program, Verdict};
use super::tests::{Scripted, stage, topic};
use crate::base::Failure;
use crate::catalog::{Output, Stage, Tombstones, Unmatched};
use crate::expr::{Expression, RootSet, Template};
use crate::record::{HeaderChange, JsonCodec, RawRecord};
use crate::steps::Ports;

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
    assert_eq!((verdict, batch.outputs.len()), (Verdict::Unmatched, 0));
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
