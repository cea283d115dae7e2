//! Going over from one catalog to another while the engine runs.
//!
//! The smallest difference is carried out: what is unchanged is not touched; a stage that keeps its
//! inputs, outputs and order goes on with other steps and policies from its next record on, without
//! a rebalance; any other is drained and started again from its commits. Offsets belong to the
//! stage's name and outlive it. Durable jobs are taken over before the stages are, which may enqueue
//! some. It decides nothing about files or topics: whoever calls has checked the catalog and made the
//! topics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::info;

use super::changes::{Change, Changes};
use super::drain::drain_unless;
use super::jobs::Difference;
use super::running::{Engine, EngineError, Running};
use crate::catalog::{Catalog, Dedupe, Stage, Topic};
use crate::events::{self, StageHandle, StageRuntime};

impl Engine {
    /// Goes over to `catalog`. Every step is opened before anything is stopped; stages that must stop
    /// are drained within their own `drain`. Blocks that long. One reload runs at a time.
    ///
    /// # Errors
    /// [`EngineError::Stage`] and [`EngineError::Jobs`] where a step cannot be opened or jobs have no
    /// database to run on, in which case everything runs on as it was; [`EngineError::Draining`] once the
    /// engine drains.
    pub fn reload(&self, catalog: Arc<Catalog>) -> Result<Changes, EngineError> {
        let _one_at_a_time = self.reloading.lock();
        let before = self.running.read().clone();
        let generation = catalog.digest().to_owned();
        let runtime = StageRuntime { generation, ..self.shared.clone() };
        let plan = Plan::new(&before, &catalog);
        plan.prove(&catalog, &runtime)?;
        let (jobs, unheard) = self.take_over_jobs(&before.catalog, &catalog)?;
        plan.stop(&before, || self.draining.load(Ordering::Relaxed));
        if self.draining.load(Ordering::Relaxed) {
            return Err(EngineError::Draining);
        }
        let (stages, mut missing) = plan.carry_out(&before, &catalog, &runtime);
        let generation = before.generation + u64::from(before.catalog.digest() != catalog.digest());
        *self.running.write() = Running { catalog, stages, generation, missing: missing.clone() };
        // What was said while they started reached only those that ran.
        self.tell_holds(None);
        missing.extend(unheard);
        let Difference { queues, jobs } = jobs;
        let changes = Changes { stages: plan.0, queues, jobs, missing };
        info!(generation, %changes, "reloaded");
        Ok(changes)
    }
}

/// What is to become of each stage.
struct Plan(Vec<(Arc<str>, Change)>);

impl Plan {
    fn new(before: &Running, catalog: &Catalog) -> Self {
        let of = |(name, stage): (&Arc<str>, &Arc<Stage>)| {
            let change = match handle(before, name) {
                None => Change::Added,
                Some(_) if before.catalog.fingerprint(name) == catalog.fingerprint(name) => Change::Unchanged,
                Some(handle) if goes_on(&handle.stage(), stage) && stands_well(handle) => Change::Changed,
                Some(_) => Change::Restarted,
            };
            (Arc::clone(name), change)
        };
        let stages = catalog.stages().iter().map(of);
        let gone = before.stages.iter().filter(|handle| !catalog.stages().contains_key(handle.name()));
        Self(stages.chain(gone.map(|handle| (Arc::from(handle.name()), Change::Removed))).collect())
    }

    /// Opens what is to be started, so that nothing is stopped for a stage that cannot start.
    fn prove(&self, catalog: &Catalog, runtime: &StageRuntime) -> Result<(), EngineError> {
        for (name, stage) in catalog.stages() {
            if self.of(name) != Change::Unchanged {
                events::prove(stage, runtime)
                    .map_err(|error| EngineError::Stage { stage: Arc::clone(name), error })?;
            }
        }
        Ok(())
    }

    /// Stops what must stop, all at one time, and waits until each has drained.
    fn stop(&self, before: &Running, leave_off: impl Fn() -> bool) {
        let stops = |handle: &&Arc<StageHandle>| {
            matches!(self.of(handle.name()), Change::Restarted | Change::Removed)
        };
        let stopped: Vec<_> = before.stages.iter().filter(stops).cloned().collect();
        drain_unless(&stopped, leave_off);
    }

    /// Replaces and starts; gives what runs then, and what could not be started.
    fn carry_out(
        &self,
        before: &Running,
        catalog: &Catalog,
        runtime: &StageRuntime,
    ) -> (Vec<Arc<StageHandle>>, Vec<String>) {
        let (mut stages, mut missing) = (Vec::new(), Vec::new());
        for (name, stage) in catalog.stages() {
            let old = handle(before, name);
            let done = match (self.of(name), old) {
                (Change::Unchanged, Some(old)) => Ok(Arc::clone(old)),
                (Change::Changed, Some(old)) => {
                    old.replace(Arc::clone(stage), runtime).map(|()| Arc::clone(old))
                }
                _ => events::start(Arc::clone(stage), runtime).map(Arc::new),
            };
            match done {
                Ok(handle) => stages.push(handle),
                Err(error) => missing.push(format!("stage `{name}` does not start: {error}")),
            }
        }
        (stages, missing)
    }

    fn of(&self, stage: &str) -> Change {
        let found = self.0.iter().find(|(name, _)| **name == *stage);
        found.map_or(Change::Unchanged, |(_, change)| *change)
    }
}

fn handle<'a>(running: &'a Running, name: &str) -> Option<&'a Arc<StageHandle>> {
    running.stages.iter().find(|handle| handle.name() == name)
}

/// A stage that halted, or left, is only helped by starting it again.
fn stands_well(handle: &StageHandle) -> bool {
    !matches!(&*handle.status().state, "halted" | "stopped" | "draining")
}

/// Whether records in flight may end under the new stage: they are queued by its order and sent to its
/// outputs by their number, and marks were made by its key.
fn goes_on(old: &Stage, new: &Stage) -> bool {
    let same = |old: &Topic, new: &Topic| old.physical == new.physical;
    let same_inputs = old.inputs.len() == new.inputs.len()
        && new.inputs.iter().all(|topic| old.inputs.iter().any(|known| same(known, topic)));
    let same_outputs = old.outputs.len() == new.outputs.len()
        && old.outputs.iter().zip(&new.outputs).all(|(old, new)| same(&old.topic, &new.topic));
    let dlq = |stage: &Stage| stage.dlq.as_ref().map(|dlq| Arc::clone(&dlq.topic.physical));
    let equal = |stage: &Stage| {
        let of = |dedupe: &Dedupe| (dedupe.key.clone(), dedupe.window, dedupe.max_keys, dedupe.memory);
        stage.dedupe.as_ref().map(of)
    };
    // Whose database says where it stands; an edit of a statement alone is none of that.
    let writes = |stage: &Stage| stage.effects().next().map(|(_, effect)| effect.asked.database.clone());
    same_inputs
        && same_outputs
        && writes(old) == writes(new)
        && dlq(old) == dlq(new)
        && equal(old) == equal(new)
        && (old.order, old.start, old.delivery) == (new.order, new.start, new.delivery)
}
