//! The graph of stages and topics: circles, schemas that disagree, inputs that nothing feeds.

use std::collections::{HashMap, HashSet};

use super::scene::Scene;
use super::stages::WrittenStage;
use super::steps::schema_behind;
use crate::diag::{Diagnostic, Span, codes, words};

/// Judges the graph.
pub(super) fn check(scene: &Scene<'_>, stages: &[WrittenStage<'_>]) {
    check_cycles(scene, stages);
    check_schemas(scene, stages);
    check_unfed(scene, stages);
}

fn reads<'a>(stage: &'a WrittenStage<'_>) -> impl Iterator<Item = (&'a str, Span)> {
    stage.spec.from.iter().flatten().map(|name| (name.value.as_str(), name.span))
}

fn writes<'a>(stage: &'a WrittenStage<'_>) -> impl Iterator<Item = (&'a str, Span)> {
    let outputs = stage.spec.outputs.iter().flatten();
    outputs.filter_map(|output| output.to.as_ref()).map(|name| (name.value.as_str(), name.span))
}

/// One way of a record from a stage to another.
#[derive(Clone, Copy)]
struct Edge<'a> {
    to: usize,
    /// Where the stage names the topic, or its DLQ.
    place: Span,
    /// The DLQ, where that is the way.
    dlq: Option<&'a str>,
}

