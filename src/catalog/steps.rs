//! The steps of a stage: groups written out, names told apart, each planned by its kind.

use std::sync::Arc;

use super::scene::Scene;
use super::{http_steps, strays};
use crate::diag::{Diagnostic, Span, codes, nearest};
use crate::expr::RootSet;
use crate::spec::{Definition, Spanned, Table, TableReader, is_name, read_step_group};
use crate::steps::{KINDS, StepPlan};

/// How many records may be inside waiting steps where nothing is said.
pub(super) const DEFAULT_CONCURRENCY: usize = 16;

/// Kinds that leave the value as it is.
const PASSING: [&str; 4] = ["validate", "filter", "log", "fail"];

/// A step as it stands in a file, after groups are written out.
#[derive(Debug, Clone, Copy)]
pub(super) struct WrittenStep<'a> {
    pub(super) table: &'a Table,
    /// Where a group that holds it is used.
    pub(super) used_at: Option<Span>,
}

/// What kind of place holds steps.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    /// The section of such places.
    pub(super) section: &'static str,
    /// What one is called.
    pub(super) noun: &'static str,
    /// Its keys, which may end up in a step by mistake.
    pub(super) keys: &'static [&'static str],
    /// What its steps see.
    pub(super) roots: RootSet,
}

/// One place that holds steps.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) owner: Owner,
    pub(super) name: &'a str,
    pub(super) table: &'a Table,
}

/// Writes out `use = "GROUP"`.
pub(super) fn expand<'a>(
    scene: &Scene<'a>,
    tables: &[&'a Table],
    what: &str,
    owner: Owner,
) -> Vec<WrittenStep<'a>> {
    let mut steps = Vec::with_capacity(tables.len());
    let mut inside = Vec::new();
    expand_into(scene, tables, (what, owner), None, &mut inside, &mut steps);
    steps
}

fn expand_into<'a>(
    scene: &Scene<'a>,
    tables: &[&'a Table],
    (what, owner): (&str, Owner),
    used_at: Option<Span>,
    inside: &mut Vec<(String, Span)>,
    steps: &mut Vec<WrittenStep<'a>>,
) {
    for table in tables {
        if table.get("use").is_none() {
            steps.push(WrittenStep { table, used_at });
            continue;
        }
        let label = format!("a step of {what}");
        let (table, _) = strays::without(scene, table, &label, owner);
        let Some(name) = read_use(TableReader::new(&table, label, scene.read)) else { continue };
        scene.used.borrow_mut().insert(("step_groups", name.value.clone()));
        if let Some((_, first)) = inside.iter().find(|(group, _)| *group == name.value) {
            scene.report(
                Diagnostic::new(&codes::STEP_GROUP_CYCLE, format!("step group `{}` uses itself", name.value))
                    .at(name.span, "again here")
                    .also(*first, "is being written out here")
                    .help("take the step out, or put what both need into a group of its own"),
            );
            continue;
        }
        let Some(group) = scene.sections.step_groups.get(name.value.as_str()) else {
            let near = nearest(&name.value, scene.sections.step_groups.keys().copied());
            scene.undefined(
                Diagnostic::new(
                    &codes::STEP_GROUP_UNDEFINED,
                    format!("{what} uses undefined step group `{}`", name.value),
                )
                .at(name.span, "no such step group")
                .help(match near {
                    Some(near) => format!("a step group with a similar name exists: `{near}`"),
                    None => format!("define it: [[step_groups.{}.steps]]", name.value),
                }),
            );
            continue;
        };
        let tables = group_steps(scene, &name.value, *group);
        inside.push((name.value, name.span));
        expand_into(scene, &tables, (what, owner), Some(used_at.unwrap_or(name.span)), inside, steps);
        inside.pop();
    }
}

/// Reads a step that stands for a group.
pub(super) fn read_use(mut reader: TableReader<'_>) -> Option<Spanned<String>> {
    let name = reader.name("use");
    reader.finish();
    name
}

/// Checks the keys of groups; their steps are checked where they are used.
pub(super) fn group_steps<'a>(scene: &Scene<'a>, name: &str, group: Definition<'a>) -> Vec<&'a Table> {
    read_step_group(TableReader::new(group.table, format!("step group `{name}`"), scene.read))
}

