//! The language as those know it who read it: the shape of every section, of every kind of step and of
//! an env value, learnt from the readers themselves. A key that is read is in it, and no other.

use indexmap::IndexMap;

use super::Tree;
use super::steps::read_use;
use crate::diag::Diagnostics;
use crate::expr::RootSet;
use crate::spec::{
    DatabaseSpec, DlqSpec, EnvSpec, HttpClientSpec, JobSpec, NoSettings, QueueSpec, ReadContext, RetrySpec,
    SECTIONS, Shape, StageSpec, Table, TableReader, TopicSpec, explore, read_step_group,
};
use crate::steps::{KINDS, PlanContext, Schemas, Tables, plan};

/// What the files may hold.
#[derive(Debug)]
pub struct Language {
    /// One definition of each section whose definitions have names.
    pub sections: IndexMap<&'static str, Shape>,
    /// One value of `[env]`.
    pub env: Shape,
    /// A step of each kind, with the keys that all take.
    pub steps: IndexMap<&'static str, Shape>,
    /// A step that stands for a group.
    pub group_use: Shape,
}

impl Language {
    /// Asks every reader.
    pub fn learn() -> Self {
        let sections = SECTIONS.into_iter().filter_map(|section| Some((section, definition(section)?)));
        Self {
            sections: sections.collect(),
            env: explore(None, &|table, context| {
                EnvSpec::read_fields(TableReader::new(table, "env value", context));
            }),
            steps: KINDS.into_iter().map(|kind| (kind, step(kind))).collect(),
            group_use: explore(None, &|table, context| {
                read_use(TableReader::new(table, "step", context));
            }),
        }
    }
}

/// Reads one definition of a section, for its findings and notes alone; false: its definitions have no
/// names.
pub(super) fn read_definition(section: &str, reader: TableReader<'_>) -> bool {
    match section {
        "topics" => drop(TopicSpec::read(reader)),
        "dlqs" => drop(DlqSpec::read(reader)),
        "retries" => drop(RetrySpec::read(reader)),
        "http_clients" => drop(HttpClientSpec::read(reader)),
        "stages" => drop(StageSpec::read(reader)),
        "queues" => drop(QueueSpec::read(reader)),
        "jobs" => drop(JobSpec::read(reader)),
        "databases" => drop(DatabaseSpec::read(reader)),
        "step_groups" => drop(read_step_group(reader)),
        _ => return false,
    }
    true
}

/// The shape of a definition; `None`: the section's definitions have no names.
pub(super) fn definition(section: &str) -> Option<Shape> {
    let (nothing, unread) = (Table::default(), Diagnostics::default());
    let context = ReadContext::new(&unread, &NoSettings);
    read_definition(section, TableReader::new(&nothing, section, context)).then(|| {
        explore(None, &|table, context| {
            read_definition(section, TableReader::new(table, section, context));
        })
    })
}

fn step(kind: &str) -> Shape {
    let (files, schemas, tables) = (Tree::default(), Schemas::default(), Tables::default());
    explore(Some(kind), &|table, context| {
        let planning = PlanContext {
            diagnostics: context.diagnostics,
            roots: RootSet::RECORD,
            env: &[],
            earlier: &[],
            files: &files,
            schemas: &schemas,
            tables: &tables,
            retry: &|_| None,
            http_client: &|_| None,
            database: &|_| None,
            job: &|_| None,
            topic: &|_| None,
        };
        plan(TableReader::new(table, "step", context), &planning);
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::catalog::dots::definition_keys;
    use crate::spec::{NAMED_SECTIONS, STAGE_KEYS};
    use crate::steps::COMMON_KEYS;

    fn keys(shape: &Shape) -> BTreeSet<&str> {
        shape.keys.keys().map(String::as_str).collect()
    }

    #[test]
    fn every_section_with_names_has_a_shape() {
        let language = Language::learn();
        let unnamed = ["env", "defaults", "removed"];
        let named = SECTIONS.into_iter().filter(|section| !unnamed.contains(section));
        assert_eq!(language.sections.keys().copied().collect::<Vec<_>>(), named.collect::<Vec<_>>());
        for section in NAMED_SECTIONS {
            assert!(language.sections.contains_key(section), "{section}");
        }
    }

    #[test]
    fn the_lists_that_findings_draw_on_are_what_is_read() {
        let language = Language::learn();
        assert_eq!(keys(&language.sections["stages"]), BTreeSet::from(STAGE_KEYS));
        for section in NAMED_SECTIONS {
            let known = definition_keys(section).iter().copied().collect();
            assert_eq!(keys(&language.sections[section]), known, "{section}");
        }
        for (kind, shape) in &language.steps {
            let expected: BTreeSet<_> = COMMON_KEYS.into_iter().chain([*kind]).collect();
            assert_eq!(keys(shape), expected);
        }
        assert_eq!(keys(&language.group_use), BTreeSet::from(["use"]));
    }
}
