//! `rename`: fields moved to other places of the value, `old = "new"`. A field that is not there is no
//! error. All moves happen side by side, so that two fields can change places.

use std::sync::Arc;

use serde_json::Value as Json;

use super::path::FieldPath;
use super::{Flow, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::expr::{Root, RootSet};
use crate::record::Item;
use crate::spec::{Entry, NodeValue, TableReader};

#[derive(Debug, Clone)]
struct Rename(Vec<(FieldPath, FieldPath)>);

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    let inner = table.table("rename")?;
    let mut moves = Vec::new();
    let mut whole = true;
    for entry in &inner.table.entries {
        whole &= flatten(&mut vec![entry.key.clone()], entry, &inner, context, &mut moves);
    }
    whole.then(|| Arc::new(Rename(moves)) as Arc<dyn StepBody>)
}

fn flatten(
    path: &mut Vec<String>,
    entry: &Entry,
    table: &TableReader<'_>,
    context: &PlanContext<'_>,
    moves: &mut Vec<(FieldPath, FieldPath)>,
) -> bool {
    if let NodeValue::Table(inner) = &entry.node.value {
        let mut whole = true;
        for entry in &inner.entries {
            path.push(entry.key.clone());
            whole &= flatten(path, entry, table, context, moves);
            path.pop();
        }
        return whole;
    }
    let Some(text) = entry.node.as_text() else {
        table.wrong_type(&entry.key, &entry.node, "the new name of the field");
        return false;
    };
    match FieldPath::read(&text, context.diagnostics) {
        Some(to) => {
            moves.push((FieldPath::new(path.clone()), to));
            true
        }
        None => false,
    }
}

impl StepBody for Rename {
    fn kind(&self) -> &'static str {
        "rename"
    }

    fn reads(&self) -> RootSet {
        RootSet::EMPTY.with(Root::Value)
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Rename {
    fn run<'r>(&self, item: &mut Item<'r>, _: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let value = item.value()?;
        if self.0.iter().all(|(from, _)| from.get(value).is_none()) {
            return Ok(Flow::Next);
        }
        if self.0.iter().all(|(_, to)| to.is_top()) {
            return move_fields(&self.0, item.value_mut()?).map(|()| Flow::Next);
        }
        // A move can fail half way, where something on the way is no object; so it is made on a copy.
        let mut copy = value.clone();
        move_fields(&self.0, &mut copy)?;
        item.set_value(copy);
        Ok(Flow::Next)
    }
}

fn move_fields(moves: &[(FieldPath, FieldPath)], value: &mut Json) -> Result<(), Failure> {
    let taken: Vec<_> = moves.iter().filter_map(|(from, to)| Some((to, from.remove(value)?))).collect();
    taken.into_iter().try_for_each(|(to, field)| to.set(value, field))
}

#[cfg(test)]
mod tests {
    use crate::steps::testing::Bench;
    use serde_json::json;

    #[test]
    fn fields_change_places_and_missing_ones_are_passed_over() {
        let bench =
            Bench::new("rename.a = \"b\"\nrename.b = \"a\"\nrename.c.d = \"e.f\"\nrename.none = \"g\"");
        assert_eq!(
            bench.run(json!({"a": 1, "b": 2, "c": {"d": 3}})).unwrap(),
            [json!({"a": 2, "b": 1, "c": {}, "e": {"f": 3}})]
        );
        let bench = Bench::new("rename.a = \"b\"\nrename.b = \"a\"");
        assert_eq!(bench.run(json!({"a": 1, "b": 2})).unwrap(), [json!({"a": 2, "b": 1})]);
        assert_eq!(bench.run_bytes(b"{ \"c\":1}").unwrap(), [b"{ \"c\":1}".to_vec()]);
    }

    #[test]
    fn a_move_that_cannot_be_made_is_a_failure() {
        let bench = Bench::new("rename.a = \"b.c\"");
        assert_eq!(bench.run(json!({"a": 1, "b": 2})).unwrap_err().code, "not-an-object");
    }
}
