//! `set`: fields of the value, and headers under `set.headers`, from templates.
//!
//! All templates see the record as it was before the step. A header set to null is removed.

use std::sync::Arc;

use super::path::FieldPath;
use super::{Flow, ItemScope, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::expr::{RootSet, Template, TemplateTree};
use crate::record::{HeaderChange, Item};
use crate::spec::{Entry, NodeValue, Table, TableReader};

#[derive(Debug, Clone)]
struct Set {
    fields: Vec<(FieldPath, TemplateTree)>,
    headers: Vec<(Arc<str>, Template)>,
}

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    let mut inner = table.table("set")?;
    let headers = inner.table("headers").map(|mut headers| read_headers(&mut headers, context));
    let mut fields = Vec::new();
    let mut whole = true;
    for entry in inner.rest() {
        whole &= flatten(&mut vec![entry.key.clone()], entry, context, &mut fields);
    }
    let headers = headers.map_or(Some(Vec::new()), |headers| headers)?;
    whole.then(|| Arc::new(Set { fields, headers }) as Arc<dyn StepBody>)
}

fn read_headers(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Vec<(Arc<str>, Template)>> {
    let read = |entry: &Entry| match entry.node.as_text() {
        Some(text) => Some((Arc::from(entry.key.as_str()), context.template(&text)?)),
        None => {
            table.wrong_type(&entry.key, &entry.node, "a string");
            None
        }
    };
    let found: Vec<_> = table.table.entries.iter().map(read).collect();
    found.into_iter().collect()
}

/// Dotted keys and sub-tables are paths; everything below them is a template.
fn flatten(
    path: &mut Vec<String>,
    entry: &Entry,
    context: &PlanContext<'_>,
    fields: &mut Vec<(FieldPath, TemplateTree)>,
) -> bool {
    match &entry.node.value {
        NodeValue::Table(Table { entries, .. }) if !entries.is_empty() => {
            let mut whole = true;
            for inner in entries {
                path.push(inner.key.clone());
                whole &= flatten(path, inner, context, fields);
                path.pop();
            }
            whole
        }
        _ => match context.tree(&entry.node) {
            Some(tree) => {
                fields.push((FieldPath::new(path.clone()), tree));
                true
            }
            None => false,
        },
    }
}

impl StepBody for Set {
    fn kind(&self) -> &'static str {
        "set"
    }

    fn reads(&self) -> RootSet {
        let fields = self.fields.iter().map(|(_, tree)| tree.reads());
        let headers = self.headers.iter().map(|(_, template)| template.reads());
        fields.chain(headers).fold(RootSet::EMPTY, RootSet::union)
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Set {
    fn run<'r>(&self, item: &mut Item<'r>, context: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let scope = ItemScope::new(item, context.env);
        let mut values = Vec::with_capacity(self.fields.len());
        for (_, tree) in &self.fields {
            values.push(tree.render(&scope)?);
        }
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, template) in &self.headers {
            headers.push(match template.text(&scope)? {
                Some(text) => HeaderChange::Set(Arc::clone(name), Some(text.into_owned().into_bytes())),
                None => HeaderChange::Remove(Arc::clone(name)),
            });
        }
        if !self.fields.is_empty() {
            let current = item.value()?;
            self.fields.iter().try_for_each(|(path, _)| path.check(current))?;
            let value = item.value_mut()?;
            for ((path, _), new) in self.fields.iter().zip(values) {
                path.set(value, new)?;
            }
        }
        headers.into_iter().for_each(|change| item.change_header(change));
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use crate::steps::testing::Bench;
    use serde_json::json;

    #[test]
    fn fields_are_set_side_by_side_from_the_record_as_it_was() {
        let bench = Bench::new(
            "set.a = \"{{ value.b }}\"\nset.b = \"{{ value.a }}\"\nset.c.d = \"{{ key }}-{{ value.a }}\"",
        );
        assert_eq!(
            bench.run(json!({"a": 1, "b": [2]})).unwrap(),
            [json!({"a": [2], "b": 1, "c": {"d": "k1-1"}})]
        );
    }

    #[test]
    fn headers_are_set_and_null_removes_one() {
        let bench = Bench::new("set.headers.tenant = \"{{ value.t }}\"\nset.headers.trace = \"{{ none }}\"");
        let headers = bench.headers(json!({"t": 7}));
        assert_eq!(headers, [("tenant".to_owned(), Some("7".to_owned()))]);
    }

    #[test]
    fn a_value_that_is_no_object_is_left_alone() {
        let failure = Bench::new("set.a = 1").run(json!([1])).unwrap_err();
        assert_eq!(failure.code, "not-an-object");
    }
}
