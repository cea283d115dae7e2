//! Stages: references followed, defaults filled in, limits judged.

use std::sync::Arc;
use std::time::Duration;

use super::exactly_once;
use super::fingerprint::Used;
use super::scene::Scene;
use super::steps::{self, Place, WrittenStep};
use super::{Bound, Guarantee, OnLost, Order, Output, Stage, Start, Tombstones, Topic, Unmatched, limits};
use super::{breakers, dedupe, rates};
use crate::base::{ByteSize, Exhausted, RetryPolicy};
use crate::diag::{Diagnostic, codes, nearest};
use crate::expr::RootSet;
use crate::record::{BytesCodec, Codec, JsonCodec, TextCodec};
use crate::spec::{Decoding, OutputSpec, STAGE_KEYS, Spanned, StageSpec};

/// A stage as written, its groups written out.
pub(super) struct WrittenStage<'a> {
    pub(super) name: &'a str,
    pub(super) spec: StageSpec<'a>,
    pub(super) steps: Vec<WrittenStep<'a>>,
    /// What was named while the groups were written out.
    pub(super) used: Used,
}

/// Where the steps of a stage stand.
pub(super) const OWNER: steps::Owner =
    steps::Owner { section: "stages", noun: "stage", keys: &STAGE_KEYS, roots: RootSet::RECORD };

/// The stage that a table says; `None`: something is wrong, and that has been reported.
pub(super) fn resolve(scene: &Scene<'_>, written: &WrittenStage<'_>) -> Option<Stage> {
    let WrittenStage { name, spec, .. } = written;
    let what = format!("stage `{name}`");
    let errors = scene.read.diagnostics.errors();
    let inputs = inputs(scene, spec, &what);
    let table = scene.sections.stages.get(name).map(|definition| definition.table);
    let place = table.map(|table| Place { owner: OWNER, name, table });
    let mut plans = steps::plan(scene, &written.steps, &what, OWNER, place);
    let earlier: Vec<Arc<str>> = plans.iter().flatten().map(|plan| Arc::clone(&plan.name)).collect();
    let codec = codec(spec.decode.as_ref().map_or(Decoding::Json, |word| word.value));
    let outputs = outputs(scene, spec, &what, &codec, plans.is_some().then_some(&earlier));
    let retry = retry(scene, spec, &what);
    let deadline = spec.deadline.as_ref().map_or(limits::DEADLINE, |deadline| deadline.value);
    if let Some(retry) = &retry {
        limits::check_retry(scene, spec, &what, retry);
        let in_database = exactly_once::in_database(spec, plans.as_deref().unwrap_or_default());
        limits::check_parking(scene, spec, &what, retry, in_database);
        check_dlq_present(scene, spec, &what, retry);
    }
    let dlq = dlq(scene, spec, &what, inputs.as_deref().unwrap_or_default());
    limits::check(scene, written, &what, inputs.as_deref().unwrap_or_default());
    steps::check_batches(scene, plans.as_deref().unwrap_or_default(), spec.concurrency.as_ref(), &what);
    breakers::check(scene, spec, &what, plans.as_deref());
    let rate_limit = rates::resolve(scene, spec, &what, inputs.as_deref().unwrap_or_default());
    let dedupe = dedupe::resolve(scene, spec, &what);
    check_decoding(scene, written, &what);
    check_pointless(scene, written, &what);
    exactly_once::check(scene, written, &what, plans.as_deref_mut().unwrap_or_default());
    if scene.read.diagnostics.errors() > errors {
        return None;
    }
    let delivery = spec.delivery.as_ref().map_or(Guarantee::AtLeastOnce, |word| word.value);
    let count = |number: &Option<Spanned<i64>>, default: usize| {
        number.as_ref().map_or(default, |number| usize::try_from(number.value).unwrap_or(default))
    };
    Some(Stage {
        name: Arc::from(*name),
        about: spec.about.clone(),
        was: spec.was.as_ref().map(|was| Arc::from(was.value.as_str())),
        inputs: inputs?,
        order: spec.order.as_ref().map_or(Order::Key, |word| word.value),
        concurrency: count(&spec.concurrency, steps::DEFAULT_CONCURRENCY),
        window: Bound {
            records: count(&spec.window_records, 10_000),
            bytes: spec.window_bytes.as_ref().map_or(ByteSize(64 << 20), |size| size.value),
        },
        span: Bound {
            records: count(&spec.span_records, 100_000),
            bytes: spec.span_bytes.as_ref().map_or(ByteSize(1 << 30), |size| size.value),
        },
        max_parked: Bound {
            records: count(&spec.parked_records, 100_000),
            bytes: spec.parked_bytes.as_ref().map_or(ByteSize(64 << 20), |size| size.value),
        },
        start: spec.start.as_ref().map_or(Start::Earliest, |word| word.value),
        on_lost: spec.on_lost.as_ref().map_or(OnLost::Halt, |word| word.value),
        codec,
        tombstones: spec.tombstones.as_ref().map_or(Tombstones::DeadLetter, |word| word.value),
        steps: plans?,
        outputs: outputs?,
        match_all: spec.match_all.as_ref().is_some_and(|word| word.value),
        unmatched: spec.unmatched.as_ref().map_or(Unmatched::DeadLetter, |word| word.value),
        retry: retry?,
        dlq,
        breakers: breakers::resolve(spec),
        rate_limit: rate_limit?,
        dedupe: dedupe.ok()?,
        deadline,
        commit_interval: spec.commit_interval.as_ref().map_or(commit_interval(delivery), |wait| wait.value),
        drain: spec.drain.as_ref().map_or(Duration::from_secs(10), |wait| wait.value),
        watchdog: spec.watchdog.as_ref().map_or(Some(Duration::from_secs(120)), |limit| limit.value),
        max_hops: spec.max_hops.as_ref().and_then(|hops| u32::try_from(hops.value).ok()),
        delivery,
        env: Arc::clone(&scene.environment.values),
    })
}

