//! What becomes of records that fail, by a whole runner against the in-process cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::stage::{StageHandle, start};
use super::tests::{World, stage, stop};
use crate::base::Failure;
use crate::catalog::Stage;
use crate::expr::RootSet;
use crate::record::Item;
use crate::steps::{
    BoxedRun, Flow, OpenError, Ports, Runnable, StepBody, StepContext, StepPlan, WaitingStep,
};

/// How long the other side takes to refuse the word `slow`.
const SLOW: Duration = Duration::from_millis(700);

/// A step that waits on others: for ever at the word `hang`; it fails at `busy`, and late at `slow`.
#[derive(Debug, Clone, Default)]
struct Other {
    runs: Arc<AtomicU32>,
}

impl StepBody for Other {
    fn kind(&self) -> &'static str {
        "other"
    }

    fn waits(&self) -> bool {
        true
    }

    fn reads(&self) -> RootSet {
        RootSet::EMPTY
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Waiting(Box::new(self.clone())))
    }
}

impl WaitingStep for Other {
    fn run<'a, 'r: 'a>(&'a self, item: &'a mut Item<'r>, _: StepContext<'a>) -> BoxedRun<'a, 'r> {
        Box::pin(async move {
            let word = item.value()?.as_str().unwrap_or_default().to_owned();
            self.runs.fetch_add(1, Ordering::AcqRel);
            match word.as_str() {
                "hang" => std::future::pending().await,
                "slow" => {
                    tokio::time::sleep(SLOW).await;
                    Err(Failure::transient("busy", "try later"))
                }
                "busy" => Err(Failure::transient("busy", "try later")),
                _ => Ok(Flow::Next),
            }
        })
    }
}

impl Other {
    fn plan(&self) -> StepPlan {
        let body: Arc<dyn StepBody> = Arc::new(self.clone());
        StepPlan { name: Arc::from("other"), kind: "other", when: None, timeout: None, retry: None, body }
    }
}

fn start_as(world: &World, change: impl FnOnce(&mut Stage)) -> StageHandle {
    let mut stage = stage(&world.step);
    change(&mut stage);
    start(Arc::new(stage), &world.stage_runtime()).unwrap()
}

#[test]
fn a_dead_letter_keeps_the_id_that_its_record_came_with() {
    let world = World::new(|word, _| match word {
        "bad" => Err(Failure::permanent("bad", "as planned")),
        _ => Ok(()),
    });
    let before = [("biplane-id", &b"before/in/0/7/0"[..]), ("biplane-id", b"\xff"), ("mine", b"\x00")];
    world.produce_with(&[("a", "\"bad\"".to_owned()), ("a", "\"good\"".to_owned())], &before);
    let handle = world.start();
    let dead = world.read("dead", 1).remove(0);
    let out = world.read("out", 1).remove(0);
    stop(&handle);
    let bytes = |headers: &[(String, Vec<u8>)], wanted: &str| -> Vec<Vec<u8>> {
        headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(bytes(&dead.all, "biplane-id"), [b"before/in/0/7/0".to_vec(), b"\xff".to_vec()]);
    assert_eq!(bytes(&dead.all, "mine"), [b"\x00"]);
    assert!(dead.headers["biplane-dlq-id"].starts_with("s/in/"), "{dead:?}");
    assert_eq!(bytes(&out.all, "biplane-id").len(), 1);
    assert!(out.headers["biplane-id"].starts_with("s/in/"), "{out:?}");
}

#[test]
fn the_deadline_runs_from_the_first_attempt_and_is_not_tried_again() {
    let world = World::new(|_, _| Ok(()));
    let other = Other::default();
    world.produce(&[("a", "\"hang\"".to_owned()), ("b", "\"slow\"".to_owned())]);
    let handle = start_as(&world, |stage| {
        stage.steps = vec![other.plan()];
        // The wait of 300 ms for a second attempt no longer fits.
        stage.deadline = SLOW + Duration::from_millis(250);
    });
    let dead = world.read("dead", 2);
    stop(&handle);
    let mut codes: Vec<_> = dead.iter().map(|dead| dead.headers["biplane-error-code"].as_str()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["busy", "deadline"]);
    assert!(dead.iter().all(|dead| dead.headers["biplane-attempts"] == "1"), "{dead:#?}");
    assert_eq!(other.runs.load(Ordering::Acquire), 2);
}
