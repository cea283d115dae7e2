//! `log`: a line in the engine's log for each record, for looking at a pipeline while it is built.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{Flow, ItemScope, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::expr::{RootSet, Template};
use crate::record::Item;
use crate::spec::{NodeValue, TableReader};

/// The longest message that is logged.
const MAX_MESSAGE: usize = 4_096;

#[derive(Debug, Clone, Copy)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone)]
struct Log {
    level: Level,
    message: Template,
}

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    if let NodeValue::String(_) = table.node("log")?.value {
        let message = context.template(&table.text("log")?)?;
        return Some(Arc::new(Log { level: Level::Info, message }));
    }
    let mut inner = table.table("log")?;
    let levels =
        [("debug", Level::Debug), ("info", Level::Info), ("warn", Level::Warn), ("error", Level::Error)];
    let level = inner.word("level", &levels).map_or(Level::Info, |level| level.value);
    let message = inner.required("message", TableReader::text);
    inner.finish();
    Some(Arc::new(Log { level, message: context.template(&message?)? }))
}

impl StepBody for Log {
    fn kind(&self) -> &'static str {
        "log"
    }

    fn reads(&self) -> RootSet {
        self.message.reads()
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Log {
    fn run<'r>(&self, item: &mut Item<'r>, context: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let scope = ItemScope::new(item, context.env);
        let message = self.message.text(&scope)?.unwrap_or_default();
        let message: String = message.chars().take(MAX_MESSAGE).collect();
        let (step, raw) = (&**context.name, &item.raw);
        macro_rules! line {
            ($level:ident) => {
                match item.job {
                    Some(facts) => {
                        let field = |name: &str| facts.job.get(name).and_then(Json::as_str);
                        tracing::$level!(step, kind = field("kind"), job = field("id"), "{message}")
                    }
                    None => tracing::$level!(
                        step,
                        topic = raw.topic,
                        partition = raw.partition,
                        offset = raw.offset,
                        "{message}"
                    ),
                }
            };
        }
        match self.level {
            Level::Debug => line!(debug),
            Level::Info => line!(info),
            Level::Warn => line!(warn),
            Level::Error => line!(error),
        }
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use crate::steps::testing::Bench;
    use serde_json::json;

    #[test]
    fn the_record_goes_on_as_it_was() {
        let bench = Bench::new("log = \"saw {{ value.id }}\"");
        assert_eq!(bench.run(json!({"id": 1})).unwrap(), [json!({"id": 1})]);
        assert_eq!(bench.run(json!({})).unwrap_err().code, "undefined");
        assert_eq!(Bench::findings("log.level = \"loud\"\nlog.message = \"x\""), ["value::word"]);
    }
}
