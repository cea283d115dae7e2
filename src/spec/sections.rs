//! The sections of all files together: each name once, with its table, not read further yet.

use indexmap::IndexMap;

use super::{Entry, Node, NodeValue, Spanned, Table};
use crate::diag::{Diagnostic, Diagnostics, Span, codes, nearest, words};

/// The definitions of one section by name.
pub type Definitions<'a> = IndexMap<&'a str, Definition<'a>>;

/// A name and its table.
#[derive(Debug, Clone, Copy)]
pub struct Definition<'a> {
    /// The place of the name.
    pub name_span: Span,
    /// What is written under it.
    pub table: &'a Table,
}

/// All that the files define.
#[derive(Debug, Default)]
pub struct Sections<'a> {
    /// `[env]`, value by value.
    pub env: IndexMap<&'a str, &'a Entry>,
    /// `[defaults.SECTION]`.
    pub defaults: Definitions<'a>,
    /// `[topics.NAME]`.
    pub topics: Definitions<'a>,
    /// `[dlqs.NAME]`.
    pub dlqs: Definitions<'a>,
    /// `[retries.NAME]`.
    pub retries: Definitions<'a>,
    /// `[http_clients.NAME]`.
    pub http_clients: Definitions<'a>,
    /// `[stages.NAME]`.
    pub stages: Definitions<'a>,
    /// `[queues.NAME]`.
    pub queues: Definitions<'a>,
    /// `[jobs.NAME]`.
    pub jobs: Definitions<'a>,
    /// `[databases.NAME]`.
    pub databases: Definitions<'a>,
    /// `[step_groups.NAME]`.
    pub step_groups: Definitions<'a>,
    /// `[removed]`: sections with the names that were given up.
    pub removed: Vec<(&'a str, Spanned<String>)>,
}

/// Everything that may stand at the top of a file.
pub const SECTIONS: [&str; 12] = [
    "env",
    "defaults",
    "topics",
    "dlqs",
    "retries",
    "http_clients",
    "stages",
    "queues",
    "jobs",
    "databases",
    "step_groups",
    "removed",
];

/// Sections that `defaults` and `removed` may name.
pub const NAMED_SECTIONS: [&str; 8] =
    ["topics", "dlqs", "retries", "http_clients", "stages", "queues", "jobs", "databases"];

/// What names look like, as a regular expression; [`check_name`] is the judge.
pub const NAME_PATTERN: &str = "^[a-z][a-z0-9._-]{0,199}$";

impl<'a> Sections<'a> {
    /// Adds what one file defines; what is defined before is reported with both places.
    pub fn add(&mut self, file: &'a Table, diagnostics: &Diagnostics) {
        for section in &file.entries {
            let NodeValue::Table(table) = &section.node.value else {
                diagnostics.push(not_a_section(section));
                continue;
            };
            match section.key.as_str() {
                "env" => self.add_env(table, diagnostics),
                "removed" => self.add_removed(table, diagnostics),
                "defaults" => {
                    check_defaults(table, diagnostics);
                    define(&mut self.defaults, "defaults", table, diagnostics);
                }
                name => match self.section(name) {
                    Some(definitions) => define(definitions, noun(name), table, diagnostics),
                    None => diagnostics.push(not_a_section(section)),
                },
            }
        }
    }

    /// The definitions of a section.
    pub fn named(&self, section: &str) -> Option<&Definitions<'a>> {
        match section {
            "topics" => Some(&self.topics),
            "dlqs" => Some(&self.dlqs),
            "retries" => Some(&self.retries),
            "http_clients" => Some(&self.http_clients),
            "stages" => Some(&self.stages),
            "queues" => Some(&self.queues),
            "jobs" => Some(&self.jobs),
            "databases" => Some(&self.databases),
            "step_groups" => Some(&self.step_groups),
            _ => None,
        }
    }

    fn section(&mut self, name: &str) -> Option<&mut Definitions<'a>> {
        match name {
            "topics" => Some(&mut self.topics),
            "dlqs" => Some(&mut self.dlqs),
            "retries" => Some(&mut self.retries),
            "http_clients" => Some(&mut self.http_clients),
            "stages" => Some(&mut self.stages),
            "queues" => Some(&mut self.queues),
            "jobs" => Some(&mut self.jobs),
            "databases" => Some(&mut self.databases),
            "step_groups" => Some(&mut self.step_groups),
            _ => None,
        }
    }

    fn add_removed(&mut self, table: &'a Table, diagnostics: &Diagnostics) {
        for entry in &table.entries {
            if !NAMED_SECTIONS.contains(&entry.key.as_str()) {
                diagnostics.push(unknown_section_key("removed", entry));
                continue;
            }
            let names: Option<Vec<_>> =
                entry.node.as_array().and_then(|nodes| nodes.iter().map(Node::as_text).collect());
            match names {
                Some(names) => self.removed.extend(names.into_iter().map(|name| (entry.key.as_str(), name))),
                None => {
                    let message = format!("`{}` of `removed` is {}", entry.key, entry.node.value.kind());
                    diagnostics.push(
                        Diagnostic::new(&codes::VALUE_TYPE, message)
                            .at(entry.node.span, "expected an array of names")
                            .help(format!("write a list: {} = [\"old-name\"]", entry.key)),
                    );
                }
            }
        }
    }

    fn add_env(&mut self, table: &'a Table, diagnostics: &Diagnostics) {
        for entry in &table.entries {
            check_name("env value", entry, diagnostics);
            match self.env.get(entry.key.as_str()) {
                Some(first) => diagnostics.push(twice("env value", entry, first.key_span)),
                None => {
                    self.env.insert(&entry.key, entry);
                }
            }
        }
    }
}

