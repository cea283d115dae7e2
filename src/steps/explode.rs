//! `explode`: each part of a list becomes a record of its own, in the order of the list.
//!
//! Bounded in parts and, where the rest of the value travels with each part, in bytes. An empty list
//! ends the record as a filter does.

use std::sync::Arc;

use serde_json::Value as Json;

use super::path::FieldPath;
use super::{Flow, ItemScope, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::expr::{Expression, Root, RootSet};
use crate::record::Item;
use crate::spec::{NodeValue, TableReader};

/// The most parts unless `max` says otherwise.
const MAX_PARTS: usize = 10_000;
/// The most bytes that copies of one record may take, by the size of its source.
const MAX_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone)]
struct Explode {
    each: Expression,
    into: Option<FieldPath>,
    max: usize,
}

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    if let NodeValue::String(_) = table.node("explode")?.value {
        let each = context.expression(&table.text("explode")?)?;
        return Some(Arc::new(Explode { each, into: None, max: MAX_PARTS }));
    }
    let mut inner = table.table("explode")?;
    let each = inner.required("each", TableReader::text);
    let into = inner.text("as");
    let max = inner.integer("max", 1..=1_000_000).map_or(MAX_PARTS, |max| max.value as usize);
    inner.finish();
    let each = context.expression(&each?);
    let into = match into {
        Some(text) => Some(FieldPath::read(&text, context.diagnostics)?),
        None => None,
    };
    Some(Arc::new(Explode { each: each?, into, max }))
}

impl StepBody for Explode {
    fn kind(&self) -> &'static str {
        "explode"
    }

    fn reads(&self) -> RootSet {
        if self.into.is_some() { self.each.reads().with(Root::Value) } else { self.each.reads() }
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Explode {
    fn run<'r>(&self, item: &mut Item<'r>, context: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let list = self.each.eval(&ItemScope::new(item, context.env))?.into_owned();
        let Json::Array(parts) = list else {
            let message = format!("`{}` is no list", self.each.source());
            return Err(Failure::permanent("not-a-list", message));
        };
        if parts.len() > self.max {
            let message = format!("the list has {} parts, more than {}", parts.len(), self.max);
            return Err(Failure::permanent("explode-too-many", message));
        }
        let size = item.raw.value.map_or(0, <[u8]>::len);
        if self.into.is_some() && size.saturating_mul(parts.len()) > MAX_BYTES {
            let message = format!("{} copies of a record of {size} bytes are too much", parts.len());
            return Err(Failure::permanent("explode-too-large", message));
        }
        let items = parts.into_iter().map(|part| self.part(item, part)).collect::<Result<Vec<_>, _>>()?;
        Ok(if items.is_empty() { Flow::Filtered } else { Flow::Many(items) })
    }
}

impl Explode {
    fn part<'r>(&self, item: &Item<'r>, part: Json) -> Result<Item<'r>, Failure> {
        let value = match &self.into {
            None => part,
            Some(path) => {
                let mut whole = item.peek().cloned().unwrap_or_default();
                path.set(&mut whole, part)?;
                whole
            }
        };
        Ok(item.with_value(value))
    }
}

#[cfg(test)]
mod tests {
    use crate::steps::testing::Bench;
    use serde_json::json;

    #[test]
    fn each_part_becomes_a_record_in_order() {
        let bench = Bench::new("explode = \"value.items\"");
        assert_eq!(bench.run(json!({"items": [1, {"a": 2}]})).unwrap(), [json!(1), json!({"a": 2})]);
        assert!(bench.run(json!({"items": []})).unwrap().is_empty());
        assert_eq!(bench.run(json!({"items": "x"})).unwrap_err().code, "not-a-list");
    }

    #[test]
    fn with_as_the_rest_of_the_value_travels_with_each_part() {
        let bench = Bench::new("explode.each = \"value.items\"\nexplode.as = \"items\"");
        assert_eq!(
            bench.run(json!({"id": 9, "items": [1, 2]})).unwrap(),
            [json!({"id": 9, "items": 1}), json!({"id": 9, "items": 2})]
        );
    }

    #[test]
    fn a_list_longer_than_the_limit_is_refused() {
        let bench = Bench::new("explode.each = \"value\"\nexplode.max = 2");
        assert_eq!(bench.run(json!([1, 2, 3])).unwrap_err().code, "explode-too-many");
    }
}
