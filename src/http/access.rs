//! Who may ask for what: one layer in front of every route, which lets nothing pass that it does not know.
//!
//! In this order: the route must be known, the host and the origin must be ours, a write must be JSON and no larger
//! than it may be, and the bearer's token must be good for what the route needs.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::{Answer, Refusal};
use super::routes::{self, Needs};
use super::server::Api;
use crate::store::{Database, DatabaseSettings, Scope, Scopes, SecretHash};

/// The largest body that is read.
const MAX_BODY: usize = 8 << 20;

/// The least length of a token that the environment brings.
const LEAST_SECRET: usize = 32;

/// How many connections requests share.
const CONNECTIONS: u32 = 4;

/// How long a request waits for one.
const PATIENCE: Duration = Duration::from_secs(3);

/// The routes that anybody may ask for.
const OPEN: &[&str] = &["/live", "/ready", "/metrics"];

/// Against what requests are judged.
#[derive(Debug, Default)]
pub struct Access {
    /// Where tokens and jobs are.
    settings: Option<DatabaseSettings>,
    /// Opened with the first request, on the runtime that serves it.
    pool: OnceLock<Database>,
    admin: Option<SecretHash>,
    hosts: Vec<String>,
    origins: Vec<String>,
    /// The database is this engine's alone.
    private: bool,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// What the audit calls it.
    pub(super) name: String,
    pub(super) scopes: Scopes,
}

impl Access {
    /// Tokens are those of `database`, and `admin`, which opens everything. Beside addresses and `localhost`
    /// requests may name `hosts`, and pages of `origins` may send them; both are lists with commas.
    ///
    /// # Errors
    /// A message for people where the token is too short to be a secret.
    pub fn new(
        database: Option<DatabaseSettings>,
        admin: Option<&str>,
        hosts: &str,
        origins: &str,
    ) -> Result<Self, String> {
        if admin.is_some_and(|admin| admin.len() < LEAST_SECRET) {
            return Err(format!("BIPLANE_ADMIN_TOKEN must have {LEAST_SECRET} characters at least"));
        }
        let list = |text: &str| -> Vec<String> {
            let words = text.split(',').map(|word| word.trim().to_ascii_lowercase());
            words.filter(|word| !word.is_empty()).collect()
        };
        Ok(Self {
            settings: database,
            pool: OnceLock::new(),
            admin: admin.map(SecretHash::of),
            hosts: list(hosts),
            origins: list(origins),
            private: false,
        })
    }

    /// The same where the database is this engine's alone: whoever is on this machine may look at the status
    /// without a token, as where there is none.
    #[must_use]
    pub fn on_private_database(self) -> Self {
        Self { private: true, ..self }
    }

    /// Where tokens and jobs are.
    pub(super) fn database(&self) -> Option<&Database> {
        let settings = self.settings.as_ref()?;
        Some(self.pool.get_or_init(|| Database::with_patience(settings.clone(), CONNECTIONS, PATIENCE)))
    }

