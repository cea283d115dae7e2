//! `map`: a new value from templates.

use std::sync::Arc;

use super::{Flow, ItemScope, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::expr::{RootSet, TemplateTree};
use crate::record::Item;
use crate::spec::{NodeValue, TableReader};

#[derive(Debug, Clone)]
struct Map(TemplateTree);

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    let node = table.node("map")?;
    if !matches!(node.value, NodeValue::Table(_)) {
        table.wrong_type("map", node, "a table of fields");
        return None;
    }
    Some(Arc::new(Map(context.tree(node)?)))
}

impl StepBody for Map {
    fn kind(&self) -> &'static str {
        "map"
    }

    fn reads(&self) -> RootSet {
        self.0.reads()
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Map {
    fn run<'r>(&self, item: &mut Item<'r>, context: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let scope = ItemScope::new(item, context.env);
        if context.last {
            let mut json = Vec::with_capacity(item.raw.value.map_or(0, <[u8]>::len));
            self.0.write_json(&scope, &mut json)?;
            item.set_encoded(json);
        } else {
            let value = self.0.render(&scope)?;
            item.set_value(value);
        }
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use crate::steps::testing::Bench;
    use serde_json::json;

    #[test]
    fn types_are_kept_text_is_joined_and_tables_nest() {
        let bench = Bench::new(
            "[map]\nid = \"{{ value.id }}\"\nlabel = \"{{ value.kind }}-{{ value.id }}\"\nn = 7\n\
             at = \"{{ timestamp }}\"\nlist = [\"{{ value.kind | upper }}\", true]\nwho.name = \"{{ key }}\"\n",
        );
        assert_eq!(
            bench.run(json!({"id": 5, "kind": "mail"})).unwrap(),
            [json!({"id": 5, "label": "mail-5", "n": 7, "at": "2026-01-01T00:00:00.000Z",
                    "list": ["MAIL", true], "who": {"name": "k1"}})]
        );
    }

    #[test]
    fn a_text_that_looks_like_a_path_is_a_warning() {
        assert_eq!(Bench::findings("map.kind = \"value.kind\""), ["template::looks-like-path"]);
        assert_eq!(Bench::findings("map.site = \"value for money.\""), Vec::<&str>::new());
    }
}
