//! `drop`: fields taken out of the value. A field that is not there is no error.

use std::sync::Arc;

use super::path::FieldPath;
use super::{Flow, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::expr::{Root, RootSet};
use crate::record::Item;
use crate::spec::TableReader;

#[derive(Debug, Clone)]
struct Drop(Vec<FieldPath>);

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    let texts = table.texts("drop")?;
    let paths: Vec<_> = texts.iter().map(|text| FieldPath::read(text, context.diagnostics)).collect();
    Some(Arc::new(Drop(paths.into_iter().collect::<Option<_>>()?)))
}

impl StepBody for Drop {
    fn kind(&self) -> &'static str {
        "drop"
    }

    fn reads(&self) -> RootSet {
        RootSet::EMPTY.with(Root::Value)
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Drop {
    fn run<'r>(&self, item: &mut Item<'r>, _: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let value = item.value()?;
        if self.0.iter().any(|path| path.get(value).is_some()) {
            let value = item.value_mut()?;
            self.0.iter().for_each(|path| std::mem::drop(path.remove(value)));
        }
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use crate::steps::testing::Bench;
    use serde_json::json;

    #[test]
    fn fields_go_and_the_rest_stays_in_order() {
        let bench = Bench::new("drop = [\"a\", \"b.c\", \"nothing.here\"]");
        let left = bench.run(json!({"z": 1, "a": 2, "b": {"c": 3, "d": 4}, "y": 5})).unwrap();
        assert_eq!(left[0].to_string(), r#"{"z":1,"b":{"d":4},"y":5}"#);
    }

    #[test]
    fn a_path_with_an_empty_name_is_reported() {
        assert_eq!(Bench::findings("drop = \"a..b\""), ["value::empty"]);
    }
}
