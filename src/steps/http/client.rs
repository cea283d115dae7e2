//! Named clients: their settings, and the connections that all steps of one client share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;

use crate::base::http_client;
use crate::steps::OpenError;

/// A named HTTP client as `check` resolved it. Never shows its secrets.
#[derive(Clone, PartialEq)]
pub struct HttpClient {
    /// Its identity in the files; empty for steps with a whole `url`.
    pub name: Arc<str>,
    /// Scheme, host and the start of every path; `None` where the step has a whole `url`.
    pub base_url: Option<String>,
    /// How it says who it is.
    pub auth: Option<HttpAuth>,
    /// Headers of every request; their values may be secrets.
    pub headers: Vec<(String, String)>,
    /// The total deadline of one request.
    pub timeout: Duration,
    /// How long connecting may take; `None`: as long as the whole.
    pub connect_timeout: Option<Duration>,
    /// The largest answer, decompressed.
    pub max_response_bytes: usize,
    /// How many requests may be under way at one time; at least 1.
    pub max_connections: usize,
}

/// How a client says who it is.
#[derive(Clone, PartialEq)]
pub enum HttpAuth {
    /// `Authorization: Bearer …`.
    Bearer(String),
    /// `Authorization: Basic …`.
    Basic {
        /// The user's name.
        user: String,
        /// The password.
        password: String,
    },
}

impl Default for HttpClient {
    fn default() -> Self {
        Self {
            name: Arc::from(""),
            base_url: None,
            auth: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            connect_timeout: None,
            max_response_bytes: 1024 * 1024,
            max_connections: 64,
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpAuth(…)")
    }
}

/// Connections of one client, and how many requests may use them at one time.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) client: reqwest::Client,
    pub(super) permits: Arc<Semaphore>,
}

/// The open pools, one a client; shared through [`crate::steps::Ports`].
#[derive(Debug, Default)]
pub struct Pools {
    open: Mutex<Vec<(Arc<HttpClient>, Pool)>>,
}

impl Pools {
    /// The pool of `settings`: the one that is open, unless its settings changed.
    pub(super) fn get(&self, settings: &Arc<HttpClient>) -> Result<Pool, OpenError> {
        let mut open = self.open.lock();
        if let Some((_, pool)) = open.iter().find(|(known, _)| **known == **settings) {
            return Ok(pool.clone());
        }
        let pool = Pool {
            client: build(settings)?,
            permits: Arc::new(Semaphore::new(settings.max_connections.clamp(1, Semaphore::MAX_PERMITS))),
        };
        // Steps that are still open hold on to the old pool themselves.
        open.retain(|(known, _)| known.name != settings.name);
        open.push((Arc::clone(settings), pool.clone()));
        Ok(pool)
    }
}

fn build(settings: &HttpClient) -> Result<reqwest::Client, OpenError> {
    http_client()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("biplane/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers(settings)?)
        .connect_timeout(settings.connect_timeout.unwrap_or(settings.timeout))
        .pool_max_idle_per_host(settings.max_connections)
        .build()
        .map_err(|error| {
            OpenError::new(format!("the HTTP client `{}` cannot be built: {error}", settings.name))
        })
}

fn headers(settings: &HttpClient) -> Result<HeaderMap, OpenError> {
    let mut headers = HeaderMap::new();
    let unfit =
        |what: &str| OpenError::new(format!("{what} of the HTTP client `{}` is no header", settings.name));
    for (name, value) in &settings.headers {
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit(name))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| unfit(name))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    let auth = settings.auth.as_ref().map(|auth| match auth {
        HttpAuth::Bearer(token) => format!("Bearer {token}"),
        HttpAuth::Basic { user, password } => {
            use base64::Engine as _;
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            format!("Basic {pair}")
        }
    });
    if let Some(auth) = auth {
        let mut value = HeaderValue::from_str(&auth).map_err(|_| unfit("the credential"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}
