//! The step: builds a request from the record, sends it, and puts the answer where the step says.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};
use serde_json::json;

use super::answer::{Answer, status_failure, transport};
use super::cache::Cache;
use super::client::{HttpClient, Pool};
use crate::base::{Class, Failure};
use crate::expr::{Expression, Root, RootSet, Scope, Template, TemplateTree};
use crate::record::Item;
use crate::steps::path::FieldPath;
use crate::steps::{
    BoxedRun, Flow, ItemScope, OpenError, Ports, Runnable, StepBody, StepContext, WaitingStep,
};

/// The step as planned.
#[derive(Debug, Clone)]
pub(super) struct Http {
    pub(super) client: Arc<HttpClient>,
    pub(super) target: Target,
    pub(super) method: Method,
    pub(super) query: Vec<(String, Template)>,
    pub(super) headers: Vec<(String, Template)>,
    pub(super) payload: Payload,
    pub(super) into: Option<FieldPath>,
    pub(super) on_status: Vec<StatusRule>,
    pub(super) cache: Option<CacheSettings>,
    pub(super) response: Response,
    pub(super) max_bytes: usize,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Below the client's base URL.
    Path(Template),
    /// A whole URL.
    Url(Template),
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    None,
    Json(TemplateTree),
    Text(Template),
}

/// How an answer is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Response {
    Json,
    Text,
    None,
}

/// What a status means, where it means something of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum OnStatus {
    Null,
    Drop,
    DeadLetter,
    Accept,
}

/// A rule for the statuses from `first` to `last`.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatusRule {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) action: OnStatus,
}

/// What is kept, how long, and in how many bytes.
#[derive(Debug, Clone)]
pub(super) struct CacheSettings {
    pub(super) key: Expression,
    pub(super) ttl: Duration,
    pub(super) max_bytes: usize,
}

/// The step, open.
struct OpenHttp {
    plan: Http,
    pool: Pool,
    cache: Option<Cache>,
}

impl StepBody for Http {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn waits(&self) -> bool {
        true
    }

    fn reads(&self) -> RootSet {
        let target = match &self.target {
            Target::Path(template) | Target::Url(template) => template.reads(),
        };
        let payload = match &self.payload {
            Payload::None => RootSet::EMPTY,
            Payload::Json(tree) => tree.reads(),
            Payload::Text(template) => template.reads(),
        };
        let named = self.query.iter().chain(&self.headers).map(|(_, template)| template.reads());
        let cache = self.cache.iter().map(|cache| cache.key.reads());
        let into = self.into.iter().map(|_| RootSet::EMPTY.with(Root::Value));
        named.chain(cache).chain(into).fold(target.union(payload), RootSet::union)
    }

    fn open(&self, ports: &Ports) -> Result<Runnable, OpenError> {
        if let Some(base) = &self.client.base_url {
            let fits =
                Url::parse(base).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if !fits {
                let name = &self.client.name;
                return Err(OpenError::new(format!(
                    "the base URL of the HTTP client `{name}` is no http URL"
                )));
            }
        }
        Ok(Runnable::Waiting(Box::new(OpenHttp {
            pool: ports.http.get(&self.client)?,
            cache: self.cache.as_ref().map(|cache| Cache::new(cache.ttl, cache.max_bytes)),
            plan: self.clone(),
        })))
    }
}

impl WaitingStep for OpenHttp {
    fn run<'a, 'r: 'a>(&'a self, item: &'a mut Item<'r>, context: StepContext<'a>) -> BoxedRun<'a, 'r> {
        Box::pin(async move {
            if let Some(path) = &self.plan.into {
                path.check(item.value()?)?;
            }
            let (request, key) = {
                let scope = ItemScope::new(item, context.env);
                (self.plan.request(&self.pool, &scope)?, self.plan.cache_key(&scope)?)
            };
            let answer = match (&self.cache, key) {
                (Some(cache), Some(key)) => cache.get(&key, self.send(request)).await?,
                _ => Arc::new(self.send(request).await?),
            };
            self.plan.put(item, context.name, &answer)
        })
    }
}

