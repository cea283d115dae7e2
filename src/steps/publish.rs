//! `publish`: an event that stands in a topic once its job is done, and not before. The step only says what it is; it
//! goes with the outcome of the job.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::ports::{Event, EventTopic};
use super::{Flow, ItemScope, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::expr::{Expression, Root, RootSet, Template, TemplateTree};
use crate::record::Item;
use crate::spec::{Entry, TableReader};

/// Room for what goes around a record, and for the headers that tell its id and trace.
const AROUND: usize = 1_024;

#[derive(Debug, Clone)]
struct Publish {
    topic: Arc<EventTopic>,
    key: Option<Expression>,
    headers: Vec<(String, Template)>,
    /// `None`: the job's value.
    value: Option<TemplateTree>,
}

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    let span = table.entry("publish").map(|entry| entry.key_span);
    let mut inner = table.table("publish")?;
    let topic = inner.required("topic", TableReader::name);
    let key = inner.text("key").map(|text| context.expression(&text));
    let headers = inner.table("headers").map(|mut headers| read_headers(&mut headers, context));
    let value = inner.node("value").map(|node| context.tree(node));
    inner.finish();
    if let Some(span) = span {
        let what = format!("`publish` of {}", table.what);
        context.check_jobs_only(span, &what, "a record goes to an output", "write `to` or `[[….outputs]]`");
    }
    Some(Arc::new(Publish {
        topic: (context.topic)(&topic?)?,
        key: key.map_or(Some(None), |key| key.map(Some))?,
        headers: headers.map_or(Some(Vec::new()), |headers| headers)?,
        value: value.map_or(Some(None), |value| value.map(Some))?,
    }))
}

fn read_headers(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Vec<(String, Template)>> {
    let read = |entry: &Entry| match entry.node.as_text() {
        Some(text) => Some((entry.key.clone(), context.template(&text)?)),
        None => {
            table.wrong_type(&entry.key, &entry.node, "a string");
            None
        }
    };
    let found: Vec<_> = table.table.entries.iter().map(read).collect();
    found.into_iter().collect()
}

impl StepBody for Publish {
    fn kind(&self) -> &'static str {
        "publish"
    }

    fn reads(&self) -> RootSet {
        let key = self.key.iter().map(Expression::reads);
        let headers = self.headers.iter().map(|(_, header)| header.reads());
        let value = match &self.value {
            Some(tree) => tree.reads(),
            None => RootSet::EMPTY.with(Root::Value),
        };
        key.chain(headers).fold(value, RootSet::union)
    }

    fn publishes(&self) -> Option<&Arc<EventTopic>> {
        Some(&self.topic)
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Publish {
    fn run<'r>(&self, item: &mut Item<'r>, context: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let scope = ItemScope::new(item, context.env);
        let key = self.key.as_ref().map(|key| key.text(&scope)).transpose()?.flatten();
        let mut headers = serde_json::Map::with_capacity(self.headers.len());
        for (name, header) in &self.headers {
            if let Some(text) = header.text(&scope)? {
                headers.insert(name.clone(), Json::from(text.into_owned()));
            }
        }
        let value = match &self.value {
            Some(tree) => tree.render(&scope)?,
            None => item.peek().cloned().unwrap_or_default(),
        };
        let result = json!({ "topic": self.topic.physical, "key": key, "headers": headers, "value": value });
        let size = Event::of(&result).map_or(0, |event| event.size());
        if size + AROUND > self.topic.max_bytes {
            let message = format!(
                "the event has {size} bytes, and topic `{}` takes {}",
                self.topic.name, self.topic.max_bytes
            );
            return Err(Failure::permanent("record-too-large", message));
        }
        item.set_result(context.name, result);
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::testing::Bench;

    fn event(step: &str, value: Json) -> Result<Event, Failure> {
        let bytes = value.to_string().into_bytes();
        let results = Bench::of_job(step).items(&bytes, |item| item.results()[0].1.clone())?;
        Ok(Event::of(&results[0]).unwrap())
    }

    #[test]
    fn an_event_is_what_the_step_says_and_the_value_where_it_says_nothing() {
        let step = "publish.topic = \"events\"\npublish.key = \"value.id\"\npublish.headers = { a = \"{{ value.n }}\", gone = \"{{ none }}\" }";
        let plain = event(step, json!({"id": 7, "n": true})).unwrap();
        assert_eq!((&*plain.topic, plain.key.as_deref()), ("events.v1", Some("7")));
        assert_eq!(plain.value.as_deref(), Some(r#"{"id":7,"n":true}"#));
        assert_eq!(plain.headers, [("a".to_owned(), "true".to_owned())]);
        let other =
            event("publish.topic = \"events\"\npublish.value = { n = \"{{ value.n }}\" }", json!({"n": 1}));
        assert_eq!(other.unwrap().value.as_deref(), Some(r#"{"n":1}"#));
        let nothing = event("publish.topic = \"events\"\npublish.value = \"{{ none }}\"", json!({})).unwrap();
        assert_eq!((nothing.key, nothing.value), (None, None), "a tombstone");
    }

    #[test]
    fn what_the_topic_does_not_take_fails_at_the_step() {
        let large = json!({"text": "x".repeat(1 << 20)});
        assert_eq!(event("publish.topic = \"events\"", large).unwrap_err().code, "record-too-large");
    }

    #[test]
    fn only_a_job_publishes() {
        assert_eq!(Bench::findings("publish.topic = \"events\""), ["step::jobs-only"]);
        assert_eq!(Bench::findings_of_job("publish.topic = \"events\""), [""; 0]);
        assert_eq!(Bench::findings_of_job("publish.key = \"args.id\""), ["key::missing"]);
    }
}
