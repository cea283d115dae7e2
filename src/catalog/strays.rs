//! Keys of a stage or a job that ended up in a step: TOML gives what follows a header to the nearest one above.

use super::retries::BUILT_IN;
use super::scene::Scene;
use super::steps::{Owner, Place};
use crate::base::parse_duration;
use crate::diag::{Diagnostic, codes};
use crate::spec::{Entry, Node, NodeValue, Table};
use crate::steps::{COMMON_KEYS, KINDS};

/// Kinds whose keys below their name are the user's own fields.
const FREE: [&str; 3] = ["map", "set", "rename"];

/// The keys of `dedupe`.
const DEDUPE: [&str; 4] = ["key", "window", "max_keys", "memory"];

/// Reports keys of the owner that ended up in a step, and gives the table without them; the flag says
/// whether there were any.
pub(super) fn without(scene: &Scene<'_>, table: &Table, label: &str, owner: Owner) -> (Table, bool) {
    let used = table.get("use").is_some();
    let typed = used || table.entries.iter().any(|entry| KINDS.contains(&entry.key.as_str()));
    let known = |key: &str| match used {
        true => key == "use",
        false => KINDS.contains(&key) || COMMON_KEYS.contains(&key),
    };
    let mut strays = false;
    let mut entries = Vec::with_capacity(table.entries.len());
    for entry in &table.entries {
        if typed && !known(&entry.key) && owner.keys.contains(&entry.key.as_str()) {
            strays = true;
            report(scene, entry, label, "belongs to the step above it", owner);
        } else {
            let (entry, inside) = without_inner(scene, entry, label, owner);
            strays |= inside;
            entries.push(entry);
        }
    }
    (Table { span: table.span, entries }, strays)
}

/// The same below `[stages.x.steps.http]` and its like, whose keys are none of its owner.
fn without_inner(scene: &Scene<'_>, entry: &Entry, label: &str, owner: Owner) -> (Entry, bool) {
    let kind = entry.key.as_str();
    let table = entry.node.as_table().filter(|_| KINDS.contains(&kind) && !FREE.contains(&kind));
    let Some(table) = table else { return (entry.clone(), false) };
    let stray = |inner: &&Entry| owner.keys.contains(&inner.key.as_str()) && inner.key != "timeout";
    for inner in table.entries.iter().filter(stray) {
        report(scene, inner, &format!("`{kind}` of {label}"), "belongs to the table above it", owner);
    }
    let entries: Vec<_> = table.entries.iter().filter(|inner| !stray(inner)).cloned().collect();
    let strays = entries.len() < table.entries.len();
    let mut entry = entry.clone();
    entry.node.value = NodeValue::Table(Table { span: table.span, entries });
    (entry, strays)
}

fn report(scene: &Scene<'_>, entry: &Entry, place: &str, label: &str, owner: Owner) {
    let noun = owner.noun;
    scene.report(
        Diagnostic::new(
            &codes::TOML_KEY_AFTER_STEPS,
            format!("`{}` is a key of the {noun}, but stands in {place}", entry.key),
        )
        .at(entry.key_span, label)
        .help(format!("move it above the first `[[…steps]]` of the {noun}")),
    );
}

/// Warns of fields of a `map` or `set` that look like keys of the place: it lacks the key, and would take
/// the value.
pub(super) fn warn_of_fields(scene: &Scene<'_>, step: &Table, place: Place<'_>, label: &str) {
    let noun = place.owner.noun;
    for kind in ["map", "set"] {
        let fields = step.get(kind).and_then(|entry| entry.node.as_table());
        for entry in fields.iter().flat_map(|table| &table.entries) {
            if place.table.get(&entry.key).is_none()
                && would_take(scene, place.owner, &entry.key, &entry.node)
            {
                let key = &entry.key;
                scene.report(
                    Diagnostic::new(
                        &codes::TOML_KEY_IN_MAP,
                        format!(
                            "`{key}` becomes a field of {label}, though it looks like a key of the {noun}"
                        ),
                    )
                    .at(entry.key_span, format!("a field of `{kind}`"))
                    .help(format!(
                        "move it above the first `[[…steps]]` of the {noun}; a field is meant where it is a \
                         template: {key} = \"{{{{ … }}}}\""
                    )),
                );
            }
        }
    }
}

/// Whether a place would take that value under that key.
fn would_take(scene: &Scene<'_>, owner: Owner, key: &str, node: &Node) -> bool {
    owner.keys.contains(&key)
        && match owner.noun {
            "job" => job_would_take(scene, key, node),
            _ => stage_would_take(scene, key, node),
        }
}

/// As far as such a value is not as likely a field of somebody's data.
fn job_would_take(scene: &Scene<'_>, key: &str, node: &Node) -> bool {
    let text = node.as_text().map(|text| text.value);
    let defined = |names: &[&str]| text.as_deref().is_some_and(|text| names.contains(&text));
    match key {
        "queue" => defined(&scene.sections.queues.keys().copied().collect::<Vec<_>>()),
        "retry" => defined(&scene.sections.retries.keys().copied().collect::<Vec<_>>()),
        "timeout" | "expires" => text.is_some_and(|text| parse_duration(&text).is_ok()),
        "checkpoint" => matches!(node.value, NodeValue::Boolean(_)),
        _ => false,
    }
}

fn stage_would_take(scene: &Scene<'_>, key: &str, node: &Node) -> bool {
    let text = node.as_text().map(|text| text.value);
    let word = |words: &[&str]| text.as_deref().is_some_and(|text| words.contains(&text));
    let defined = |names: &[&str]| text.as_deref().is_some_and(|text| names.contains(&text));
    let sections = scene.sections;
    match key {
        "concurrency" | "max_hops" => matches!(node.value, NodeValue::Integer(_)),
        "deadline" | "commit_interval" | "drain" => text.is_some_and(|text| parse_duration(&text).is_ok()),
        "watchdog" => text.is_some_and(|text| &*text == "off" || parse_duration(&text).is_ok()),
        "from" | "to" => defined(&sections.topics.keys().copied().collect::<Vec<_>>()),
        "dlq" => defined(&sections.dlqs.keys().copied().collect::<Vec<_>>()),
        "retry" => word(&[BUILT_IN]) || defined(&sections.retries.keys().copied().collect::<Vec<_>>()),
        "match" => word(&["first", "all"]),
        "order" => word(&["key", "partition", "none"]),
        "unmatched" => word(&["dead-letter", "drop"]),
        "on_lost" => word(&["halt", "earliest"]),
        "start" => word(&["earliest", "latest"]),
        "decode" => word(&["json", "text", "bytes"]),
        "tombstones" => word(&["dead-letter", "drop", "forward", "steps"]),
        "delivery" => word(&["at-least-once", "exactly-once"]),
        "window" | "span" | "max_parked" => node.as_table().is_some_and(|table| {
            !table.entries.is_empty()
                && table.entries.iter().all(|entry| matches!(entry.key.as_str(), "records" | "bytes"))
        }),
        "dedupe" => node.as_table().is_some_and(|table| {
            ["key", "window"].iter().all(|key| table.get(key).is_some())
                && table.entries.iter().all(|entry| DEDUPE.contains(&entry.key.as_str()))
        }),
        _ => false,
    }
}
