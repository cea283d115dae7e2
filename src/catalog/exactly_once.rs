//! What `delivery = "exactly-once"` asks of a stage: it is kept between Kafka topics, or within the database that the
//! stage writes, and nowhere else.

use std::time::Duration;

use super::Guarantee;
use super::scene::Scene;
use super::stages::WrittenStage;
use super::steps::WrittenStep;
use crate::base::format_duration;
use crate::diag::{Diagnostic, Span, codes};
use crate::expr::Root;
use crate::spec::{Spanned, StageSpec};
use crate::steps::StepPlan;

/// The longest `commit_interval`: half of what the broker lets a transaction stay open.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

/// One stage that shall be exactly-once.
struct Place<'s, 'a> {
    scene: &'s Scene<'a>,
    written: &'s WrittenStage<'a>,
    delivery: &'s Spanned<Guarantee>,
    what: &'s str,
}

/// Where it is said that a stage is exactly-once in the database that its steps write; `None`: it is not.
pub(super) fn in_database(spec: &StageSpec<'_>, plans: &[StepPlan]) -> Option<Span> {
    let delivery = said(spec)?;
    let no_outputs = spec.outputs.as_ref().is_some_and(Vec::is_empty);
    (no_outputs && plans.iter().any(|plan| plan.body.deferred().is_some())).then_some(delivery.span)
}

fn said<'s>(spec: &'s StageSpec<'_>) -> Option<&'s Spanned<Guarantee>> {
    spec.delivery.as_ref().filter(|word| word.known && word.value == Guarantee::ExactlyOnce)
}

/// Judges a stage and, where it is exactly-once in a database, lets its steps leave to that what they would change.
pub(super) fn check(scene: &Scene<'_>, written: &WrittenStage<'_>, what: &str, plans: &mut [StepPlan]) {
    let spec = &written.spec;
    let Some(delivery) = said(spec) else { return };
    let place = Place { scene, written, delivery, what };
    let in_database = in_database(spec, plans).is_some();
    place.check_steps(plans, in_database);
    if in_database {
        place.check_database(plans);
        for plan in plans {
            plan.body = plan.body.deferred().unwrap_or_else(|| plan.body.clone());
        }
        return;
    }
    place.check_interval();
    if spec.outputs.as_ref().is_some_and(Vec::is_empty) && delivery.own {
        let message = format!("`delivery` of {what} has no effect");
        scene.report(
            Diagnostic::new(&codes::STAGE_POINTLESS, message)
                .at(delivery.span, "there are no outputs")
                .help("remove it, write `to` or `[[….outputs]]`, or let an `sql` step change a database"),
        );
    }
}

fn kind(step: &WrittenStep<'_>, plan: &StepPlan) -> Span {
    step.table.get(plan.kind).map_or(step.table.span, |kind| kind.key_span)
}

/// The place of a key of a step's `sql`.
fn key(step: &WrittenStep<'_>, name: &str) -> Option<Span> {
    Some(step.table.get("sql")?.node.as_table()?.get(name)?.key_span)
}

impl Place<'_, '_> {
    /// Steps that change what is outside of what moves together.
    fn check_steps(&self, plans: &[StepPlan], in_database: bool) {
        let what = self.what;
        let holds = if in_database { "holds within the database" } else { "holds between Kafka topics only" };
        for (step, plan) in self.written.steps.iter().zip(plans) {
            let left = plan.body.deferred().is_some();
            if plan.body.is_repeatable() || left && in_database {
                continue;
            }
            if left {
                let message = format!(
                    "step `{}` of {what} writes a database and the stage writes topics: no transaction holds both",
                    plan.name
                );
                let finding = Diagnostic::new(&codes::DELIVERY_TWO_PLACES, message)
                    .at(kind(step, plan), "writes a database");
                let to = self.written.spec.to.unwrap_or(self.delivery.span);
                self.scene.report(finding.also(to, "writes topics").help(
                    "let one stage write the database and another one the topics, write `repeatable = true` where \
                     asking twice changes nothing, or leave `delivery` at-least-once",
                ));
                continue;
            }
            let message = format!(
                "step `{}` of {what} asks for something that may change what is outside, which an exactly-once stage \
                 may do twice",
                plan.name
            );
            self.scene.report(
                Diagnostic::new(&codes::DELIVERY_UNKEPT, message)
                    .at(kind(step, plan), "done again where a transaction is aborted")
                    .also(self.delivery.span, holds)
                    .help(
                        "let it only read, write `repeatable = true` where asking twice changes nothing, or leave \
                         `delivery` at-least-once",
                    ),
            );
        }
    }

