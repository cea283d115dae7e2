//! The routes: `/live`, `/ready`, `/metrics`, `/v1/status`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::engine::View;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long requests may go on after the server was cancelled.
const GRACE: Duration = Duration::from_millis(500);

type Shared = State<Arc<dyn View>>;

/// Answers on `listener` until `cancel` is cancelled; open connections are left half a second to
/// end.
///
/// # Errors
/// Where the listener fails for good.
pub async fn serve(
    listener: Arc<std::net::TcpListener>,
    view: Arc<dyn View>,
    cancel: CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener.try_clone()?)?;
    let stop = cancel.clone();
    let answers = axum::serve(listener, router(view))
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

/// The routes over `view`.
pub fn router(view: Arc<dyn View>) -> Router {
    Router::new()
        .route("/live", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .fallback(not_found)
        .with_state(view)
}

async fn ready(State(view): Shared) -> Response {
    let readiness = view.readiness();
    let code = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(readiness)).into_response()
}

async fn metrics(State(view): Shared) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], view.metrics()).into_response()
}

async fn status(State(view): Shared) -> Response {
    Json(view.status()).into_response()
}

async fn not_found() -> Response {
    let routes = ["/live", "/ready", "/metrics", "/v1/status"];
    (StatusCode::NOT_FOUND, Json(serde_json::json!({ "error": "no such route", "routes": routes })))
        .into_response()
}

#[cfg(test)]
mod tests {
    use crate::engine::{BrokerState, EngineStatus, Readiness};

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
            }
        }

        fn readiness(&self) -> Readiness {
            Readiness { ready: self.ready, reasons: Vec::new() }
        }

        fn metrics(&self) -> String {
            "# EOF\n".to_owned()
        }
    }

    async fn answers(ready: bool, path: &str) -> (u16, String) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let server = serve(Arc::new(listener), Arc::new(Fake { ready }), cancel.clone());
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
