//! From an edit of the files to an engine that runs them: look, check, make topics, go over.
//!
//! A candidate is judged alone and by the same code as `check`; with an error among its findings
//! the engine runs on as it was. Whoever starts a [`Reloader`] says how topics are made and who hears
//! of the outcome.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::changes::Changes;
use super::running::Engine;
use super::supervisor::TaskError;
use super::watch::Watch;
use crate::catalog::{self, Catalog, CheckOptions, Checked, Outside, Tree, TreeDigest};

/// What came of one edit.
#[derive(Debug)]
pub enum Reload {
    /// The files do not check; everything runs on as it was.
    Refused(Box<Checked>),
    /// They check, but could not be gone over to, and why; everything runs on as it was.
    Failed(String),
    /// The engine runs them.
    Done(Changes),
}

/// Makes the topics of a catalog before its stages start, or looks whether they are there; says why it cannot.
pub type MakeTopics = Box<dyn Fn(&Catalog) -> Result<(), String> + Send + Sync>;

/// Hears of every outcome.
pub type Report = Box<dyn Fn(&Reload) + Send + Sync>;

/// Keeps an engine in step with the files of its config root.
pub struct Reloader {
    /// What runs.
    pub engine: Arc<Engine>,
    /// Where the files are.
    pub root: PathBuf,
    /// The environment whose committed values count.
    pub environment: Option<String>,
    /// Where values of `[env]` come from.
    pub outside: Box<dyn Outside + Send + Sync>,
    /// How topics are made.
    pub make_topics: MakeTopics,
    /// By whom it is asked to go over to the files even where they hold what they held.
    pub asked: Arc<Notify>,
    /// Who hears of it.
    pub report: Report,
}

impl Reloader {
    /// Watches the root until `cancel`; `seen` are the files that run already. What could not be gone over to, as
    /// while a broker is away, is tried again every half a minute and reported once.
    ///
    /// # Errors
    /// Where a reload panicked.
    pub async fn run(self: Arc<Self>, seen: TreeDigest, cancel: CancellationToken) -> Result<(), TaskError> {
        let mut watch = Watch::new(&self.root, seen);
        let mut failed = None;
        loop {
            let changed = tokio::select! {
                () = cancel.cancelled() => break,
                () = self.asked.notified() => {
                    info!("asked to look at the config root");
                    failed = None;
                    watch.look();
                    continue;
                }
                changed = watch.changed() => changed,
            };
            let outcome = match changed {
                Ok(tree) => {
                    let reloader = Arc::clone(&self);
                    let work = tokio::task::spawn_blocking(move || reloader.reload(&tree));
                    let Some(outcome) = cancel.run_until_cancelled(work).await else { break };
                    outcome?
                }
                Err(error) => Reload::Failed(error.to_string()),
            };
            self.count(&outcome);
            let why = match &outcome {
                Reload::Failed(why) => Some(why.clone()),
                Reload::Done(changes) if !changes.missing.is_empty() => Some(changes.missing.join(", ")),
                Reload::Refused(_) | Reload::Done(_) => None,
            };
            if why.is_some() {
                watch.forget();
            }
            if why.is_none() || why != failed {
                (self.report)(&outcome);
            }
            failed = why;
        }
        Ok(())
    }

    fn count(&self, outcome: &Reload) {
        let metrics = self.engine.shared.telemetry.reloads();
        match outcome {
            Reload::Refused(_) => metrics.refused(),
            Reload::Failed(_) => metrics.failed(),
            Reload::Done(changes) if !changes.missing.is_empty() => metrics.failed(),
            Reload::Done(_) => metrics.done(),
        }
    }

    /// Checks these files and goes over to them. Blocks while stages drain.
    pub fn reload(&self, tree: &Tree) -> Reload {
        let environment = self.environment.as_deref();
        let options = CheckOptions { environment, require_env: true, outside: &*self.outside };
        let mut checked = catalog::check(tree, &options);
        let Some(catalog) = checked.catalog.take().map(Arc::new) else {
            return Reload::Refused(Box::new(checked));
        };
        if let Err(why) = (self.make_topics)(&catalog) {
            return Reload::Failed(why);
        }
        match self.engine.reload(catalog) {
            Ok(changes) => Reload::Done(changes),
            Err(error) => Reload::Failed(error.to_string()),
        }
    }
}