/// Plans the steps of a place; `None` where one cannot be. Of a group that nothing uses there is no `place`.
pub(super) fn plan(
    scene: &Scene<'_>,
    steps: &[WrittenStep<'_>],
    what: &str,
    owner: Owner,
    place: Option<Place<'_>>,
) -> Option<Vec<StepPlan>> {
    let mut plans = Vec::with_capacity(steps.len());
    let mut earlier: Vec<Arc<str>> = Vec::new();
    let mut names: Vec<(String, Span)> = Vec::new();
    let mut complete = true;
    for (index, step) in steps.iter().enumerate() {
        let label = format!("step {} of {what}", index + 1);
        let (table, strays) = strays::without(scene, step.table, &label, owner);
        check_name(scene, step, what, &mut names);
        complete &= !strays;
        let name = name_of(&table);
        let label = name.as_ref().map_or(label, |name| format!("step `{name}` of {what}"));
        http_steps::check(scene, &table, &label, owner.roots);
        check_exec(scene, &table, &label);
        if let Some(place) = place.filter(|_| step.used_at.is_none()) {
            strays::warn_of_fields(scene, &table, place, &label);
        }
        let mut reader = TableReader::new(&table, label, scene.read);
        if let Some(Place { name, .. }) = place {
            reader = reader.noted_as(|| format!("{}/{name}/steps/{index}", owner.section));
        }
        match scene.planning(owner.roots, &earlier, |context| crate::steps::plan(reader, context)) {
            Some(plan) => {
                earlier.push(Arc::clone(&plan.name));
                plans.push(plan);
            }
            None => {
                // Its result counts as there, so that what reads it is not blamed as well.
                earlier.extend(name.map(Arc::from));
                complete = false;
            }
        }
    }
    complete.then_some(plans)
}

/// The schema that the value satisfies behind the last step, where a `validate` says so.
pub(super) fn schema_behind<'a>(steps: &[WrittenStep<'a>]) -> Option<(&'a str, Span)> {
    for step in steps.iter().rev() {
        if let Some(entry) = step.table.get("validate") {
            let node = match entry.node.as_table() {
                Some(table) => &table.get("schema")?.node,
                None => &entry.node,
            };
            return match &node.value {
                crate::spec::NodeValue::String(name) if step.table.get("when").is_none() => {
                    Some((name, node.span))
                }
                _ => None,
            };
        }
        if !step.table.entries.iter().any(|entry| PASSING.contains(&entry.key.as_str())) {
            return None;
        }
    }
    None
}

/// Warns of batches that can never fill: records that wait in one hold places of `concurrency`.
pub(super) fn check_batches(
    scene: &Scene<'_>,
    plans: &[StepPlan],
    concurrency: Option<&Spanned<i64>>,
    what: &str,
) {
    if concurrency.is_some_and(|concurrency| !concurrency.known) {
        return;
    }
    let places = concurrency.map_or(DEFAULT_CONCURRENCY, |places| usize::try_from(places.value).unwrap_or(0));
    for plan in plans {
        let Some(records) = plan.body.gathering().map(|gathering| &gathering.records) else { continue };
        if !records.known || records.value <= places {
            continue;
        }
        let message = format!(
            "a batch of step `{}` waits for {} records, but {what} works on {places} at one time",
            plan.name, records.value
        );
        let finding =
            Diagnostic::new(&codes::STEP_BATCH_NEVER_FULL, message).at(records.span, "never reached");
        scene.report(match concurrency {
            Some(concurrency) => finding
                .also(concurrency.span, "at one time")
                .help(format!("raise `concurrency` to {}, or lower `records`", records.value)),
            None => finding.help(format!(
                "set `concurrency = {}` in the stage (it is {places} unless it is set), or lower `records`",
                records.value
            )),
        });
    }
}

/// Says that a program is started only where the deployment allows it.
fn check_exec(scene: &Scene<'_>, table: &Table, label: &str) {
    let Some(entry) = table.get("exec").filter(|_| !scene.programs_allowed) else { return };
    scene.report(
        Diagnostic::new(&codes::EXEC_NOT_ALLOWED, format!("{label} starts a program"))
            .at(entry.key_span, "only where the deployment allows it")
            .help("run engines with `--allow-exec` or BIPLANE_ALLOW_EXEC=true; the variable keeps `check` quiet, too"),
    );
}

fn name_of(table: &Table) -> Option<String> {
    let given = table.get("name").and_then(|entry| entry.node.as_text()).map(|name| name.value);
    given.or_else(|| {
        let kind = table.entries.iter().find(|entry| KINDS.contains(&entry.key.as_str()));
        kind.map(|entry| entry.key.clone())
    })
}

fn check_name(scene: &Scene<'_>, step: &WrittenStep<'_>, what: &str, names: &mut Vec<(String, Span)>) {
    let Some(name) = name_of(step.table) else { return };
    let given = step.table.get("name");
    if let Some(entry) = given.filter(|_| !is_name(&name)) {
        scene.report(
            Diagnostic::new(&codes::NAME_INVALID, format!("`{name}` cannot be the name of a step"))
                .at(entry.node.span, "not a name")
                .help("a name begins with a letter and goes on with a-z, 0-9, `.`, `_` and `-`"),
        );
    }
    let own =
        given.map(|entry| entry.node.span).or_else(|| step.table.get(&name).map(|entry| entry.key_span));
    let place = own.unwrap_or(step.table.span);
    let Some((_, first)) = names.iter().find(|(known, _)| *known == name) else {
        names.push((name, place));
        return;
    };
    let finding =
        Diagnostic::new(&codes::STEP_NAME_DUPLICATE, format!("two steps of {what} are named `{name}`"));
    let finding = match step.used_at {
        // The same group twice is one place in the file; where it is used tells them apart.
        Some(used) if *first == place => finding.at(used, "used again here").also(place, "this step"),
        _ => finding.at(place, "the second").also(*first, "the first"),
    };
    scene.report(if given.is_none() {
        finding.help("a step is named after its type; give one of them a `name`")
    } else {
        finding.help("give one of them another name")
    });
}
