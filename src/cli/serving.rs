//! Runs an engine with its HTTP server until a signal, then drains it; `run` and `dev` share it.
//!
//! The first SIGTERM or SIGINT drains within the stages' deadlines, the second hurries. A task that
//! must not fail ends the engine the same way, with exit code 3. SIGHUP makes an engine that follows edits
//! look at its files, and stops any other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::exit::{CliError, CliResult, Exit};
use crate::catalog::Catalog;
use crate::engine::{Engine, EngineSettings, OnError, Supervisor, TaskError, View};
use crate::http::{self, Access, Api};
use crate::telemetry::traces::TraceSettings;

/// How long tasks other than stages may take to end.
const TASKS_END: Duration = Duration::from_millis(700);

/// What is run.
pub(super) struct Serving {
    pub(super) settings: EngineSettings,
    pub(super) catalog: Arc<Catalog>,
    /// The HTTP server's address.
    pub(super) listen: String,
    /// Who may ask it what.
    pub(super) access: Arc<Access>,
    /// Bounds every stage's `drain`; `None`: as the files say.
    pub(super) drain: Option<Duration>,
    /// Who is told of SIGHUP; `None`: it stops.
    pub(super) hangup: Option<Arc<Notify>>,
}

/// What was started, for those who add tasks to it.
pub(super) struct Started<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) supervisor: &'a Supervisor,
    pub(super) address: SocketAddr,
}

/// How traces are exported, as OpenTelemetry's variables say.
pub(super) fn traces() -> CliResult<Option<TraceSettings>> {
    TraceSettings::from_variables(|name| std::env::var(name).ok())
        .map_err(|error| CliError::usage(error.to_string()))
}

impl Serving {
    /// Runs on a runtime of its own until the engine has ended. `started` is called once the stages
    /// and the server run.
    pub(super) fn run(self, started: impl FnOnce(Started<'_>) -> CliResult<()>) -> CliResult {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("biplane")
            .build()
            .context("cannot start the runtime")?;
        let end = runtime.block_on(self.serve(started));
        // A question to brokers that are away may still block a thread; it is left behind.
        runtime.shutdown_background();
        end
    }

    async fn serve(self, started: impl FnOnce(Started<'_>) -> CliResult<()>) -> CliResult {
        let mut signals = Signals::new()?;
        let (listener, address) = bind(&self.listen).await?;
        let supervisor = Supervisor::new(Handle::current());
        let (mut settings, catalog, access) = (self.settings, self.catalog, self.access);
        settings.public_url.get_or_insert_with(|| format!("http://{address}"));
        let starting = tokio::task::spawn_blocking(|| Engine::start(settings, catalog, Handle::current()));
        let engine = Arc::new(starting.await??);
        spawn_tasks(&supervisor, &engine, Arc::new(listener), &access);
        info!(%address, "listening");
        let outcome = match started(Started { engine: &engine, supervisor: &supervisor, address }) {
            Ok(()) => tokio::select! {
                () = signals.stop(self.hangup.as_deref()) => Ok(Exit::Clean),
                why = supervisor.failed() => Err(CliError::failed(why)),
            },
            Err(error) => Err(error),
        };
        info!("draining");
        let drained = drain(&engine, self.drain, &mut signals).await;
        supervisor.stop(TASKS_END).await;
        info!(drained, "stopped");
        outcome
    }
}

async fn bind(listen: &str) -> CliResult<(std::net::TcpListener, SocketAddr)> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on `{listen}` (BIPLANE_LISTEN)"))?;
    let address = listener.local_addr()?;
    Ok((listener.into_std()?, address))
}

fn spawn_tasks(
    supervisor: &Supervisor,
    engine: &Arc<Engine>,
    listener: Arc<std::net::TcpListener>,
    access: &Arc<Access>,
) {
    let (viewed, access) = (Arc::clone(engine), Arc::clone(access));
    supervisor.spawn("http", OnError::Stop, move |cancel| {
        let view: Arc<dyn View> = Arc::clone(&viewed) as Arc<dyn View>;
        let answers = http::serve(Arc::clone(&listener), Api::new(view, Arc::clone(&access)), cancel);
        async { answers.await.map_err(TaskError::from) }
    });
    let again = OnError::Restart(Duration::from_secs(1));
    let (followed, tidied) = (Arc::clone(engine), Arc::clone(engine));
    supervisor.spawn("control", again, move |cancel| Arc::clone(&followed).follow_control(cancel));
    supervisor.spawn("control-tidy", again, move |cancel| Arc::clone(&tidied).tidy_control(cancel));
    let worked = Arc::clone(engine);
    supervisor.spawn("jobs", again, move |cancel| Arc::clone(&worked).run_jobs(cancel));
    let exported = Arc::clone(engine);
    supervisor.spawn("traces", again, move |cancel| Arc::clone(&exported).export_spans(cancel));
    let watched = Arc::clone(engine);
    supervisor.spawn("broker-watch", OnError::Restart(Duration::from_secs(1)), move |cancel| {
        Arc::clone(&watched).watch_brokers(cancel)
    });
}

async fn drain(engine: &Arc<Engine>, limit: Option<Duration>, signals: &mut Signals) -> bool {
    let hurry = CancellationToken::new();
    let (drained, hurried) = (Arc::clone(engine), hurry.clone());
    let stages = tokio::task::spawn_blocking(move || drained.drain(limit, &hurried));
    // Events of the last jobs are sent, too.
    let closed = Arc::clone(engine);
    let all = async {
        let (stages, jobs) = tokio::join!(stages, engine.drain_jobs(limit, &hurry));
        let sent = tokio::task::spawn_blocking(move || closed.close_producer()).await;
        stages.unwrap_or(false) && jobs && sent.unwrap_or(false)
    };
    tokio::pin!(all);
    loop {
        tokio::select! {
            drained = &mut all => return drained,
            () = signals.next(), if !hurry.is_cancelled() => hurry.cancel(),
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> CliResult<Self> {
        let failed = "cannot listen to signals";
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context(failed)?,
            interrupt: signal(SignalKind::interrupt()).context(failed)?,
            hangup: signal(SignalKind::hangup()).context(failed)?,
        })
    }

    /// The first request to stop; `hangup` is told of what is none. Cancel-safe.
    async fn stop(&mut self, hangup: Option<&Notify>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => match hangup {
                    Some(told) => told.notify_one(),
                    None => return,
                },
            }
        }
    }

    /// The next request to stop. Cancel-safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
