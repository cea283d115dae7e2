//! The way of ended spans to the receiver: a bounded queue, and the loop that empties it.
//!
//! The end of a span never waits. A receiver that is slow or away fills the queue, and what finds no
//! room is counted and gone; the exporter tries a batch again by itself until its timeout is over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::receiver::{Reason, Receiver};
use super::settings::{TraceError, TraceSettings};
use crate::base::guard::{self, Guard};
use crate::base::http_client;
use crate::telemetry::{RateLimit, TraceMetrics};

/// How long the last spans may take once the engine ends.
const LAST: Duration = Duration::from_millis(500);
/// How often it is told that spans cannot be exported.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Why a span was dropped: there was no room for it.
const FULL: &str = "queue-full";
/// Why a span was dropped: the receiver did not take it in time.
const REFUSED: &str = "not-taken";

/// Opens both ends of the way.
pub(super) fn open(
    settings: &TraceSettings,
    metrics: TraceMetrics,
    resource: &Resource,
) -> Result<(Queue, SpanExport), TraceError> {
    let refused = |error: &dyn fmt::Display| {
        TraceError::new("OTEL_EXPORTER_OTLP_ENDPOINT", "set", format!("no exporter can be made: {error}"))
    };
    let client = http_client()
        // Headers may be secrets, which are for the named receiver alone.
        .redirect(reqwest::redirect::Policy::none())
        .timeout(settings.timeout)
        .build()
        .map_err(|error| refused(&error))?;
    let failed = Reason::default();
    let receiver = Receiver { client, failed: Arc::clone(&failed) };
    let built = SpanExporter::builder().with_http().with_http_client(receiver).build();
    let mut exporter = built.map_err(|error| refused(&error))?;
    exporter.set_resource(resource);
    metrics.expect([FULL, REFUSED]);
    let (sender, waiting) = mpsc::channel(settings.queue);
    let export = SpanExport {
        waiting: tokio::sync::Mutex::new(waiting),
        exporter,
        failed,
        most: settings.batch,
        delay: settings.delay,
        timeout: settings.timeout,
        metrics: metrics.clone(),
        limit: RateLimit::new(TELL_EVERY),
    };
    Ok((Queue { sender, metrics }, export))
}

/// Where ended spans wait.
#[derive(Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<SpanData>,
    metrics: TraceMetrics,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        while let Err(back) = self.sender.try_send(span) {
            if !guard::removed(Guard::SpanQueue) || self.sender.is_closed() {
                return self.metrics.dropped(FULL, 1);
            }
            span = back.into_inner();
            std::thread::yield_now();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Carries spans to the receiver.
pub struct SpanExport {
    waiting: tokio::sync::Mutex<mpsc::Receiver<SpanData>>,
    exporter: SpanExporter,
    /// Why its last request got no answer.
    failed: Reason,
    /// How many go in one request.
    most: usize,
    /// How long the first of them waits for the others.
    delay: Duration,
    /// How long one request may take, all tries together.
    timeout: Duration,
    metrics: TraceMetrics,
    limit: RateLimit,
}

impl fmt::Debug for SpanExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanExport").finish_non_exhaustive()
    }
}

impl SpanExport {
    /// Exports spans as they come until `cancel`, then those that still wait, for half a second at most.
    pub async fn run(&self, cancel: CancellationToken) {
        let mut waiting = self.waiting.lock().await;
        let end = async {
            cancel.cancelled().await;
            tokio::time::sleep(LAST).await;
        };
        tokio::pin!(end);
        let mut batch = Vec::with_capacity(self.most);
        loop {
            cancel.run_until_cancelled(self.gather(&mut waiting, &mut batch)).await;
            while batch.len() < self.most
                && let Ok(span) = waiting.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            let spans = std::mem::replace(&mut batch, Vec::with_capacity(self.most));
            let count = spans.len();
            tokio::select! {
                () = self.send(spans) => {}
                () = &mut end => return self.metrics.dropped(REFUSED, count + waiting.len()),
            }
        }
    }

    /// Fills `batch` until it is full or its first span has waited long enough. Cancel-safe: what was
    /// taken is in the batch.
    async fn gather(&self, waiting: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
        waiting.recv_many(batch, self.most).await;
        let due = Instant::now() + self.delay;
        while batch.len() < self.most {
            let more = waiting.recv_many(batch, self.most - batch.len());
            match tokio::time::timeout_at(due, more).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    async fn send(&self, spans: Vec<SpanData>) {
        let count = spans.len();
        // The exporter looks at its time between two tries, not within one.
        let sent = tokio::time::timeout(self.timeout, self.exporter.export(spans)).await;
        match sent.unwrap_or(Err(OTelSdkError::Timeout(self.timeout))) {
            Ok(()) => self.metrics.exported(count),
            Err(error) => {
                self.metrics.dropped(REFUSED, count);
                if let Some(suppressed) = self.limit.admit("export") {
                    let why = self.failed.lock().take().unwrap_or_else(|| error.to_string());
                    tracing::warn!(spans = count, suppressed, "spans are not exported and are gone: {why}");
                }
            }
        }
    }
}
