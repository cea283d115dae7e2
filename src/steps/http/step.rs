//! The step: sends a record's request, alone or in a batch, and puts the answer where the step says.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Request, Url};
use serde_json::{Value as Json, json};

use super::answer::{Answer, status_failure, transport};
use super::cache::Cache;
use super::client::{HttpClient, Pool};
use super::split::Parts;
use super::trace;
use crate::base::guard::{self, Guard};
use crate::base::{Class, Failure};
use crate::expr::{Expression, Root, RootSet, Scope, Template, TemplateTree};
use crate::record::Item;
use crate::steps::gather::{Asking, Batches, Outcomes, Settings};
use crate::steps::path::FieldPath;
use crate::steps::{
    BoxedRun, Flow, Gathering, ItemScope, OpenError, Ports, Runnable, StepBody, StepContext, WaitingStep,
};
use crate::telemetry::traces::{Parent, RequestSpan};

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
    pub(super) batch: Option<BatchSettings>,
    pub(super) response: Response,
    pub(super) max_bytes: usize,
    /// Whether asking twice is said to change nothing.
    pub(super) repeatable: bool,
    /// For how long a job waits for a callback after a 202; `None`: a 202 is an answer like any other.
    pub(super) callback_within: Option<Duration>,
}

/// The status that says: accepted, and not done yet.
const ACCEPTED: u16 = 202;

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

/// How records share a request; each is an element of the list in its body.
#[derive(Debug, Clone)]
pub(super) struct BatchSettings {
    pub(super) shared: Settings,
    pub(super) parts: Parts,
}

/// The step, open.
struct OpenHttp {
    sender: Arc<Sender>,
    cache: Option<Cache>,
    batches: Option<Batches<Element, Answer>>,
}

/// What a record adds to the request of a batch.
struct Element {
    /// Its part of the body's list.
    text: String,
    /// Its span, where spans are made.
    parent: Option<Parent>,
}

/// What a request needs on its way; a batch's outlives the record that sent it.
struct Sender {
    plan: Http,
    pool: Pool,
}

impl StepBody for Http {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn waits(&self) -> bool {
        true
    }

    fn is_repeatable(&self) -> bool {
        self.repeatable || self.method == Method::GET || self.method == Method::HEAD
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

    fn callback(&self) -> Option<Duration> {
        self.callback_within
    }

    fn awaits_callback(&self, item: &Item<'_>, name: &str) -> bool {
        let status = item.result(name).and_then(|result| result.get("status")?.as_u64());
        status.is_some_and(|status| status == u64::from(ACCEPTED)) && self.callback_within.is_some()
    }

    fn called_back(&self, item: &mut Item<'_>, name: &Arc<str>, answer: Json) -> Result<(), Failure> {
        self.put(item, name, &Answer { status: 200, body: answer }).map(|_| ())
    }

    fn gathering(&self) -> Option<&Gathering> {
        self.batch.as_ref().map(|batch| &batch.shared.gathering)
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
            sender: Arc::new(Sender { plan: self.clone(), pool: ports.http.get(&self.client)? }),
            cache: self.cache.as_ref().map(|cache| Cache::new(cache.ttl, cache.max_bytes)),
            batches: self.batch.as_ref().map(|batch| Batches::new(batch.shared.limits())),
        })))
    }
}

impl WaitingStep for OpenHttp {
    fn run<'a, 'r: 'a>(&'a self, item: &'a mut Item<'r>, context: StepContext<'a>) -> BoxedRun<'a, 'r> {
        Box::pin(async move {
            let plan = &self.sender.plan;
            if let Some(path) = &plan.into {
                path.check(item.value()?)?;
            }
            let (mut head, body, key) = {
                let scope = ItemScope::new(item, context.env);
                (plan.head(&self.sender.pool, &scope)?, plan.body(&scope)?, plan.cache_key(&scope)?)
            };
            // A request of several records is none of theirs alone.
            if context.parent.is_none() && self.batches.is_none() {
                trace::pass_on(&ItemScope::new(item, context.env), head.headers_mut());
            }
            let parent = context.parent.cloned();
            let answer = match (&self.cache, key) {
                (Some(cache), Some(key)) => cache.get(&key, self.ask(head, body, parent)).await?,
                _ => Arc::new(self.ask(head, body, parent).await?),
            };
            plan.put(item, context.name, &answer)
        })
    }
}

impl OpenHttp {
    async fn ask(
        &self,
        mut head: Request,
        body: Option<String>,
        parent: Option<Parent>,
    ) -> Result<Answer, Failure> {
        if let Some(batches) = &self.batches {
            let (sender, group) = (Arc::clone(&self.sender), group(&head));
            let send = |elements, own| Box::pin(sender.send_batch(head, elements, own)) as Asking<_>;
            let text = body.unwrap_or_default();
            let size = text.len();
            return batches.ask(group, (Element { text, parent }, size), send).await;
        }
        *head.body_mut() = body.map(Into::into);
        self.sender.send(head, parent.as_slice()).await
    }
}

/// All that a request says before its body. Neither a URL nor a header has line breaks in it.
fn group(head: &Request) -> Vec<u8> {
    let mut group = head.url().as_str().as_bytes().to_vec();
    for (name, value) in head.headers() {
        group.push(b'\n');
        group.extend_from_slice(name.as_str().as_bytes());
        group.push(b':');
        group.extend_from_slice(value.as_bytes());
    }
    group
}

