//! `fail`: a failure of the user's own, with a class and a code that policies and DLQs see.

use std::sync::Arc;

use super::{Flow, ItemScope, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::{Class, Failure, is_code, is_engine_code};
use crate::diag::{Diagnostic, codes};
use crate::expr::{RootSet, Template};
use crate::record::Item;
use crate::spec::TableReader;

/// The longest message that is kept.
const MAX_MESSAGE: usize = 1_024;

#[derive(Debug, Clone)]
struct Fail {
    class: Class,
    code: String,
    message: Template,
}

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    let mut inner = table.table("fail")?;
    let class = inner.word("class", &Class::ALL.map(|class| (class.as_str(), class)));
    let code = inner.required("code", TableReader::name);
    let message = inner.required("message", TableReader::text);
    inner.finish();
    let message = message.and_then(|text| context.template(&text));
    let code = code?;
    if !is_code(&code.value) {
        table.report(
            Diagnostic::new(&codes::NAME_INVALID, format!("`{}` is no code", code.value))
                .at(code.span, "not kebab-case")
                .help("codes are small letters, digits and hyphens and begin with a letter: `no-tenant`"),
        );
        return None;
    }
    if is_engine_code(&code.value) {
        table.report(
            Diagnostic::new(&codes::NAME_INVALID, format!("`{}` is a code of the engine", code.value))
                .at(code.span, "already means something else")
                .help("give failures of your own a code of their own, such as `no-tenant`"),
        );
        return None;
    }
    let class = class.map_or(Class::Permanent, |class| class.value);
    Some(Arc::new(Fail { class, code: code.value, message: message? }))
}

impl StepBody for Fail {
    fn kind(&self) -> &'static str {
        "fail"
    }

    fn reads(&self) -> RootSet {
        self.message.reads()
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Fail {
    fn run<'r>(&self, item: &mut Item<'r>, context: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let scope = ItemScope::new(item, context.env);
        let message = self.message.text(&scope)?.unwrap_or_default();
        let message: String = message.chars().take(MAX_MESSAGE).collect();
        Err(Failure::new(self.class, self.code.clone(), message))
    }
}

#[cfg(test)]
mod tests {
    use crate::base::Class;
    use crate::steps::testing::Bench;
    use serde_json::json;

    #[test]
    fn the_failure_has_the_class_the_code_and_the_rendered_message() {
        let bench = Bench::new(
            "name = \"old\"\nwhen = \"value.v < 2\"\nfail.class = \"transient\"\nfail.code = \"too-old\"\n\
             fail.message = \"version {{ value.v }}\"",
        );
        assert_eq!(bench.run(json!({"v": 2})).unwrap().len(), 1);
        let failure = bench.run(json!({"v": 1})).unwrap_err();
        assert_eq!(
            (failure.class, &*failure.code, &*failure.message, failure.step.as_deref()),
            (Class::Transient, "too-old", "version 1", Some("old"))
        );
    }

    #[test]
    fn a_code_of_the_engine_is_reported() {
        for code in ["unmatched", "http-404", "tombstone"] {
            let step = format!("fail.code = \"{code}\"\nfail.message = \"x\"");
            assert_eq!(Bench::findings(&step), ["name::invalid"], "{code}");
        }
    }

    #[test]
    fn a_code_that_is_not_kebab_case_is_reported() {
        assert_eq!(Bench::findings("fail.code = \"Too Old\"\nfail.message = \"x\""), ["name::invalid"]);
    }
}