/// Readers see what an exactly-once stage writes when it commits.
fn commit_interval(delivery: Guarantee) -> Duration {
    match delivery {
        Guarantee::AtLeastOnce => Duration::from_secs(1),
        Guarantee::ExactlyOnce => Duration::from_millis(100),
    }
}

fn codec(decoding: Decoding) -> Arc<dyn Codec> {
    match decoding {
        Decoding::Json => Arc::new(JsonCodec),
        Decoding::Text => Arc::new(TextCodec),
        Decoding::Bytes => Arc::new(BytesCodec),
    }
}

fn inputs(scene: &Scene<'_>, spec: &StageSpec<'_>, what: &str) -> Option<Vec<Arc<Topic>>> {
    let from = spec.from.as_ref()?;
    let mut inputs: Vec<Arc<Topic>> = Vec::with_capacity(from.len());
    for (index, name) in from.iter().enumerate() {
        if let Some(first) = from[..index].iter().find(|first| first.value == name.value) {
            let message = format!("{what} reads topic `{}` twice", name.value);
            scene.report(
                Diagnostic::new(&codes::STAGE_INPUT_TWICE, message)
                    .at(name.span, "the second")
                    .also(first.span, "the first")
                    .help("remove one of the two"),
            );
            continue;
        }
        let Some(topic) = scene.topic(name, &format!("{what} reads")) else { continue };
        inputs.push(topic);
    }
    (inputs.len() == from.len()).then_some(inputs)
}

fn outputs(
    scene: &Scene<'_>,
    spec: &StageSpec<'_>,
    what: &str,
    codec: &Arc<dyn Codec>,
    earlier: Option<&Vec<Arc<str>>>,
) -> Option<Vec<Output>> {
    let specs = spec.outputs.as_ref()?;
    if let Some(to) = spec.to.filter(|_| specs.len() > 1) {
        let other = specs.get(1).map_or(to, |output| output.span);
        scene.report(
            Diagnostic::new(&codes::KEY_CONFLICT, format!("{what} has both `to` and `outputs`"))
                .at(to, "the short form")
                .also(other, "the long form")
                .help("write every destination as `[[….outputs]]`, or the only one as `to`"),
        );
        let mut used = scene.used.borrow_mut();
        used.extend(specs.iter().filter_map(|output| Some(("topics", output.to.as_ref()?.value.clone()))));
        return None;
    }
    let mut outputs = Vec::with_capacity(specs.len());
    let mut open: Option<&OutputSpec<'_>> = None;
    let first_match = !spec.match_all.as_ref().is_some_and(|word| word.value || !word.known);
    for output in specs {
        if let Some(open) = open.filter(|_| first_match) {
            scene.report(
                Diagnostic::new(
                    &codes::OUTPUT_UNREACHABLE,
                    format!("an output of {what} can never take a record"),
                )
                .at(output.span, "nothing reaches it")
                .also(open.span, "takes every record, as it has no `when`")
                .help("give the first a `when`, or write match = \"all\""),
            );
        }
        if output.when.is_none() && open.is_none() {
            open = Some(output);
        }
        outputs.push(resolve_output(scene, output, what, codec, earlier));
    }
    outputs.into_iter().collect()
}