    async fn judge(
        &self,
        route: &routes::Route,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Answer<Caller> {
        let needs = match route.needs {
            Needs::Own => return Ok(Caller { name: "callback".to_owned(), scopes: Scopes::default() }),
            Needs::All(needs) => needs,
        };
        let caller = match bearer(headers) {
            Some(token) => self.bearer(token).await?,
            None if route.path == routes::STATUS && self.is_unlocked(peer) => {
                return Ok(Caller { name: "anonymous".to_owned(), scopes: Scopes(vec![Scope::Read]) });
            }
            None => return Err(unauthorized("a token is missing: `Authorization: Bearer TOKEN`")),
        };
        match needs.iter().find(|scope| !caller.scopes.have(**scope)) {
            None => Ok(caller),
            Some(scope) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                format!("the token `{}` has not the scope `{}`", caller.name, scope.as_str()),
            )),
        }
    }

    async fn bearer(&self, token: &str) -> Answer<Caller> {
        if self.admin.is_some_and(|admin| admin.is_of(token)) {
            return Ok(Caller { name: "admin".to_owned(), scopes: Scopes::all() });
        }
        let found = match self.database() {
            Some(database) => database.bearer(token).await?,
            None => None,
        };
        let found = found.ok_or_else(|| unauthorized("the token is none, or not any more"))?;
        Ok(Caller { name: format!("token:{}", found.name), scopes: found.scopes })
    }

    /// Without a database and a token of the environment's there is nothing that anybody could show.
    fn is_unlocked(&self, peer: Option<IpAddr>) -> bool {
        (self.settings.is_none() || self.private)
            && self.admin.is_none()
            && peer.is_some_and(|peer| peer.is_loopback())
    }

    fn judge_host(&self, headers: &HeaderMap) -> Answer<()> {
        let host = text(headers, header::HOST).unwrap_or_default().to_ascii_lowercase();
        let named = without_port(&host);
        let is_address = named.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        if !is_address && named != "localhost" && !self.hosts.iter().any(|allowed| allowed == named) {
            let message = format!("the host `{named}` is not this engine's: BIPLANE_ALLOWED_HOSTS names it");
            return Err(Refusal::new(StatusCode::FORBIDDEN, "host", message));
        }
        let Some(origin) = text(headers, header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_ascii_lowercase();
        let same = origin.split_once("://").is_some_and(|(_, from)| from == host);
        if !same && !self.origins.contains(&origin) {
            let message =
                format!("pages of `{origin}` may not ask: BIPLANE_ALLOWED_ORIGINS names those that may");
            return Err(Refusal::new(StatusCode::FORBIDDEN, "origin", message));
        }
        Ok(())
    }
}

/// The layer.
pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    match admit(&api, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn admit(api: &Api, request: Request) -> Answer<Request> {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    if path.as_deref().is_some_and(|path| OPEN.contains(&path)) {
        return Ok(request);
    }
    let route = path.and_then(|path| routes::find(request.method(), &path));
    // Whoever calls a route with a credential of its own in its path knows the engine by any name.
    if route.is_none_or(|route| route.needs != Needs::Own) {
        api.access.judge_host(request.headers())?;
    }
    let Some(route) = route else {
        // Which routes there are is nobody's secret; those that are not need no token.
        return Err(Refusal::unknown(format!(
            "there is no route {} {}; docs/http.md lists all",
            request.method(),
            request.uri().path()
        )));
    };
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let caller = api.access.judge(route, request.headers(), peer).await?;
    let mut request = if request.method() == Method::GET || route.needs == Needs::Own {
        request
    } else {
        whole(request).await?
    };
    request.extensions_mut().insert(caller);
    Ok(request)
}

/// The same with its body read, which is JSON by its own account.
async fn whole(request: Request) -> Answer<Request> {
    let kind = text(request.headers(), header::CONTENT_TYPE).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim() != "application/json" {
        let message = "a write is JSON: `Content-Type: application/json`";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", message));
    }
    let (head, body) = request.into_parts();
    let bytes = to_bytes(body, MAX_BODY).await.map_err(|_| {
        let message = format!("the body is larger than {MAX_BODY} bytes, or broke off");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
    })?;
    Ok(Request::from_parts(head, Body::from(bytes)))
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn hosts_are_addresses_and_those_that_are_named_and_origins_are_the_same_or_named() {
        let access = Access::new(None, None, "engine.example, biplane", "https://desk.example").unwrap();
        let admitted = |host: &str, origin: Option<&str>| access.judge_host(&headers(host, origin)).is_ok();
        for host in ["127.0.0.1:8686", "[::1]:8686", "localhost", "10.1.2.3", "engine.example:80", "BIPLANE"]
        {
            assert!(admitted(host, None), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8686", "", "engine.example.evil"] {
            assert!(!admitted(host, None), "{host}");
        }
        assert!(admitted("localhost:1", Some("http://localhost:1")));
        assert!(admitted("localhost:1", Some("https://desk.example")));
        assert!(!admitted("localhost:1", Some("http://localhost:2")));
        assert!(!admitted("localhost:1", Some("null")));
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(Access::new(None, Some("short"), "", "").is_err());
        assert!(Access::new(None, Some(&"x".repeat(LEAST_SECRET)), "", "").is_ok());
    }
}
