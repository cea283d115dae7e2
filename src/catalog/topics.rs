//! Topics and DLQs: names and settings as the broker takes them.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;

use super::scene::Scene;
use super::{Compression, Dlq, DlqHeaders, Topic};
use crate::base::ByteSize;
use crate::diag::{Diagnostic, Diagnostics, Span, codes};
use crate::spec::{DlqSpec, Retention, Spanned, TopicSpec};

/// What a broker takes at most where nothing is said (`message.max.bytes`).
pub(super) const BROKER_MAX_MESSAGE_BYTES: u64 = 1_048_588;

/// What headers of a dead letter may add.
pub(super) const DEAD_LETTER_HEADERS: u64 = 64 << 10;

/// The broker's settings that keys of their own set.
const OWN_SETTINGS: [(&str, &str); 4] = [
    ("retention.ms", "retention"),
    ("cleanup.policy", "cleanup"),
    ("max.message.bytes", "max_message_bytes"),
    ("compression.type", "compression"),
];

/// The topic that a table says.
pub(super) fn resolve(name: &str, what: &str, spec: &TopicSpec, diagnostics: &Diagnostics) -> Topic {
    check_name(name, what, spec, diagnostics);
    let mut settings = settings(what, spec, diagnostics);
    let external = spec.external.as_ref().is_some_and(|external| external.value);
    if external {
        check_external(what, spec, diagnostics);
        // What is left is said by the defaults, of topics that are created here, but for the size that this
        // topic is said to have.
        let sized = own(&spec.max_message_bytes).is_some();
        settings.retain(|key, _| sized && key == "max.message.bytes");
    }
    let created = |number: &Option<Spanned<i64>>| {
        number.as_ref().filter(|number| number.known && !external).map(|number| number.value)
    };
    Topic {
        name: Arc::from(name),
        physical: match &spec.topic {
            None => Arc::from(name),
            Some(topic) if topic.known => Arc::from(topic.value.as_str()),
            // No broker has a topic of this name, so it is the same as no other.
            Some(_) => Arc::from(format!("{what} (not set)")),
        },
        about: spec.about.clone(),
        partitions: created(&spec.partitions).and_then(|number| u32::try_from(number).ok()),
        replication: created(&spec.replication).and_then(|number| u16::try_from(number).ok()),
        settings,
        max_message_bytes: spec.max_message_bytes.as_ref().filter(|size| size.known).map(|size| size.value),
        compression: spec.compression.as_ref().map_or(Compression::None, |word| word.value),
        linger: spec.linger.as_ref().map(|linger| linger.value),
        schema: spec.schema.as_ref().map(|schema| Arc::from(schema.value.as_str())),
        external,
    }
}

/// The DLQ that a table says; `largest` is the largest record of the stages that use it, where there are
/// any.
pub(super) fn resolve_dlq(
    name: &str,
    spec: &DlqSpec,
    largest: Option<ByteSize>,
    diagnostics: &Diagnostics,
) -> Dlq {
    let what = format!("DLQ `{name}`");
    let mut topic = resolve(name, &what, &spec.topic, diagnostics);
    if spec.topic.topic.is_none() {
        topic.physical = Arc::from(format!("{name}.dlq"));
    }
    if spec.topic.max_message_bytes.is_none() {
        let bytes = largest.map_or(BROKER_MAX_MESSAGE_BYTES, |size| size.0) + DEAD_LETTER_HEADERS;
        topic.max_message_bytes = Some(ByteSize(bytes));
        topic.settings.insert("max.message.bytes".to_owned(), bytes.to_string());
    }
    let mut headers = vec![DlqHeaders::Biplane];
    for header in &spec.headers {
        if !headers.contains(&header.value) {
            headers.push(header.value);
        }
    }
    Dlq { name: Arc::from(name), about: spec.topic.about.clone(), topic: Arc::new(topic), headers }
}

/// Warns of a DLQ that takes smaller records than the stages that use it read.
pub(super) fn check_size<'a>(
    name: &str,
    spec: &DlqSpec,
    inputs: impl Iterator<Item = (&'a Spanned<String>, Option<(ByteSize, Option<Span>)>)>,
    scene: &Scene<'_>,
) {
    let Some(said) = spec.topic.max_message_bytes.as_ref().filter(|size| size.known) else { return };
    let known = inputs.filter_map(|(input, size)| Some((size?, input)));
    let Some(((size, place), input)) = known.max_by_key(|((size, _), _)| *size) else { return };
    let needed = ByteSize(size.0.saturating_add(DEAD_LETTER_HEADERS));
    if said.value >= needed {
        return;
    }
    let message =
        format!("DLQ `{name}` takes records of {} at most, less than what its stages read", said.value);
    let finding =
        Diagnostic::new(&codes::DLQ_SMALL, message).at(said.span, "a larger record loses its value");
    let finding = match place {
        Some(place) => finding.also(place, format!("topic `{}` has records up to here", input.value)),
        None => finding.also(input.span, "a topic that takes what the broker does, 1 MiB by default"),
    };
    scene.report(finding.help(format!(
        "leave `max_message_bytes` of the DLQ out, or write at least {needed}: the inputs' plus {}",
        ByteSize(DEAD_LETTER_HEADERS)
    )));
}

