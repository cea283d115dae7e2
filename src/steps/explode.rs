//! `explode`: each part of a list becomes a record of its own, in the order of the list.
//!
//! Bounded in parts and, where the rest of the value travels with each part, in bytes; the chain
//! bounds what several of them make of one record. An empty list ends the record as a filter does.

use std::sync::Arc;

use serde_json::Value as Json;

use super::chain::{MAX_BYTES, MAX_PARTS};
use super::path::FieldPath;
use super::{Flow, ItemScope, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::expr::{Expression, Root, RootSet};
use crate::record::{Item, weight};
use crate::spec::{NodeValue, TableReader};

/// The most parts unless `max` says otherwise.
const USUAL_PARTS: usize = 10_000;

#[derive(Debug, Clone)]
struct Explode {
    each: Expression,
    into: Option<FieldPath>,
    max: usize,
}

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    if let NodeValue::String(_) = table.node("explode")?.value {
        let each = context.expression(&table.text("explode")?)?;
        return Some(Arc::new(Explode { each, into: None, max: USUAL_PARTS }));
    }
    let mut inner = table.table("explode")?;
    let each = inner.required("each", TableReader::text);
    let into = inner.text("as");
    let max = inner.integer("max", 1..=MAX_PARTS as i64).map_or(USUAL_PARTS, |max| max.value as usize);
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
        let rest = self.rest(item, parts.len())?;
        let part = |(place, part)| -> Result<Item<'r>, Failure> {
            let value = match (&self.into, &rest) {
                (Some(path), Some(rest)) => {
                    let mut whole = rest.clone();
                    path.set(&mut whole, part)?;
                    whole
                }
                _ => part,
            };
            Ok(item.part_of(place, value))
        };
        let items = parts.into_iter().enumerate().map(part).collect::<Result<Vec<_>, _>>()?;
        Ok(if items.is_empty() { Flow::Filtered } else { Flow::Many(items) })
    }
}

impl Explode {
    /// What travels with each of the parts: the value without what each part replaces. Refused before it
    /// is copied where the copies would be too much, those of header changes included.
    fn rest(&self, item: &Item<'_>, parts: usize) -> Result<Option<Json>, Failure> {
        let mut rest = self.into.as_ref().map(|_| item.peek().cloned().unwrap_or_default());
        if let (Some(path), Some(rest)) = (&self.into, &mut rest) {
            path.set(rest, Json::Null)?;
        }
        let size = rest.as_ref().map_or(0, weight) + item.headers_weight();
        if size.saturating_mul(parts) > MAX_BYTES {
            let message = format!("{parts} copies of about {size} bytes are too much");
            return Err(Failure::permanent("explode-too-large", message));
        }
        Ok(rest)
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

    #[test]
    fn copies_are_weighed_by_what_is_copied_and_not_by_the_record() {
        let bench = Bench::new("explode.each = \"value.items\"\nexplode.as = \"items\"");
        let items: Vec<_> = (0..3_000).map(|n| format!("{n:0100}")).collect();
        // The list itself is replaced in each copy, so that a long one is no reason to refuse.
        assert_eq!(bench.run(json!({"items": items, "id": 1})).unwrap().len(), 3_000);
        let failure = bench.run(json!({"items": items, "rest": "x".repeat(30_000)})).unwrap_err();
        assert_eq!(failure.code, "explode-too-large");
    }
}
