//! The durable jobs of one catalog, with the steps of every kind open, and how they differ from another's.

use std::collections::HashMap;
use std::sync::Arc;

use super::JobsError;
use super::execute::Kind;
use super::kinds::{self, Tuning};
use crate::catalog::Catalog;
use crate::engine::changes::Change;
use crate::events::StageRuntime;
use crate::jobs::Program;
use crate::store::{KindId, Published};

/// What an engine is to run.
pub(super) struct Wanted {
    pub(super) catalog: Arc<Catalog>,
    pub(super) kinds: Vec<Arc<Kind>>,
}

impl Wanted {
    /// Opens the steps of every kind; those that are as they were `before` stay open as they are.
    ///
    /// # Errors
    /// [`JobsError::Open`].
    pub(super) fn open(
        catalog: &Arc<Catalog>,
        before: Option<&Self>,
        shared: &StageRuntime,
    ) -> Result<Self, JobsError> {
        let kinds = catalog.jobs().iter().map(|(name, job)| {
            if let Some(same) = before.and_then(|before| before.same(name, catalog)) {
                return Ok(Arc::clone(same));
            }
            let program = Program::open(Arc::clone(job), &shared.ports)
                .map_err(|error| JobsError::Open { job: Arc::clone(name), error })?;
            let metrics = shared.telemetry.job(&job.queue.name, name);
            Ok(Arc::new(Kind { program, metrics }))
        });
        let kinds = kinds.collect::<Result<_, JobsError>>()?;
        Ok(Self { catalog: Arc::clone(catalog), kinds })
    }

    fn same(&self, name: &Arc<str>, catalog: &Catalog) -> Option<&Arc<Kind>> {
        let same = self.catalog.job_fingerprint(name) == catalog.job_fingerprint(name);
        self.kinds.iter().find(|kind| same && kind.program.job().name == *name)
    }

    /// Its kinds by the numbers that they bear in the database, under each of their names.
    pub(super) fn numbered(&self, published: &Published) -> HashMap<KindId, Arc<Kind>> {
        let numbered = self.kinds.iter().flat_map(|kind| {
            let numbers = kinds::names(kind.program.job()).filter_map(|name| published.kinds.get(name));
            numbers.map(|number| (*number, Arc::clone(kind)))
        });
        numbered.collect()
    }
}

/// The queues and kinds of a catalog that are not as they were in another.
#[derive(Debug, Default)]
pub(in crate::engine) struct Difference {
    pub(in crate::engine) queues: Vec<(Arc<str>, Change)>,
    pub(in crate::engine) jobs: Vec<(Arc<str>, Change)>,
}

impl Difference {
    pub(super) fn between(before: &Catalog, after: &Catalog) -> Self {
        let (queues, others) = (before.queues(), after.queues());
        let tuned = |name: &Arc<str>| {
            queues.get(name).map(|q| Tuning::of(q)) != others.get(name).map(|q| Tuning::of(q))
        };
        let written = |name: &Arc<str>| before.job_fingerprint(name) != after.job_fingerprint(name);
        Self {
            queues: differing(queues.keys(), others.keys(), tuned),
            jobs: differing(before.jobs().keys(), after.jobs().keys(), written),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.jobs.is_empty()
    }
}

fn differing<'n>(
    before: impl Iterator<Item = &'n Arc<str>>,
    after: impl Iterator<Item = &'n Arc<str>>,
    differs: impl Fn(&Arc<str>) -> bool,
) -> Vec<(Arc<str>, Change)> {
    let (before, after): (Vec<_>, Vec<_>) = (before.collect(), after.collect());
    let here = after.iter().filter_map(|name| match before.contains(name) {
        false => Some((Arc::clone(name), Change::Added)),
        true => differs(name).then(|| (Arc::clone(name), Change::Changed)),
    });
    let gone = before.iter().filter(|name| !after.contains(name));
    here.chain(gone.map(|name| (Arc::clone(name), Change::Removed))).collect()
}