/// Reports two tables that mean one topic of the broker.
pub(super) fn check_physical<'a>(
    topics: impl Iterator<Item = (&'a Topic, Span, &'static str)>,
    diagnostics: &Diagnostics,
) {
    let mut seen: HashMap<&str, (&Topic, Span, &str)> = HashMap::new();
    for (topic, span, kind) in topics {
        let Some((first, first_span, first_kind)) = seen.get(&*topic.physical) else {
            seen.insert(&topic.physical, (topic, span, kind));
            continue;
        };
        // A DLQ that is read as well is declared once more, as another's topic.
        if *first_kind != kind && (first.external || topic.external) {
            continue;
        }
        let message = format!(
            "{first_kind} `{}` and {kind} `{}` are the same topic `{}` on the broker",
            first.name, topic.name, topic.physical
        );
        let finding = Diagnostic::new(&codes::TOPIC_PHYSICAL_DUPLICATE, message)
            .at(span, "the second")
            .also(*first_span, "the first");
        diagnostics.push(if *first_kind == kind {
            finding.help("give one of them another `topic`, or keep one of the two")
        } else {
            finding.help("to read what is dead-lettered, declare the topic with `external = true`")
        });
    }
}

fn check_name(name: &str, what: &str, spec: &TopicSpec, diagnostics: &Diagnostics) {
    let Some(physical) = spec.topic.as_ref().filter(|topic| topic.known) else { return };
    let text = &physical.value;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > 249 || text == "." || text == ".." || !text.chars().all(plain) {
        let help = format!("leave `topic` out to use `{name}`");
        diagnostics.push(
            Diagnostic::new(&codes::TOPIC_NAME, format!("{what} has a name that Kafka does not take"))
                .at(physical.span, "letters, digits, `.`, `_` and `-`, at most 249")
                .help(help),
        );
    }
}

fn settings(what: &str, spec: &TopicSpec, diagnostics: &Diagnostics) -> IndexMap<String, String> {
    let mut settings = IndexMap::new();
    if let Some(retention) = &spec.retention {
        let millis = match retention.value {
            Retention::For(duration) => duration.as_millis().to_string(),
            Retention::Unlimited => "-1".to_owned(),
        };
        settings.insert("retention.ms".to_owned(), millis);
    }
    if let Some(cleanup) = &spec.cleanup {
        settings.insert("cleanup.policy".to_owned(), cleanup.value.to_owned());
    }
    if let Some(size) = &spec.max_message_bytes {
        settings.insert("max.message.bytes".to_owned(), size.value.0.to_string());
    }
    for (key, value) in &spec.settings {
        let own = OWN_SETTINGS.iter().find(|(setting, _)| *setting == key.value);
        if let Some((setting, own)) = own {
            let finding = Diagnostic::new(
                &codes::TOPIC_SETTING_CONFLICT,
                format!("{what} sets `{setting}`, which has a key of its own"),
            )
            .at(key.span, "written as a broker setting")
            .help(format!("write it as `{own}`"));
            diagnostics.push(match own_span(spec, own) {
                Some(span) => finding.also(span, "and here"),
                None => finding,
            });
            continue;
        }
        settings.insert(key.value.clone(), value.clone());
    }
    settings
}

fn own_span(spec: &TopicSpec, key: &str) -> Option<Span> {
    match key {
        "retention" => spec.retention.as_ref().map(|value| value.span),
        "cleanup" => spec.cleanup.as_ref().map(|value| value.span),
        "max_message_bytes" => spec.max_message_bytes.as_ref().map(|value| value.span),
        _ => spec.compression.as_ref().map(|value| value.span),
    }
}

fn own<T>(value: &Option<Spanned<T>>) -> Option<Span> {
    value.as_ref().filter(|value| value.own).map(|value| value.span)
}

fn check_external(what: &str, spec: &TopicSpec, diagnostics: &Diagnostics) {
    // What the defaults say of topics is said of those that are created here.
    let spans = [
        own(&spec.partitions),
        own(&spec.replication),
        own(&spec.retention),
        own(&spec.cleanup),
        spec.settings.iter().find(|(key, _)| key.own).map(|(key, _)| key.span),
    ];
    if let Some(span) = spans.into_iter().flatten().next() {
        let external = spec.external.as_ref().map_or(spec.span, |external| external.span);
        diagnostics.push(
            Diagnostic::new(
                &codes::TOPIC_EXTERNAL_SETTINGS,
                format!("{what} is another system's, so its settings cannot be set here"),
            )
            .at(span, "would never be applied")
            .also(external, "never created or changed")
            .help("remove it, or remove `external` if this pipeline shall own the topic"),
        );
    }
}