/// Reports each circle once. `max_hops` of a stage is counted by its outputs, so it ends every circle that
/// leaves the stage by one; a dead letter is not counted.
fn check_cycles(scene: &Scene<'_>, stages: &[WrittenStage<'_>]) {
    // What a topic is called on the broker tells where a DLQ is read.
    let physical = |topic: &str| scene.topics.get(topic).map(|topic| topic.physical.to_string());
    let mut readers: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, stage) in stages.iter().enumerate() {
        for (topic, _) in reads(stage) {
            readers.entry(physical(topic).unwrap_or_else(|| topic.to_owned())).or_default().push(index);
        }
    }
    let next = |index: usize| -> Vec<Edge<'_>> {
        let stage = &stages[index];
        let readers = |topic: String| readers.get(&topic).cloned().unwrap_or_default();
        let mut edges = Vec::new();
        if stage.spec.max_hops.is_none() {
            for (topic, place) in writes(stage) {
                let to = readers(physical(topic).unwrap_or_else(|| topic.to_owned()));
                edges.extend(to.into_iter().map(|to| Edge { to, place, dlq: None }));
            }
        }
        let dlq = stage.spec.dlq.as_ref();
        if let Some((name, dlq)) = dlq.and_then(|name| Some((name, scene.dlqs.get(name.value.as_str())?))) {
            // A stage that reads its own DLQ has been reported as such.
            let others = readers(dlq.topic.physical.to_string()).into_iter().filter(|to| *to != index);
            edges.extend(others.map(|to| Edge { to, place: name.span, dlq: Some(&name.value) }));
        }
        edges
    };
    // Depth first without recursion: a config may chain as many stages as it likes.
    let mut state = vec![Mark::New; stages.len()];
    for start in 0..stages.len() {
        if state[start] != Mark::New {
            continue;
        }
        state[start] = Mark::Open;
        let mut path = vec![(start, next(start), 0)];
        while let Some((index, edges, at)) = path.last_mut() {
            let Some(edge) = edges.get(*at).copied() else {
                state[*index] = Mark::Done;
                path.pop();
                continue;
            };
            *at += 1;
            match state[edge.to] {
                Mark::New => {
                    state[edge.to] = Mark::Open;
                    path.push((edge.to, next(edge.to), 0));
                }
                Mark::Open => {
                    let from = path.iter().position(|(index, ..)| *index == edge.to).unwrap_or_default();
                    let circle = path[from..].iter().filter_map(|(index, edges, at)| {
                        Some((&stages[*index], *edges.get(at.checked_sub(1)?)?))
                    });
                    report_circle(scene, &circle.collect::<Vec<_>>(), edge.place);
                }
                Mark::Done => {}
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

/// Reports a circle: its stages, each with the way that leads on from it.
fn report_circle(scene: &Scene<'_>, circle: &[(&WrittenStage<'_>, Edge<'_>)], closes: Span) {
    let names: Vec<_> = circle.iter().map(|(stage, _)| stage.name).collect();
    let message = match names.as_slice() {
        [only] => format!("stage `{only}` feeds itself"),
        _ => format!("stages {} feed each other in a circle", words(names.iter().copied())),
    };
    let dlqs: Vec<_> = circle.iter().filter_map(|(_, edge)| edge.dlq).collect();
    let by_way = match dlqs.as_slice() {
        [] => String::new(),
        dlqs => format!(", by way of the DLQ {}", words(dlqs.iter().copied())),
    };
    // Hops are counted where a record leaves by an output.
    let bounding = circle.iter().find(|(_, edge)| edge.dlq.is_none()).map(|(stage, _)| stage.name);
    let first = circle.first().map_or(closes, |(stage, _)| stage.spec.span);
    scene.report(
        Diagnostic::new(&codes::STAGE_CYCLE, format!("{message}{by_way}"))
            .at(closes, "closes the circle")
            .also(first, "leads back here")
            .help(match bounding {
                Some(name) => format!("if it is meant, bound it: `max_hops = 3` on stage `{name}`"),
                None => "dead letters are not counted, so nothing bounds it: give one another DLQ".to_owned(),
            }),
    );
}

/// Two writers of a topic validate against different schemas, or one against another than the topic's.
fn check_schemas(scene: &Scene<'_>, stages: &[WrittenStage<'_>]) {
    let mut schemas: HashMap<&str, (&str, Span, String)> = HashMap::new();
    for (name, (schema, span)) in &scene.topic_schemas {
        schemas.insert(name, (schema, *span, "the topic's schema".to_owned()));
    }
    for stage in stages {
        let Some((schema, span)) = schema_behind(&stage.steps) else { continue };
        for (topic, _) in writes(stage) {
            match schemas.get(topic) {
                Some((other, place, who)) if *other != schema => scene.report(
                    Diagnostic::new(
                        &codes::TOPIC_SCHEMA_CONFLICT,
                        format!("stage `{}` writes topic `{topic}` under another schema", stage.name),
                    )
                    .at(span, format!("validated against `{schema}`"))
                    .also(*place, format!("{who} is `{other}`"))
                    .help(format!("end both with `validate = \"{other}\"`, or write another topic")),
                ),
                Some(_) => {}
                None => {
                    schemas.insert(topic, (schema, span, format!("the schema of stage `{}`", stage.name)));
                }
            }
        }
    }
}

/// An input that nothing writes is an entry, unless its name is one letter away from one that is written
/// and read by nobody: then it is most likely a slip.
fn check_unfed(scene: &Scene<'_>, stages: &[WrittenStage<'_>]) {
    let written: HashMap<&str, Span> = stages.iter().flat_map(writes).collect();
    let read: HashSet<&str> = stages.iter().flat_map(reads).map(|(topic, _)| topic).collect();
    let mut loose: HashMap<String, &str> = HashMap::new();
    for topic in written.keys().filter(|topic| !read.contains(*topic)) {
        loose.extend(shortened(topic).into_iter().map(|variant| (variant, *topic)));
    }
    if loose.is_empty() {
        return;
    }
    for stage in stages {
        for (topic, span) in reads(stage) {
            let external = scene.topics.get(topic).is_none_or(|topic| topic.external);
            if external || written.contains_key(topic) {
                continue;
            }
            let near = shortened(topic).iter().find_map(|variant| loose.get(variant).copied());
            if let Some(near) = near.filter(|near| is_slip(topic, near)) {
                let place = written.get(near).copied().unwrap_or(span);
                scene.report(
                    Diagnostic::new(
                        &codes::STAGE_UNFED,
                        format!("nothing feeds stage `{}`: no stage writes `{topic}`", stage.name),
                    )
                    .at(span, "written by nobody")
                    .also(place, format!("`{near}` is written here and read by nobody"))
                    .help(format!("read `{near}`, or declare `{topic}` with `external = true`")),
                );
            }
        }
    }
}

/// The name and all that it can be with one letter left out: two names one letter apart share one, so
/// that nobody compares every name with every other.
fn shortened(name: &str) -> Vec<String> {
    let name = evened(name);
    let without = name.char_indices().map(|(at, letter)| {
        let (before, after) = name.split_at(at);
        format!("{before}{}", &after[letter.len_utf8()..])
    });
    std::iter::once(name.clone()).chain(without).collect()
}

/// One letter or separator apart, and not by a number: `orders.v1` and `orders.v2` are two things.
fn is_slip(one: &str, other: &str) -> bool {
    let digits = |name: &str| name.chars().filter(char::is_ascii_digit).collect::<String>();
    let distance = strsim::damerau_levenshtein(&evened(one), &evened(other));
    one.len() >= 4 && one != other && digits(one) == digits(other) && distance <= 1
}

/// Separators are told apart by brokers, not by people.
fn evened(name: &str) -> String {
    name.replace(['_', '-'], ".")
}