fn resolve_output(
    scene: &Scene<'_>,
    spec: &OutputSpec<'_>,
    what: &str,
    codec: &Arc<dyn Codec>,
    earlier: Option<&Vec<Arc<str>>>,
) -> Option<Output> {
    let topic = spec.to.as_ref().and_then(|to| scene.topic(to, &format!("{what} writes")));
    // Where a step is broken, results that outputs name cannot be judged.
    let earlier = earlier?;
    let expression = |text| scene.planning(RootSet::RECORD, earlier, |context| context.expression(text));
    let when = spec.when.as_ref().map(expression);
    let key = spec.key.as_ref().map(expression);
    let headers: Vec<_> = spec
        .headers
        .iter()
        .map(|entry| match entry.node.as_text() {
            Some(text) => {
                let template = scene.planning(RootSet::RECORD, earlier, |context| context.template(&text))?;
                Some((Arc::from(entry.key.as_str()), template))
            }
            None => {
                let message =
                    format!("header `{}` of an output of {what} is {}", entry.key, entry.node.value.kind());
                let finding = Diagnostic::new(&codes::VALUE_TYPE, message);
                let finding = finding.at(entry.node.span, "expected a string, which may be a template");
                scene.report(finding.help("write it in quotes"));
                None
            }
        })
        .collect();
    Some(Output {
        topic: topic?,
        when: when.map_or(Some(None), |when| when.map(Some))?,
        key: key.map_or(Some(None), |key| key.map(Some))?,
        headers: headers.into_iter().collect::<Option<_>>()?,
        codec: Arc::clone(codec),
    })
}

fn retry(scene: &Scene<'_>, spec: &StageSpec<'_>, what: &str) -> Option<Arc<RetryPolicy>> {
    match &spec.retry {
        Some(name) => {
            scene.stage_retries.borrow_mut().insert(name.value.clone());
            scene.retry(name, what)
        }
        None => Some(scene.built_in()),
    }
}

fn dlq(
    scene: &Scene<'_>,
    spec: &StageSpec<'_>,
    what: &str,
    inputs: &[Arc<Topic>],
) -> Option<Arc<super::Dlq>> {
    let name = spec.dlq.as_ref()?;
    scene.used.borrow_mut().insert(("dlqs", name.value.clone()));
    let Some(dlq) = scene.dlqs.get(name.value.as_str()) else {
        if !scene.dots.meant("dlqs", &name.value) {
            let near = nearest(&name.value, scene.sections.dlqs.keys().copied());
            scene.undefined(
                Diagnostic::new(
                    &codes::DLQ_UNDEFINED,
                    format!("{what} names undefined DLQ `{}`", name.value),
                )
                .at(name.span, "no such DLQ")
                .help(match near {
                    Some(near) => format!("a DLQ with a similar name exists: `{near}`"),
                    None => format!("define it: [dlqs.{}]", name.value),
                }),
            );
        }
        return None;
    };
    if let Some(input) = inputs.iter().find(|input| input.physical == dlq.topic.physical) {
        let place = spec.from.iter().flatten().find(|from| *from.value == *input.name);
        let finding = Diagnostic::new(
            &codes::DLQ_FEEDS_ITSELF,
            format!("{what} dead-letters into `{}`, which it reads", dlq.topic.physical),
        )
        .at(name.span, "goes to that topic")
        .help("a stage that reads a DLQ's topic needs another DLQ");
        scene.report(match place {
            Some(place) => finding.also(place.span, "is read here"),
            None => finding,
        });
    }
    Some(Arc::clone(dlq))
}

/// Whoever says dead-letter needs a place for it.
fn check_dlq_present(scene: &Scene<'_>, spec: &StageSpec<'_>, what: &str, retry: &RetryPolicy) {
    if spec.dlq.is_some() {
        return;
    }
    let outputs = spec.outputs.as_deref().unwrap_or_default();
    let conditional = !outputs.is_empty() && outputs.iter().all(|output| output.when.is_some());
    let says = |word: &Option<Spanned<Unmatched>>| {
        word.as_ref().is_none_or(|word| word.known && word.value == Unmatched::DeadLetter)
    };
    let exhausted = scene.retry_specs.get(&*retry.name).and_then(|spec| spec.on_exhausted.as_ref());
    let settled = exhausted.is_none_or(|word| word.known);
    let (who, span) = if retry.on_exhausted == Exhausted::DeadLetter && settled {
        (format!("its retry policy `{}` dead-letters", retry.name), spec.retry.as_ref().map(|name| name.span))
    } else if conditional && says(&spec.unmatched) {
        (
            "records that no output takes are dead-lettered".to_owned(),
            spec.unmatched.as_ref().map(|word| word.span),
        )
    } else if spec.tombstones.as_ref().is_some_and(|word| word.known && word.value == Tombstones::DeadLetter)
    {
        ("tombstones are dead-lettered".to_owned(), spec.tombstones.as_ref().map(|word| word.span))
    } else {
        return;
    };
    scene.report(
        Diagnostic::new(&codes::DLQ_MISSING, format!("{what} has no DLQ, but {who}"))
            .at(span.unwrap_or(spec.span), "needs `dlq`")
            .help("add `dlq = \"NAME\"` here or in `[defaults.stages]`, and `[dlqs.NAME]`"),
    );
}