impl Sender {
    /// Sends the list of all elements behind `head`. Its span is under that of the element at `own`, which
    /// stands for the others.
    async fn send_batch(
        self: Arc<Self>,
        mut head: Request,
        elements: Vec<Element>,
        own: usize,
    ) -> Outcomes<Answer> {
        let count = elements.len();
        let mut body =
            String::with_capacity(elements.iter().map(|element| element.text.len() + 1).sum::<usize>() + 1);
        let mut parents = Vec::new();
        for (index, Element { text, parent }) in elements.into_iter().enumerate() {
            body.push(if index == 0 { '[' } else { ',' });
            body.push_str(&text);
            let at = if index == own { 0 } else { parents.len() };
            parent.into_iter().for_each(|parent| parents.insert(at, parent));
        }
        body.push(']');
        *head.body_mut() = Some(body.into());
        let whole = self.send(head, &parents).await;
        match &self.plan.batch {
            Some(batch) => self.plan.split(&batch.parts, whole, count),
            None => vec![whole; count],
        }
    }

    /// Sends and reads the whole answer within the client's deadline, the wait for a connection included.
    /// The request has a span under the first of `parents`.
    async fn send(&self, mut request: Request, parents: &[Parent]) -> Result<Answer, Failure> {
        let mut span = trace::begin(&mut request, parents);
        let result = self.send_in_time(request, span.as_mut()).await;
        if let (Some(span), Err(failure)) = (&mut span, &result) {
            span.failed(&failure.code);
        }
        result
    }

    async fn send_in_time(
        &self,
        request: Request,
        span: Option<&mut RequestSpan>,
    ) -> Result<Answer, Failure> {
        let limit = match guard::removed(Guard::HttpDeadline) {
            true => Duration::MAX,
            false => self.plan.client.timeout,
        };
        tokio::time::timeout(limit, self.exchange(request, span)).await.unwrap_or_else(|_| {
            let limit = crate::base::format_duration(limit);
            Err(Failure::transient("timeout", format!("no whole answer within {limit}")))
        })
    }

    async fn exchange(&self, request: Request, span: Option<&mut RequestSpan>) -> Result<Answer, Failure> {
        let _permit = self
            .pool
            .permits
            .acquire()
            .await
            .map_err(|_| Failure::transient("connection", "the HTTP client is closed"))?;
        let response = self.pool.client.execute(request).await.map_err(transport)?;
        let status = response.status().as_u16();
        if let Some(span) = span {
            span.answered(status);
        }
        match self.plan.action(status) {
            OnStatus::Accept if self.plan.calls_back(status) => Ok(Answer::null(status)),
            OnStatus::Accept => Answer::read(response, self.plan.response, self.plan.max_bytes).await,
            // `put` tells what a record with such an answer comes to.
            OnStatus::Null | OnStatus::Drop => Ok(Answer::null(status)),
            OnStatus::DeadLetter => Err(self.plan.refused(status, response.headers())),
        }
    }
}

impl Http {
    /// What a status means: a rule of the step, else success is accepted and anything else fails.
    pub(super) fn action(&self, status: u16) -> OnStatus {
        match self.rule(status) {
            Some(rule) => rule.action,
            None if (200..300).contains(&status) => OnStatus::Accept,
            None => OnStatus::DeadLetter,
        }
    }

    /// Whether what matters comes by a callback.
    fn calls_back(&self, status: u16) -> bool {
        status == ACCEPTED && self.callback_within.is_some()
    }

    fn rule(&self, status: u16) -> Option<&StatusRule> {
        self.on_status.iter().find(|rule| (rule.first..=rule.last).contains(&status))
    }

    /// The failure of a status that is not accepted. One that the step itself gives up on is no policy's
    /// to try again.
    pub(super) fn refused(&self, status: u16, headers: &HeaderMap) -> Failure {
        let failure = status_failure(status, headers);
        match self.rule(status) {
            Some(_) => Failure { class: Class::Permanent, ..failure }.dead_lettered(),
            None => failure,
        }
    }

    fn put<'r>(&self, item: &mut Item<'r>, name: &Arc<str>, answer: &Answer) -> Result<Flow<'r>, Failure> {
        if self.action(answer.status) == OnStatus::Drop {
            return Ok(Flow::Filtered);
        }
        let later = self.calls_back(answer.status);
        if let Some(path) = self.into.as_ref().filter(|_| !later) {
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
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn requests_that_differ_before_their_bodies_are_of_different_groups() {
        let with = |path: &str, header: Option<&'static str>| {
            let mut head = Request::new(Method::POST, Url::parse("http://h").unwrap().join(path).unwrap());
            header.map(|text| head.headers_mut().insert("x-tenant", HeaderValue::from_static(text)));
            group(&head)
        };
        let different = [
            with("/", None),
            with("/b", None),
            with("/?q=1", None),
            with("/", Some("a")),
            with("/", Some("b")),
        ];
        assert_eq!(different.iter().collect::<HashSet<_>>().len(), different.len());
        assert_eq!(with("/b", Some("a")), with("/b", Some("a")));
    }
}
