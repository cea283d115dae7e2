//! Asking a running engine: `GET /v1/status` at the address where `BIPLANE_LISTEN` says one listens.

use std::time::Duration;

use reqwest::StatusCode;

use super::exit::CliResult;
use super::{api, output};
use crate::base::http_client;
use crate::engine::EngineStatus;

const LIMIT: Duration = Duration::from_secs(2);

/// The status of the engine at `listen`; `None` where none answers.
pub(super) fn status(listen: &str) -> CliResult<Option<EngineStatus>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(ask(&url(listen))))
}

async fn ask(url: &str) -> Option<EngineStatus> {
    let client = http_client().no_proxy().timeout(LIMIT).build().ok()?;
    let mut request = client.get(url);
    if let Some(token) = api::token() {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.ok()?;
    if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        output::note(&format!("{url} refuses: BIPLANE_TOKEN names a token with the scope `read`"));
    }
    let answer = answer.error_for_status().ok()?;
    serde_json::from_slice(&answer.bytes().await.ok()?).ok()
}

/// An engine that listens on all addresses is asked on loopback.
fn url(listen: &str) -> String {
    let (host, port) = listen.rsplit_once(':').unwrap_or((listen, "8686"));
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    format!("http://{host}:{port}/v1/status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_on_all_addresses_is_asked_on_loopback() {
        assert_eq!(url("0.0.0.0:1"), "http://127.0.0.1:1/v1/status");
        assert_eq!(url("[::]:1"), "http://[::1]:1/v1/status");
        assert_eq!(url("engine:1"), "http://engine:1/v1/status");
    }
}
