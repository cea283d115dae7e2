//! What a queue asks of whoever knows what jobs do.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::store::{Beside, Claimed, KindId, Verdict};

/// Runs jobs. A panic in [`Execute::execute`] ends that job's attempt and nothing else.
pub trait Execute: Send + Sync + 'static {
    /// Whether jobs of this kind can be run here. What cannot is put off, with no attempt spent.
    fn knows(&self, kind: KindId) -> bool;

    /// Says that a job of a kind that is not known here was put off.
    fn unknown(&self, job: &Claimed);

    /// Runs one attempt. `cancel` says that the lease may be lost soon, or that the engine stops and waits
    /// no longer: what is returned then may not count any more.
    fn execute(
        &self,
        job: &Claimed,
        cancel: CancellationToken,
    ) -> impl Future<Output = (Verdict, Beside)> + Send;

    /// What becomes of an attempt that panicked.
    fn panicked(&self, job: &Claimed, message: &str) -> Verdict;
}
