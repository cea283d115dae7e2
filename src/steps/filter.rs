//! `filter`: records for which the expression is not true end here, counted.

use std::sync::Arc;

use super::{Flow, ItemScope, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::expr::{Expression, RootSet};
use crate::record::Item;
use crate::spec::TableReader;

#[derive(Debug, Clone)]
struct Filter(Expression);

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    let text = table.text("filter")?;
    Some(Arc::new(Filter(context.expression(&text)?)))
}

impl StepBody for Filter {
    fn kind(&self) -> &'static str {
        "filter"
    }

    fn reads(&self) -> RootSet {
        self.0.reads()
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Filter {
    fn run<'r>(&self, item: &mut Item<'r>, context: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let keep = self.0.truthy(&ItemScope::new(item, context.env))?;
        Ok(if keep { Flow::Next } else { Flow::Filtered })
    }
}

#[cfg(test)]
mod tests {
    use crate::steps::testing::Bench;
    use serde_json::json;

    #[test]
    fn only_records_for_which_it_is_true_go_on() {
        let bench = Bench::new("filter = \"value.kind != 'heartbeat'\"");
        assert_eq!(bench.run(json!({"kind": "mail"})).unwrap(), [json!({"kind": "mail"})]);
        assert!(bench.run(json!({"kind": "heartbeat"})).unwrap().is_empty());
    }

    #[test]
    fn a_missing_field_is_an_error_and_not_false() {
        let failure = Bench::new("filter = \"value.kind == 'mail'\"").run(json!({})).unwrap_err();
        assert_eq!((&*failure.code, failure.step.as_deref()), ("undefined", Some("filter")));
    }

    #[test]
    fn what_does_not_compile_is_reported_with_its_code() {
        assert_eq!(Bench::findings("filter = \"valu.kind\""), ["expression::unknown"]);
        assert_eq!(Bench::findings("filter = \"value.kind == \""), ["expression::syntax"]);
        assert_eq!(Bench::findings("filter = \"{{ value.kind }}\""), ["expression::braces"]);
        assert_eq!(Bench::findings("filter = \"steps.tenant.status == 200\""), ["expression::unknown-step"]);
        assert_eq!(Bench::findings("filter = \"env.nothing == 1\""), ["env::undefined"]);
    }
}
