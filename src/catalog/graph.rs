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

/// Reports each circle once. A stage with `max_hops` ends every circle through it.
fn check_cycles(scene: &Scene<'_>, stages: &[WrittenStage<'_>]) {
    let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
    let bounded = |stage: &WrittenStage<'_>| stage.spec.max_hops.is_some();
    for (index, stage) in stages.iter().enumerate().filter(|(_, stage)| !bounded(stage)) {
        for (topic, _) in reads(stage) {
            readers.entry(topic).or_default().push(index);
        }
    }
    let next = |index: usize| -> Vec<(usize, Span)> {
        let outputs = writes(&stages[index]);
        outputs
            .flat_map(|(topic, span)| readers.get(topic).into_iter().flatten().map(move |to| (*to, span)))
            .collect()
    };
    // Depth first without recursion: a config may chain as many stages as it likes.
    let mut state = vec![Mark::New; stages.len()];
    for start in (0..stages.len()).filter(|index| !bounded(&stages[*index])) {
        if state[start] != Mark::New {
            continue;
        }
        state[start] = Mark::Open;
        let mut path = vec![(start, next(start), 0)];
        while let Some((index, edges, at)) = path.last_mut() {
            let Some((to, span)) = edges.get(*at).copied() else {
                state[*index] = Mark::Done;
                path.pop();
                continue;
            };
            *at += 1;
            match state[to] {
                Mark::New => {
                    state[to] = Mark::Open;
                    path.push((to, next(to), 0));
                }
                Mark::Open => {
                    let from = path.iter().position(|(index, ..)| *index == to).unwrap_or_default();
                    let circle: Vec<_> = path[from..].iter().map(|(index, ..)| stages[*index].name).collect();
                    report_circle(scene, &circle, span, stages[to].spec.span);
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

fn report_circle(scene: &Scene<'_>, circle: &[&str], closes: Span, first: Span) {
    let message = match circle {
        [only] => format!("stage `{only}` feeds itself"),
        _ => format!("stages {} feed each other in a circle", words(circle.iter().copied())),
    };
    scene.report(
        Diagnostic::new(&codes::STAGE_CYCLE, message)
            .at(closes, "closes the circle")
            .also(first, "leads back here")
            .help("if it is meant, bound it: `max_hops = 3` on one of these stages"),
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
                    .also(*place, format!("{who} is `{other}`")),
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
        loose.extend(shortened(topic).map(|variant| (variant, *topic)));
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
            let near = shortened(topic).find_map(|variant| loose.get(&variant).copied());
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
fn shortened(name: &str) -> impl Iterator<Item = String> {
    let without = name.char_indices().map(|(at, letter)| {
        let (before, after) = name.split_at(at);
        format!("{before}{}", &after[letter.len_utf8()..])
    });
    std::iter::once(name.to_owned()).chain(without)
}

/// One letter apart, and not by a number: `orders.v1` and `orders.v2` are two things.
fn is_slip(one: &str, other: &str) -> bool {
    let digits = |name: &str| name.chars().filter(char::is_ascii_digit).collect::<String>();
    one.len() >= 4 && digits(one) == digits(other) && strsim::damerau_levenshtein(one, other) == 1
}
