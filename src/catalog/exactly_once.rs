//! What `delivery = "exactly-once"` asks of a stage: it is kept between Kafka topics and nowhere else.

use std::time::Duration;

use super::Guarantee;
use super::scene::Scene;
use super::stages::WrittenStage;
use crate::base::format_duration;
use crate::diag::{Diagnostic, codes};
use crate::steps::StepPlan;

/// The longest `commit_interval`: half of what the broker lets a transaction stay open.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

pub(super) fn check(scene: &Scene<'_>, written: &WrittenStage<'_>, what: &str, plans: &[StepPlan]) {
    let spec = &written.spec;
    let delivery = spec.delivery.as_ref().filter(|word| word.known && word.value == Guarantee::ExactlyOnce);
    let Some(delivery) = delivery else { return };
    for (step, plan) in written.steps.iter().zip(plans).filter(|(_, plan)| !plan.body.is_repeatable()) {
        let message = format!(
            "step `{}` of {what} asks for something that may change what is outside, which an exactly-once stage \
             may do twice",
            plan.name
        );
        let place = step.table.get(plan.kind).map_or(step.table.span, |kind| kind.key_span);
        scene.report(
            Diagnostic::new(&codes::DELIVERY_UNKEPT, message)
                .at(place, "done again where a transaction is aborted")
                .also(delivery.span, "holds between Kafka topics only")
                .help(
                    "let it only read, write `repeatable = true` where asking twice changes nothing, or leave \
                     `delivery` at-least-once",
                ),
        );
    }
    if let Some(interval) =
        spec.commit_interval.as_ref().filter(|wait| wait.known && wait.value > LONGEST_INTERVAL)
    {
        let message = format!("{what} would keep a transaction open for longer than the broker allows");
        scene.report(
            Diagnostic::new(&codes::DELIVERY_UNKEPT, message)
                .at(interval.span, format!("at most {}", format_duration(LONGEST_INTERVAL)))
                .also(delivery.span, "commits in transactions")
                .help("shorten `commit_interval`; 100ms unless it is set"),
        );
    }
    if spec.outputs.as_ref().is_some_and(Vec::is_empty) && delivery.own {
        let message = format!("`delivery` of {what} has no effect");
        scene.report(
            Diagnostic::new(&codes::STAGE_POINTLESS, message)
                .at(delivery.span, "there are no outputs")
                .help("remove it, or write `to` or `[[….outputs]]`"),
        );
    }
}
