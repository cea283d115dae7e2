//! The services that the shipped example asks, as `dev --sample` plays them. One has what is new of a connector. The
//! other screens people: at first it does not know one
//! author, then it is down for a while, and it comes back knowing all. So one sees what a stage does when a
//! system that its steps ask is down, and has something to replay.
//!
//! It listens on the loopback, on a port of the system's choice, and only where the environment names no
//! such service.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::exit::CliResult;
use super::live::Screen;
use crate::catalog::Outside;
use crate::engine::{Process, TaskError};

/// The variables by which the example's files know that there is one, and where.
const SWITCH: &str = "SCREENING";
const ADDRESS: &str = "SCREENING_URL";
/// The same of the service that the job `connectors.sync` asks.
const SYNC_SWITCH: &str = "SYNCING";
const SYNC_ADDRESS: &str = "CONNECTORS_URL";
/// The author that it does not know at first.
const UNKNOWN: &str = "farah@northwind.example";
/// It goes down once it was asked so often, that author's record among them.
const ASKED: usize = 8;
/// How long it is down: long enough to read what the table says meanwhile.
const OUTAGE: Duration = Duration::from_secs(5);

/// The service, listening.
pub(super) struct Screening {
    listener: TcpListener,
    url: String,
    play: Play,
}

/// What all parts of it share.
#[derive(Clone, Default)]
struct Play(Arc<Shared>);

#[derive(Default)]
struct Shared {
    act: Mutex<Act>,
    goes_down: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// It answers, and does not know everybody.
    Early {
        asked: usize,
        refused: bool,
    },
    Down,
    /// It answers and knows all.
    Back,
}

impl Default for Act {
    fn default() -> Self {
        Self::Early { asked: 0, refused: false }
    }
}

impl Screening {
    /// Takes a port; `None` where the environment names a service.
    pub(super) fn listen() -> CliResult<Option<Self>> {
        if [SWITCH, ADDRESS].iter().any(|name| std::env::var_os(name).is_some()) {
            return Ok(None);
        }
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for the example's service")?;
        listener.set_nonblocking(true).context("no port for the example's service")?;
        let url = format!("http://{}", listener.local_addr().context("no port for the example's service")?);
        Ok(Some(Self { listener, url, play: Play::default() }))
    }

    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Answers until `cancel`.
    ///
    /// # Errors
    /// Where the listener fails.
    pub(super) async fn answer(self: Arc<Self>, cancel: CancellationToken) -> Result<(), TaskError> {
        let listener = tokio::net::TcpListener::from_std(self.listener.try_clone()?)?;
        let routes = Router::new().route("/people/{author}", get(asked)).with_state(self.play.clone());
        let routes = routes.route("/connectors/{connector}/{tenant}/newest", get(newest));
        // Connections that are open end with the runtime.
        match cancel.run_until_cancelled(axum::serve(listener, routes).into_future()).await {
            Some(end) => Ok(end?),
            None => Ok(()),
        }
    }

    /// Goes down and comes back, and says so; returns once it is back.
    pub(super) async fn play(&self, screen: &Screen) {
        self.play.0.goes_down.notified().await;
        let seconds = OUTAGE.as_secs();
        screen.say(&format!("screening is down: for {seconds} seconds it answers 503\n"));
        tokio::time::sleep(OUTAGE).await;
        *self.play.0.act.lock() = Act::Back;
        screen.say(&format!("screening is back, and knows {UNKNOWN} now\n"));
    }
}

async fn asked(State(play): State<Play>, Path(author): Path<String>) -> StatusCode {
    let mut act = play.0.act.lock();
    let (answer, next) = act.asked(&author);
    if next == Act::Down && *act != Act::Down {
        play.0.goes_down.notify_one();
    }
    *act = next;
    answer
}

/// The newest event that a connector has for a tenant, as it hands it over.
async fn newest(Path((connector, tenant)): Path<(String, String)>) -> Json<Value> {
    Json(json!({
        "id": format!("{connector}-newest"), "kind": "calendar.event", "connector": connector, "tenant": tenant,
        "received_at": "2026-01-12T12:00:00Z",
        "payload": {
            "uid": format!("{tenant}-review"), "start": "2026-01-19T09:00:00Z", "title": "Review of the deal",
            "organizer": "ada@acme.example", "attendees": ["bruno@acme.example"],
        },
    }))
}

impl Act {
    /// What it answers, and how it goes on.
    fn asked(self, author: &str) -> (StatusCode, Self) {
        match self {
            Self::Back => (StatusCode::NO_CONTENT, self),
            Self::Down => (StatusCode::SERVICE_UNAVAILABLE, self),
            Self::Early { asked, refused } => {
                let unknown = author == UNKNOWN;
                let (asked, refused) = (asked + 1, refused || unknown);
                let answer = if unknown { StatusCode::NOT_FOUND } else { StatusCode::NO_CONTENT };
                let next =
                    if asked >= ASKED && refused { Self::Down } else { Self::Early { asked, refused } };
                (answer, next)
            }
        }
    }
}

/// The process, which names the service where the environment does not.
#[derive(Debug, Clone, Default)]
pub(super) struct Played {
    /// Where it is played.
    pub(super) url: Option<String>,
}

impl Outside for Played {
    fn variable(&self, name: &str) -> Option<String> {
        let url = self.url.as_ref();
        Process.variable(name).or_else(|| match name {
            SWITCH | SYNC_SWITCH => url.map(|_| "true".to_owned()),
            ADDRESS | SYNC_ADDRESS => url.cloned(),
            _ => None,
        })
    }

    fn mounted(&self, path: &str) -> Result<String, String> {
        Process.mounted(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_down_once_somebody_was_refused_and_comes_back_knowing_all() {
        let mut act = Act::default();
        let mut ask = |author: &str| {
            let (answer, next) = act.asked(author);
            act = next;
            answer.as_u16()
        };
        assert!((0..2 * ASKED).all(|_| ask("ada@acme.example") == 204), "nobody was refused yet");
        assert_eq!((ask(UNKNOWN), ask(UNKNOWN), ask("ada@acme.example")), (404, 503, 503));
        assert_eq!(Act::Back.asked(UNKNOWN), (StatusCode::NO_CONTENT, Act::Back));
    }
}
