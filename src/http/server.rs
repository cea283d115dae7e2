//! Serving: `/live`, `/ready`, `/metrics`, and what the table of routes adds, behind one layer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::access::{Access, guard};
use super::answer::{Answer, Refusal};
use super::routes::ROUTES;
use super::tailing::MOST_TAILS;
use crate::engine::View;
use crate::store::Database;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long requests may go on after the server was cancelled.
const GRACE: Duration = Duration::from_millis(500);

/// What the routes look at, and who may.
#[derive(Clone)]
pub struct Api {
    pub(super) view: Arc<dyn View>,
    pub(super) access: Arc<Access>,
    /// Who may still begin to follow jobs.
    pub(super) tails: Arc<Semaphore>,
}

impl Api {
    /// Over `view`, for those whom `access` lets in.
    pub fn new(view: Arc<dyn View>, access: Arc<Access>) -> Self {
        Self { view, access, tails: Arc::new(Semaphore::new(MOST_TAILS)) }
    }

    /// Where jobs are.
    pub(super) fn database(&self) -> Answer<&Database> {
        self.access.database().ok_or_else(|| {
            let message = "the engine has no database: DATABASE_URL names one";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no-database", message)
        })
    }
}

/// Answers on `listener` until `cancel` is cancelled; open connections are left half a second to
/// end.
///
/// # Errors
/// Where the listener fails for good.
pub async fn serve(
    listener: Arc<std::net::TcpListener>,
    api: Api,
    cancel: CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener.try_clone()?)?;
    let stop = cancel.clone();
    let routes = router(api).into_make_service_with_connect_info::<SocketAddr>();
    let answers = axum::serve(listener, routes)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .into_future();
    let cut = async {
        cancel.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        end = answers => end,
        () = cut => Ok(()),
    }
}

/// The routes.
pub fn router(api: Api) -> Router {
    let mut router = Router::new()
        .route("/live", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics));
    for route in ROUTES {
        router = router.route(route.path, (route.serve)());
    }
    // The layer reads bodies, no further than it lets them be.
    router.layer(DefaultBodyLimit::disable()).layer(from_fn_with_state(api.clone(), guard)).with_state(api)
}

async fn ready(State(api): State<Api>) -> Response {
    let readiness = api.view.readiness();
    let code = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(readiness)).into_response()
}

async fn metrics(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], api.view.metrics()).into_response()
}

pub(super) async fn status(State(api): State<Api>) -> Response {
    Json(api.view.status()).into_response()
}

#[cfg(test)]
mod tests {
    use crate::catalog::Catalog;
    use crate::engine::control::{ControlError, Pause, Resume};
    use crate::engine::{BrokerState, EngineStatus, Pulls, Readiness};

    use super::*;

    struct Fake {
        ready: bool,
    }

    impl View for Fake {
        fn status(&self) -> EngineStatus {
            EngineStatus {
                engine: "e".to_owned(),
                version: "1".to_owned(),
                started_at: 0,
                namespace: "biplane".to_owned(),
                catalog: "digest".to_owned(),
                generation: 1,
                broker: BrokerState::Unreachable("gone".to_owned()),
                stages: Vec::new(),
                jobs: None,
            }
        }

        fn readiness(&self) -> Readiness {
            Readiness { ready: self.ready, reasons: Vec::new() }
        }

        fn pulls(&self) -> Option<Arc<Pulls>> {
            None
        }

        fn pause_stage(&self, _: &str, _: &Pause) -> Result<(), ControlError> {
            unreachable!("no stage is paused")
        }

        fn resume_stage(&self, _: &str, _: &Resume) -> Result<(), ControlError> {
            unreachable!("no stage is resumed")
        }

        fn metrics(&self) -> String {
            "# EOF\n".to_owned()
        }

        fn catalog(&self) -> Arc<Catalog> {
            unreachable!("no job is enqueued")
        }
    }

    async fn answers(ready: bool, path: &str) -> (u16, String) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let server =
            serve(Arc::new(listener), Api::new(Arc::new(Fake { ready }), Arc::default()), cancel.clone());
        let ask = async {
            let answer = crate::base::http_client()
                .build()
                .unwrap()
                .get(format!("http://{address}{path}"))
                .send()
                .await
                .unwrap();
            let code = answer.status().as_u16();
            let text = answer.text().await.unwrap();
            cancel.cancel();
            (code, text)
        };
        let (end, answer) = tokio::join!(server, ask);
        end.unwrap();
        answer
    }

    #[tokio::test]
    async fn health_metrics_and_status_answer_and_ready_says_no_with_503() {
        assert_eq!(answers(false, "/live").await, (200, "ok\n".to_owned()));
        assert_eq!(answers(true, "/ready").await.0, 200);
        assert_eq!(answers(false, "/ready").await.0, 503);
        assert_eq!(answers(false, "/metrics").await, (200, "# EOF\n".to_owned()));
        let (code, text) = answers(false, "/v1/status").await;
        assert_eq!(code, 200);
        assert!(text.contains(r#""broker":{"unreachable":"gone"}"#), "{text}");
        assert_eq!(answers(true, "/v2").await.0, 404);
    }
}
