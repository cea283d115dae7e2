//! The owner of every asynchronous task.
//!
//! A task has a name, a rule for when it fails and a cancellation token; a panic is a failure like
//! any other. Stop means: cancel, wait until the deadline, abort what is left. Stages run on threads
//! of their own under [`Engine`](super::Engine), not here.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

/// Why a task failed.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// What follows where a task fails or panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The engine ends.
    Stop,
    /// The task starts again after this wait.
    Restart(Duration),
}

/// Spawns tasks and sees them end.
#[derive(Debug)]
pub struct Supervisor {
    runtime: Handle,
    tasks: TaskTracker,
    cancel: CancellationToken,
    abort: CancellationToken,
    failure: watch::Sender<Option<String>>,
}

impl Supervisor {
    /// A supervisor whose tasks run on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
            abort: CancellationToken::new(),
            failure: watch::Sender::new(None),
        }
    }

    /// Runs `task` until it returns, fails or is cancelled. It is given a token and should return
    /// soon after that is cancelled.
    pub fn spawn<T, F>(&self, name: &'static str, on_error: OnError, mut task: T)
    where
        T: FnMut(CancellationToken) -> F + Send + 'static,
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let (cancel, abort) = (self.cancel.clone(), self.abort.clone());
        let failure = self.failure.clone();
        let runs = async move {
            loop {
                let mut one = JoinSet::new();
                one.spawn(task(cancel.child_token()));
                let Some(message) = problem(one.join_next().await) else { return };
                if cancel.is_cancelled() {
                    warn!(task = name, error = message, "a task failed while it was stopped");
                    return;
                }
                match on_error {
                    OnError::Stop => {
                        error!(task = name, error = message, "a task failed; the engine ends");
                        failure.send_replace(Some(format!("{name}: {message}")));
                        return;
                    }
                    OnError::Restart(wait) => {
                        warn!(task = name, error = message, "a task failed and starts again");
                        if cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                            return;
                        }
                    }
                }
            }
        };
        // Dropping the inner set aborts the task itself.
        self.tasks.spawn_on(async move { abort.run_until_cancelled(runs).await }, &self.runtime);
    }

    /// Waits until a task whose rule is [`OnError::Stop`] fails, and says which and why.
    /// Cancel-safe.
    pub async fn failed(&self) -> String {
        let mut failures = self.failure.subscribe();
        match failures.wait_for(Option::is_some).await {
            Ok(message) => message.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Cancels all tasks, waits for them until `deadline` is over and aborts the rest; true where
    /// none had to be.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.cancel.cancel();
        self.tasks.close();
        let until = Instant::now() + deadline;
        let in_time = tokio::time::timeout_at(until, self.tasks.wait()).await.is_ok();
        self.abort.cancel();
        self.tasks.wait().await;
        in_time
    }
}

fn problem(end: Option<Result<Result<(), TaskError>, JoinError>>) -> Option<String> {
    match end? {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_or_fails_starts_again_and_ends_when_cancelled() {
        let supervisor = Supervisor::new(Handle::current());
        let runs = Arc::new(AtomicU32::new(0));
        let (seen, mut third) = watch::channel(0);
        let counted = Arc::clone(&runs);
        supervisor.spawn("t", OnError::Restart(Duration::from_secs(1)), move |cancel| {
            let run = counted.fetch_add(1, Ordering::SeqCst) + 1;
            seen.send_replace(run);
            async move {
                match run {
                    1 => panic!("first"),
                    2 => Err("second".into()),
                    _ => {
                        cancel.cancelled().await;
                        Ok(())
                    }
                }
            }
        });
        third.wait_for(|run| *run == 3).await.unwrap();
        assert!(supervisor.stop(Duration::from_secs(1)).await);
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_must_not_fail_ends_the_engine_and_a_deaf_one_is_aborted() {
        let supervisor = Supervisor::new(Handle::current());
        supervisor.spawn("deaf", OnError::Stop, |_| std::future::pending());
        supervisor.spawn("vital", OnError::Stop, |_| async { Err("gone".into()) });
        assert_eq!(supervisor.failed().await, "vital: gone");
        assert!(!supervisor.stop(Duration::from_secs(5)).await);
    }
}