    fn check_interval(&self) {
        let interval = self.written.spec.commit_interval.as_ref();
        let Some(interval) = interval.filter(|wait| wait.known && wait.value > LONGEST_INTERVAL) else {
            return;
        };
        let message =
            format!("{} would keep a transaction open for longer than the broker allows", self.what);
        self.scene.report(
            Diagnostic::new(&codes::DELIVERY_UNKEPT, message)
                .at(interval.span, format!("at most {}", format_duration(LONGEST_INTERVAL)))
                .also(self.delivery.span, "commits in transactions")
                .help("shorten `commit_interval`; 100ms unless it is set"),
        );
    }

    /// What is changed in the database comes last, and all of it in one.
    fn check_database(&self, plans: &[StepPlan]) {
        let mut before: Vec<(&WrittenStep<'_>, &StepPlan)> = Vec::new();
        for (step, plan) in self.written.steps.iter().zip(plans) {
            let left = plan.body.deferred().is_some();
            self.check_behind(&before, step, plan, left);
            if left {
                self.check_left(step, plan);
                before.push((step, plan));
            }
        }
        if let Some(dedupe) = &self.written.spec.dedupe {
            let message =
                format!("{} tells equal records by marks in Kafka, and writes a database", self.what);
            self.scene.report(
                Diagnostic::new(&codes::DELIVERY_TWO_PLACES, message)
                    .at(dedupe.span, "marks are in Kafka")
                    .also(self.delivery.span, "holds within the database")
                    .help(
                        "remove it, and let a unique key of the table and `on conflict do nothing` tell them",
                    ),
            );
        }
    }

    /// A step with all before it that write.
    fn check_behind(
        &self,
        before: &[(&WrittenStep<'_>, &StepPlan)],
        step: &WrittenStep<'_>,
        plan: &StepPlan,
        left: bool,
    ) {
        let Some((first_step, first)) = before.first() else { return };
        let (what, place, first_place) = (self.what, kind(step, plan), kind(first_step, first));
        let report = |message: String, label: &str, help: &str| {
            self.scene.report(
                Diagnostic::new(&codes::DELIVERY_WRITES_LAST, message)
                    .at(place, label)
                    .also(first_place, "carried out with the offset, behind all steps")
                    .help(help),
            );
        };
        if !left {
            let message = format!("step `{}` of {what} stands behind what the stage writes", plan.name);
            let help = "move it in front of the steps that write the database";
            return report(message, "runs before that is written", help);
        }
        let database = |plan: &StepPlan| plan.body.asked().and_then(|asked| asked.database.clone());
        if database(plan) != database(first) {
            let message = format!("{what} writes two databases: no transaction holds both");
            self.scene.report(
                Diagnostic::new(&codes::DELIVERY_TWO_PLACES, message)
                    .at(place, "writes another one")
                    .also(first_place, "writes one")
                    .help("let a stage write each of them"),
            );
        }
        let mut named = plan.body.named();
        named.extend(plan.when.iter().flat_map(|when| when.names()));
        let written = |name: &str| before.iter().any(|(_, plan)| *plan.name == *name);
        if let Some(named) = named.iter().find(|named| named.root == Root::Steps && written(&named.name)) {
            let message =
                format!("step `{}` of {what} reads `steps.{}`, which writes", plan.name, named.name);
            let help = "write both as one statement, `with … as (insert … returning …)`";
            report(message, "what that gives is not known yet", help);
        }
    }

    /// What has no meaning for a step that is carried out behind all others.
    fn check_left(&self, step: &WrittenStep<'_>, plan: &StepPlan) {
        let message = |what: &str| format!("`{what}` of step `{}` of {} has no effect", plan.name, self.what);
        for name in ["into", "result"] {
            let Some(place) = key(step, name) else { continue };
            self.scene.report(
                Diagnostic::new(&codes::DELIVERY_WRITES_LAST, message(name))
                    .at(place, "the rows come when all steps have ended")
                    .also(self.delivery.span, "writes with the offset")
                    .help("remove it, or read the rows by a step before, with `select`"),
            );
        }
        if let Some(retry) = step.table.get("retry") {
            self.scene.report(
                Diagnostic::new(&codes::STAGE_POINTLESS, message("retry"))
                    .at(retry.key_span, "the stage's own policy counts")
                    .also(self.delivery.span, "writes with the offset")
                    .help("write it as `retry` of the stage"),
            );
        }
    }
}