impl OpenHttp {
    /// Sends and reads the whole answer within the client's deadline, the wait for a connection included.
    async fn send(&self, request: Request) -> Result<Answer, Failure> {
        let limit = self.plan.client.timeout;
        tokio::time::timeout(limit, self.exchange(request)).await.unwrap_or_else(|_| {
            let limit = crate::base::format_duration(limit);
            Err(Failure::transient("timeout", format!("no whole answer within {limit}")))
        })
    }

    async fn exchange(&self, request: Request) -> Result<Answer, Failure> {
        let _permit = self
            .pool
            .permits
            .acquire()
            .await
            .map_err(|_| Failure::transient("connection", "the HTTP client is closed"))?;
        let response = self.pool.client.execute(request).await.map_err(transport)?;
        let status = response.status().as_u16();
        match self.plan.action(status) {
            OnStatus::Accept => Answer::read(response, self.plan.response, self.plan.max_bytes).await,
            // `put` tells what a record with such an answer comes to.
            OnStatus::Null | OnStatus::Drop => Ok(Answer::null(status)),
            OnStatus::DeadLetter => {
                let failure = status_failure(status, response.headers());
                // A status that the step itself gives up on is not worth another try by its class.
                let class = if self.plan.rule(status).is_some() { Class::Permanent } else { failure.class };
                Err(Failure { class, ..failure })
            }
        }
    }
}

impl Http {
    /// What a status means: a rule of the step, else success is accepted and anything else fails.
    fn action(&self, status: u16) -> OnStatus {
        match self.rule(status) {
            Some(rule) => rule.action,
            None if (200..300).contains(&status) => OnStatus::Accept,
            None => OnStatus::DeadLetter,
        }
    }

    fn rule(&self, status: u16) -> Option<&StatusRule> {
        self.on_status.iter().find(|rule| (rule.first..=rule.last).contains(&status))
    }

    fn put<'r>(&self, item: &mut Item<'r>, name: &Arc<str>, answer: &Answer) -> Result<Flow<'r>, Failure> {
        if self.action(answer.status) == OnStatus::Drop {
            return Ok(Flow::Filtered);
        }
        if let Some(path) = &self.into {
            path.set(item.value_mut()?, answer.body.clone())?;
        }
        item.set_result(name, json!({ "status": answer.status, "body": answer.body }));
        Ok(Flow::Next)
    }

    fn cache_key(&self, scope: &dyn Scope) -> Result<Option<String>, Failure> {
        match &self.cache {
            Some(cache) => Ok(cache.key.text(scope)?.map(|key| key.into_owned())),
            None => Ok(None),
        }
    }

    fn request(&self, pool: &Pool, scope: &dyn Scope) -> Result<Request, Failure> {
        let mut builder = pool.client.request(self.method.clone(), self.url(scope)?);
        match &self.payload {
            Payload::None => {}
            Payload::Json(tree) => {
                builder =
                    builder.header(CONTENT_TYPE, "application/json").body(tree.render(scope)?.to_string());
            }
            Payload::Text(template) => {
                builder = builder.body(template.text(scope)?.unwrap_or_default().into_owned());
            }
        }
        let mut request = builder.build().map_err(transport)?;
        for (name, template) in &self.headers {
            let Some(text) = template.text(scope)? else { continue };
            let unfit =
                |_| Failure::permanent("header", format!("the header `{name}` cannot hold its value"));
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| Failure::permanent("header", format!("`{name}` is no name of a header")))?;
            let value = HeaderValue::from_str(&text).map_err(unfit)?;
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }

    fn url(&self, scope: &dyn Scope) -> Result<Url, Failure> {
        let text = match &self.target {
            Target::Url(template) => template.text(scope)?.unwrap_or_default().into_owned(),
            Target::Path(template) => {
                let base = self.client.base_url.as_deref().unwrap_or_default().trim_end_matches('/');
                let path = template.text(scope)?.unwrap_or_default();
                match &*path {
                    "" => base.to_owned(),
                    path => format!("{base}/{}", path.trim_start_matches('/')),
                }
            }
        };
        let mut url =
            Url::parse(&text).map_err(|error| Failure::permanent("url", format!("no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Failure::permanent("url", "a URL begins with http:// or https://"));
        }
        for (name, template) in &self.query {
            if let Some(text) = template.text(scope)? {
                url.query_pairs_mut().append_pair(name, &text);
            }
        }
        Ok(url)
    }
}
