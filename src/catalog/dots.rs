//! Names with dots that were written without quotes: TOML reads `[topics.raw.events]` as a table in a table.

use std::collections::{HashMap, HashSet};

use crate::diag::{Diagnostic, Diagnostics, Span, codes, nearest};
use crate::spec::{Definition, JOB_KEYS, STAGE_KEYS, Sections, Table};

/// What was found of them.
#[derive(Debug, Default)]
pub(super) struct Dots {
    /// The whole names that were meant, by section.
    names: HashSet<(&'static str, String)>,
    /// Definitions that hold nothing but such names.
    hollow: HashSet<(&'static str, String)>,
    /// Keys of definitions that are such names.
    strays: HashMap<(&'static str, String), Vec<String>>,
}

impl Dots {
    /// Reports them in all sections.
    pub(super) fn find(sections: &Sections<'_>, diagnostics: &Diagnostics) -> Self {
        let mut dots = Self::default();
        let all = [
            ("topics", &sections.topics),
            ("dlqs", &sections.dlqs),
            ("retries", &sections.retries),
            ("http_clients", &sections.http_clients),
            ("stages", &sections.stages),
            ("queues", &sections.queues),
            ("jobs", &sections.jobs),
            ("databases", &sections.databases),
            ("step_groups", &sections.step_groups),
        ];
        for (section, definitions) in all {
            for (name, definition) in definitions {
                dots.look_at(section, name, *definition, diagnostics);
            }
        }
        dots
    }

    /// Whether `name` was meant by one of them, so that who uses it is not to blame.
    pub(super) fn meant(&self, section: &'static str, name: &str) -> bool {
        self.names.contains(&(section, name.to_owned()))
    }

    /// Whether a definition is only the beginning of such names.
    pub(super) fn is_hollow(&self, section: &'static str, name: &str) -> bool {
        self.hollow.contains(&(section, name.to_owned()))
    }

    /// The keys of a definition that are the rest of such names.
    pub(super) fn strays(&self, section: &'static str, name: &str) -> &[String] {
        self.strays.get(&(section, name.to_owned())).map_or(&[], Vec::as_slice)
    }

    fn look_at(
        &mut self,
        section: &'static str,
        name: &str,
        definition: Definition<'_>,
        diagnostics: &Diagnostics,
    ) {
        let entries = &definition.table.entries;
        let known = definition_keys(section);
        let bare = entries.iter().all(|entry| entry.node.as_table().is_some());
        let (mut found, mut header) = (0, true);
        for entry in entries {
            let Some(inner) = entry.node.as_table() else { continue };
            let key = entry.key.as_str();
            let fits = bare || holds_a_key(inner, known);
            if known.contains(&key) || nearest(key, known.iter().copied()).is_some() || !fits {
                continue;
            }
            let dotted = self.leaves(section, &format!("{name}.{key}"), inner, known);
            self.strays.entry((section, name.to_owned())).or_default().push(key.to_owned());
            // In a header of its own the name stands right before; else only its rest is there.
            let (before, rest) = (definition.name_span, entry.key_span);
            let adjacent = rest.start.checked_sub(before.end).is_some_and(|gap| gap <= 3);
            header &= adjacent || found > 0;
            found += 1;
            let place = if adjacent { Span { end: rest.end, ..before } } else { rest };
            diagnostics.push(
                Diagnostic::new(&codes::TOML_UNQUOTED_DOTS, format!("the name `{dotted}` needs quotes"))
                    .at(place, "read as a table within a table")
                    .help(format!("write [{section}.\"{dotted}\"]")),
            );
        }
        // With a header of its own the name is a definition, however empty.
        if header && found > 0 && found == entries.len() {
            self.hollow.insert((section, name.to_owned()));
        }
    }

    /// Remembers the names below `name`, itself included; gives the first that ends.
    fn leaves(&mut self, section: &'static str, name: &str, table: &Table, known: &[&str]) -> String {
        self.names.insert((section, name.to_owned()));
        let mut first = None;
        for entry in &table.entries {
            if let Some(inner) = entry.node.as_table().filter(|_| !known.contains(&entry.key.as_str())) {
                let leaf = self.leaves(section, &format!("{name}.{}", entry.key), inner, known);
                first.get_or_insert(leaf);
            }
        }
        first.unwrap_or_else(|| name.to_owned())
    }
}

/// Whether a table, or the only one in it, says something that a definition says.
fn holds_a_key(table: &Table, known: &[&str]) -> bool {
    let inner = table.entries.iter().filter_map(|entry| entry.node.as_table());
    table.entries.iter().any(|entry| known.contains(&entry.key.as_str()))
        || inner.into_iter().any(|inner| holds_a_key(inner, known))
}

/// The keys of a definition, as far as they tell one from a part of a name.
pub(super) fn definition_keys(section: &str) -> &'static [&'static str] {
    match section {
        "topics" => &[
            "topic",
            "partitions",
            "replication",
            "retention",
            "cleanup",
            "max_message_bytes",
            "compression",
            "linger",
            "schema",
            "settings",
            "external",
            "was",
            "description",
            "owner",
            "runbook",
            "labels",
        ],
        "dlqs" => &[
            "topic",
            "partitions",
            "replication",
            "retention",
            "cleanup",
            "max_message_bytes",
            "compression",
            "linger",
            "settings",
            "headers",
            "was",
            "description",
            "owner",
            "runbook",
            "labels",
        ],
        "retries" => &[
            "max_attempts",
            "backoff",
            "delays",
            "on",
            "not_on",
            "in_place_up_to",
            "on_exhausted",
            "was",
            "description",
            "owner",
            "runbook",
            "labels",
        ],
        "http_clients" => &[
            "base_url",
            "bearer",
            "basic",
            "headers",
            "timeout",
            "connect_timeout",
            "max_response_bytes",
            "max_connections",
            "was",
            "description",
            "owner",
            "runbook",
            "labels",
        ],
        "stages" => &STAGE_KEYS,
        "queues" => &[
            "workers",
            "concurrency",
            "global_concurrency",
            "per_key",
            "fairness",
            "rate",
            "was",
            "description",
            "owner",
            "runbook",
            "labels",
        ],
        "jobs" => &JOB_KEYS,
        "databases" => &["url", "max_connections", "was", "description", "owner", "runbook", "labels"],
        _ => &["steps", "description", "owner", "runbook", "labels"],
    }
}
