//! The step's table in TOML.

use std::sync::Arc;
use std::time::Duration;

use super::child::Limits;
use super::step::{Exec, Mode};
use crate::diag::{Diagnostic, codes};
use crate::expr::{RootSet, Template};
use crate::spec::{Entry, Spanned, TableReader};
use crate::steps::path::FieldPath;
use crate::steps::{PlanContext, StepBody};

/// How long a run may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How much a program may write where nothing is said.
const OUTPUT: usize = 1 << 20;
/// The most programs that are kept alive.
const MAX_PROGRAMS: i64 = 256;

pub(in crate::steps) fn read(
    table: &mut TableReader<'_>,
    context: &PlanContext<'_>,
) -> Option<Arc<dyn StepBody>> {
    let timeout = table.duration("timeout").map(|timeout| timeout.value);
    let mut inner = table.table("exec")?;
    let argv = inner.required("argv", TableReader::texts);
    let mode = inner.word("mode", &[("once", false), ("lines", true)]).is_some_and(|word| word.value);
    let programs = inner.integer("programs", 1..=MAX_PROGRAMS);
    let folder = inner.text("folder");
    let output = inner.size("max_output_bytes").map_or(OUTPUT, |size| size.value.as_usize());
    let limits = read_limits(&mut inner);
    let repeatable = inner.boolean("repeatable").is_some_and(|word| word.value);
    let into = read_into(&mut inner, context);
    let env = read_env(&mut inner, context);
    let fits = check_programs(&mut inner, mode);
    inner.finish();
    let program = argv.as_deref().and_then(|argv| read_program(argv, context));
    let arguments = argv.as_deref().map(|argv| read_arguments(argv, context));
    let (program, arguments, env) = (program?, arguments??, env?);
    let steady = arguments.iter().zip(argv.iter().flatten().skip(1));
    let steady = steady.map(|(template, text)| (template, text.clone()));
    let named = env.iter().map(|(name, template)| (template, name.clone()));
    let steady = !mode || steady.chain(named).all(|(template, text)| is_steady(template, &text, context));
    (fits && steady).then_some(())?;
    Some(Arc::new(Exec {
        program,
        arguments,
        env: env.into_iter().map(|(name, template)| (name.value, template)).collect(),
        folder: folder.map(|folder| folder.value),
        into: into?,
        timeout: timeout.unwrap_or(TIMEOUT),
        output,
        limits,
        repeatable,
        mode: match mode {
            true => Mode::Lines {
                programs: programs.map_or(1, |count| usize::try_from(count.value).unwrap_or(1)),
            },
            false => Mode::Once,
        },
    }))
}

/// The program stands in the file: what comes from messages never says what is started.
fn read_program(argv: &[Spanned<String>], context: &PlanContext<'_>) -> Option<String> {
    let first = argv.first()?;
    let problem = match &first.value {
        text if text.is_empty() => "names nothing",
        text if text.contains("{{") || text.contains("{%") => "a template",
        text if text.split('/').any(|part| part == "..") => "leads out of its folder",
        text => return Some(text.clone()),
    };
    context.diagnostics.push(
        Diagnostic::new(&codes::EXEC_PROGRAM, "the first of `argv` is no program")
            .at(first.span, problem)
            .help("write the program as it is: a path below the config root, a whole path, or a name of the PATH"),
    );
    None
}

fn read_arguments(argv: &[Spanned<String>], context: &PlanContext<'_>) -> Option<Vec<Template>> {
    // All of them are compiled before one that is wrong ends it.
    let templates: Vec<_> = argv.iter().skip(1).map(|text| context.template(text)).collect();
    templates.into_iter().collect()
}

fn read_env(
    table: &mut TableReader<'_>,
    context: &PlanContext<'_>,
) -> Option<Vec<(Spanned<String>, Template)>> {
    if table.entry("env").is_none() {
        return Some(Vec::new());
    }
    let mut inner = table.table("env")?;
    let variable = |entry: &Entry| {
        let name = Spanned::new(entry.key.clone(), entry.key_span);
        match entry.node.as_text() {
            Some(text) => Some((name, context.template(&text)?)),
            None if entry.node.as_array().is_none() && entry.node.as_table().is_none() => {
                Some((name, Template::constant_value(entry.node.to_json())))
            }
            None => {
                table.wrong_type(&entry.key, &entry.node, "a string");
                None
            }
        }
    };
    let variables: Vec<_> = inner.rest().into_iter().map(variable).collect();
    variables.into_iter().collect()
}

fn read_limits(table: &mut TableReader<'_>) -> Limits {
    if table.entry("limits").is_none() {
        return Limits::default();
    }
    let Some(mut inner) = table.table("limits") else { return Limits::default() };
    let limits = Limits {
        memory: inner.size("memory").map(|size| size.value.0),
        cpu: inner.duration("cpu").map(|time| time.value.as_secs().max(1)),
        files: inner.integer("open_files", 8..=1_000_000).and_then(|count| u64::try_from(count.value).ok()),
    };
    inner.finish();
    limits
}

fn read_into(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Option<FieldPath>> {
    if table.entry("into").is_none() {
        return Some(None);
    }
    FieldPath::read(&table.text("into")?, context.diagnostics).map(Some)
}

/// A program that is kept alive is started before it knows a record.
fn is_steady(template: &Template, text: &Spanned<String>, context: &PlanContext<'_>) -> bool {
    if template.reads().union(RootSet::ENV) == RootSet::ENV {
        return true;
    }
    context.diagnostics.push(
        Diagnostic::new(
            &codes::EXEC_LINES,
            "a program that answers lines is started before it knows what comes",
        )
        .at(text.span, "hangs on a record or a job")
        .help("read it from the line on standard input, which is the value as JSON"),
    );
    false
}

fn check_programs(table: &mut TableReader<'_>, lines: bool) -> bool {
    let Some(entry) = table.entry("programs").filter(|_| !lines) else { return true };
    table.report(
        Diagnostic::new(
            &codes::KEY_MISSING,
            format!("{} has `programs`, but no `mode = \"lines\"`", table.what),
        )
        .at(entry.key_span, "each run starts a program of its own")
        .help("remove it, or add `exec.mode = \"lines\"`"),
    );
    false
}
