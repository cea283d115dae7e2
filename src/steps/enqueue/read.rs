//! The step's table in TOML.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::step::{Enqueue, TIMEOUT, Wanted};
use crate::diag::{Diagnostic, Span, codes};
use crate::expr::{Root, TemplateTree};
use crate::spec::TableReader;
use crate::steps::ports::JobKind;
use crate::steps::{PlanContext, StepBody};

pub(in crate::steps) fn read(
    table: &mut TableReader<'_>,
    context: &PlanContext<'_>,
) -> Option<Arc<dyn StepBody>> {
    let timeout = table.duration("timeout").map_or(TIMEOUT, |timeout| timeout.value);
    let mut inner = table.table("enqueue")?;
    let each = inner.text("each");
    // What is made of each item may look at it.
    let inside = match &each {
        Some(_) => &PlanContext { roots: context.roots.with(Root::Item), ..*context },
        None => context,
    };
    let each = each.map(|text| context.expression(&text));
    let wanted = read_wanted(&mut inner, inside);
    let unique = inner.text("unique").map(|text| inside.template(&text));
    let run_at = inner.text("run_at").map(|text| context.template(&text));
    let delay = read_delay(&mut inner);
    let expires = inner.duration("expires").map(|wait| wait.value);
    let priority = inner.integer("priority", 1..=9);
    let max_attempts = inner.integer("max_attempts", 1..=1_000);
    let then = read_then(&mut inner, context);
    inner.finish();
    let (kind, args) = wanted?;
    let small = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    Some(Arc::new(Enqueue {
        timeout,
        wanted: Wanted { kind, args },
        each: each.map_or(Some(None), |each| each.map(Some))?,
        unique: unique.map_or(Some(None), |unique| unique.map(Some))?,
        run_at: run_at.map_or(Some(None), |run_at| run_at.map(Some))?,
        delay: delay?,
        expires,
        priority: priority.map(|number| small(number.value)),
        max_attempts: max_attempts.map(|number| small(number.value)),
        then: then?,
    }))
}

/// `kind` and `args`, and whether the two fit as far as that is known now.
fn read_wanted(
    table: &mut TableReader<'_>,
    context: &PlanContext<'_>,
) -> Option<(Arc<JobKind>, Option<TemplateTree>)> {
    let kind = table.required("kind", TableReader::name);
    let node = table.node("args");
    let args = node.map(|node| context.tree(node));
    let kind = (context.job)(&kind?)?;
    let args = args.map_or(Some(None), |args| args.map(Some))?;
    // Without `args` each item is its own, which is not known.
    let given = match &args {
        Some(tree) => tree.constant(),
        None if context.roots.contains(Root::Item) => None,
        None => Some(Json::Object(Default::default())),
    };
    let refused = given.and_then(|given| kind.check(&given).err());
    if let Some(failure) = refused {
        let place = node.map_or_else(|| table.span(), |node| node.span);
        report_args(&table.what, &kind, place, &failure.message, context);
        return None;
    }
    Some((kind, args))
}

fn report_args(what: &str, kind: &JobKind, place: Span, why: &str, context: &PlanContext<'_>) {
    context.diagnostics.push(
        Diagnostic::new(
            &codes::JOB_ARGS,
            format!("job `{}` refuses the args that {what} gives it", kind.name),
        )
        .at(place, why.to_owned())
        .help("give it the args that its `args_schema` asks for"),
    );
}

/// `None`: `run_at` says the same.
fn read_delay(table: &mut TableReader<'_>) -> Option<Option<Duration>> {
    let delay = table.duration("delay");
    let (Some(run_at), Some(entry)) = (table.entry("run_at"), table.entry("delay")) else {
        return Some(delay.map(|delay| delay.value));
    };
    table.report(
        Diagnostic::new(&codes::KEY_CONFLICT, format!("{} has both `run_at` and `delay`", table.what))
            .at(entry.key_span, "from now on")
            .also(run_at.key_span, "at a time")
            .help("keep one of the two"),
    );
    None
}

fn read_then(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Option<Wanted>> {
    let Some(entry) = table.entry("then") else { return Some(None) };
    if table.entry("each").is_none() {
        let message = format!("{} has a `then`, but no `each`", table.what);
        table.report(
            Diagnostic::new(&codes::KEY_MISSING, message)
                .at(entry.key_span, "after which jobs?")
                .help("add `enqueue.each`; what comes after one job is that job's own step"),
        );
    }
    let mut inner = table.table("then")?;
    let wanted = read_wanted(&mut inner, context);
    inner.finish();
    let (kind, args) = wanted?;
    Some(Some(Wanted { kind, args }))
}