/// Steps and outputs that need JSON where the stage reads one string.
fn check_decoding(scene: &Scene<'_>, written: &WrittenStage<'_>, what: &str) {
    let Some(decode) = written.spec.decode.as_ref().filter(|word| word.known) else { return };
    let (word, writes_json, help) = match decode.value {
        Decoding::Json => return,
        Decoding::Text => ("text", true, "make an object with `map` first, or decode the records as JSON"),
        Decoding::Bytes => ("bytes", false, "write `decode = \"text\"`, which outputs write as text or JSON"),
    };
    let report = |place, message: String, label: &str| {
        scene.report(
            Diagnostic::new(&codes::STAGE_DECODE, message)
                .at(place, label)
                .also(decode.span, format!("the value is one string of {word}"))
                .help(help),
        );
    };
    let has_outputs = written.spec.outputs.as_ref().is_some_and(|outputs| !outputs.is_empty());
    for step in &written.steps {
        if let Some(map) = step.table.get("map") {
            if has_outputs && !writes_json {
                let message = format!("{what} cannot write what `map` gives as {word}");
                report(map.key_span, message, "gives an object");
            }
            return;
        }
        let set = step.table.get("set").and_then(|set| set.node.as_table());
        if let Some(field) = set.and_then(|set| set.entries.iter().find(|field| field.key != "headers")) {
            let message = format!("{what} sets a field of a value that is {word}");
            report(field.key_span, message, "a string has no fields");
            return;
        }
    }
}

fn check_pointless(scene: &Scene<'_>, written: &WrittenStage<'_>, what: &str) {
    let spec = &written.spec;
    let Some(outputs) = &spec.outputs else { return };
    let pointless = |span, message: String, label: &str, help: &str| {
        scene.report(Diagnostic::new(&codes::STAGE_POINTLESS, message).at(span, label).help(help));
    };
    // What the defaults say is said of other stages, too.
    let (match_all, unmatched) =
        (spec.match_all.as_ref().filter(|word| word.own), spec.unmatched.as_ref().filter(|word| word.own));
    if outputs.is_empty() {
        let help = "remove it, or write `to` or `[[….outputs]]`";
        if let Some(word) = match_all {
            pointless(word.span, format!("`match` of {what} has no effect"), "there are no outputs", help);
        }
        if let Some(word) = unmatched {
            pointless(
                word.span,
                format!("`unmatched` of {what} has no effect"),
                "there are no outputs",
                help,
            );
        }
        if written.steps.is_empty() {
            let help = "write `to = \"TOPIC\"` or `[[….steps]]`, or remove the stage";
            pointless(spec.span, format!("{what} does nothing"), "has neither steps nor outputs", help);
        }
    } else if let Some(word) = unmatched.filter(|word| word.known && word.value == Unmatched::Drop)
        && outputs.iter().any(|output| output.when.is_none())
    {
        // Saying what holds anyway (`dead-letter`) does no harm.
        let help = "remove it, or give every output a `when`";
        pointless(
            word.span,
            format!("`unmatched` of {what} has no effect"),
            "an output takes every record",
            help,
        );
    }
    let forward = spec.tombstones.as_ref().filter(|word| word.own && word.known);
    if let Some(word) = forward.filter(|word| word.value == Tombstones::Forward)
        && outputs.iter().all(|output| output.when.is_some())
    {
        let label = match outputs.is_empty() {
            true => "there are no outputs",
            false => "every output has a `when`, which takes no null value",
        };
        let help = "add an output without a `when`, or write \"drop\", \"steps\" or \"dead-letter\"";
        pointless(word.span, format!("`tombstones` of {what} forwards to no output"), label, help);
    }
}
