//! `wait`: a job waits for a callback, whoever was told its address. What that brings is the step's result.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::{Flow, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::expr::RootSet;
use crate::record::Item;
use crate::spec::TableReader;

#[derive(Debug, Clone)]
struct Wait {
    within: Duration,
}

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    let span = table.entry("wait").map(|entry| entry.key_span);
    let mut inner = table.table("wait")?;
    let within = inner.required("within", TableReader::duration);
    inner.finish();
    if let Some(span) = span {
        context.check_callback(span, &format!("`wait` of {}", table.what));
    }
    Some(Arc::new(Wait { within: within?.value }))
}

impl StepBody for Wait {
    fn kind(&self) -> &'static str {
        "wait"
    }

    fn reads(&self) -> RootSet {
        RootSet::EMPTY
    }

    fn callback(&self) -> Option<Duration> {
        Some(self.within)
    }

    fn awaits_callback(&self, item: &Item<'_>, name: &str) -> bool {
        item.result(name).is_some()
    }

    fn called_back(&self, item: &mut Item<'_>, name: &Arc<str>, answer: Json) -> Result<(), Failure> {
        item.set_result(name, answer);
        Ok(())
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Wait {
    fn run<'r>(&self, item: &mut Item<'r>, context: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        // That it stands here says that the step was not passed over.
        item.set_result(context.name, Json::Null);
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use crate::steps::testing::Bench;

    #[test]
    fn only_a_job_waits_and_it_says_how_long() {
        assert_eq!(Bench::findings("wait.within = \"1h\""), ["step::jobs-only"]);
        assert_eq!(Bench::findings_of_job("wait.within = \"1h\""), [""; 0]);
        assert_eq!(Bench::findings_of_job("wait.until = \"1h\""), ["key::missing", "key::unknown"]);
    }
}