fn define<'a>(definitions: &mut Definitions<'a>, noun: &str, table: &'a Table, diagnostics: &Diagnostics) {
    for entry in &table.entries {
        let NodeValue::Table(inner) = &entry.node.value else {
            let message = format!("{noun} `{}` is {}", entry.key, entry.node.value.kind());
            diagnostics.push(
                Diagnostic::new(&codes::VALUE_TYPE, message)
                    .at(entry.node.span, "expected a table")
                    .help(format!("write it as a table of its own: [….{}]", entry.key)),
            );
            continue;
        };
        check_name(noun, entry, diagnostics);
        match definitions.get(entry.key.as_str()) {
            Some(first) => diagnostics.push(twice(noun, entry, first.name_span)),
            None => {
                definitions.insert(&entry.key, Definition { name_span: entry.key_span, table: inner });
            }
        }
    }
}

fn noun(section: &str) -> &'static str {
    match section {
        "topics" => "topic",
        "dlqs" => "DLQ",
        "retries" => "retry policy",
        "http_clients" => "HTTP client",
        "stages" => "stage",
        "queues" => "queue",
        "jobs" => "job",
        "databases" => "database",
        _ => "step group",
    }
}

fn twice(noun: &str, entry: &Entry, first: Span) -> Diagnostic {
    Diagnostic::new(&codes::NAME_DUPLICATE, format!("{noun} `{}` is defined twice", entry.key))
        .at(entry.key_span, "defined again here")
        .also(first, "first defined here")
        .help("give one of them another name, or keep one of the two")
}

fn check_name(noun: &str, entry: &Entry, diagnostics: &Diagnostics) {
    let key = &entry.key;
    if is_name(key) {
        return;
    }
    diagnostics.push(
        Diagnostic::new(&codes::NAME_INVALID, format!("`{key}` cannot be the name of a {noun}"))
            .at(entry.key_span, "not a name")
            .help("a name begins with a letter and goes on with a-z, 0-9, `.`, `_` and `-`"),
    );
}

/// Whether a text can be the name of something: a small letter, then small letters, digits, dots,
/// underscores and hyphens.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(plain) && text.len() <= 200
}

fn not_a_section(section: &Entry) -> Diagnostic {
    let finding = Diagnostic::new(&codes::SECTION_UNKNOWN, format!("there is no section `{}`", section.key))
        .at(section.key_span, "no such section");
    if SECTIONS.contains(&section.key.as_str()) {
        return Diagnostic::new(
            &codes::VALUE_TYPE,
            format!("section `{}` is {}", section.key, section.node.value.kind()),
        )
        .at(section.node.span, "expected a table")
        .help(format!("write [{}.NAME]", section.key));
    }
    finding.help(match nearest(&section.key, SECTIONS) {
        Some(near) => format!("a section with a similar name exists: `{near}`"),
        None => format!("known sections are {}", words(SECTIONS)),
    })
}

fn check_defaults(table: &Table, diagnostics: &Diagnostics) {
    for entry in table.entries.iter().filter(|entry| !NAMED_SECTIONS.contains(&entry.key.as_str())) {
        diagnostics.push(unknown_section_key("defaults", entry));
    }
}

fn unknown_section_key(place: &str, entry: &Entry) -> Diagnostic {
    Diagnostic::new(&codes::KEY_UNKNOWN, format!("`{place}` has no key `{}`", entry.key))
        .at(entry.key_span, "unknown key")
        .help(match nearest(&entry.key, NAMED_SECTIONS) {
            Some(near) => format!("a key with a similar name exists: `{near}`"),
            None => format!("known keys are {}", words(NAMED_SECTIONS)),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_pattern_of_names_is_what_is_judged(name in "[a-zA-Z0-9._ -]{0,8}|a{198,203}|.{0,6}") {
            let pattern = regex::Regex::new(NAME_PATTERN).unwrap();
            // In JSON Schema `$` is the very end, where this library lets a line end follow.
            prop_assert_eq!(pattern.is_match(&name) && !name.ends_with('\n'), is_name(&name));
        }
    }
}
