//! From a record to its request: URL, query, headers and body.

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Request, Url};
use serde_json::Value as Json;

use super::answer::transport;
use super::client::Pool;
use super::step::{Http, Payload, Target};
use crate::base::Failure;
use crate::expr::{Found, Root, Scope};

/// Where the other side finds the address to call back.
const CALLBACK: &str = "biplane-callback";

impl Http {
    /// All of the request but its body.
    pub(super) fn head(&self, pool: &Pool, scope: &dyn Scope) -> Result<Request, Failure> {
        let mut builder = pool.client.request(self.method.clone(), self.url(scope)?);
        if matches!(self.payload, Payload::Json(_)) {
            builder = builder.header(CONTENT_TYPE, "application/json");
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
        if self.callback_within.is_some()
            && !request.headers().contains_key(CALLBACK)
            && let Some(Found::Json(job)) = scope.root(Root::Job)?
            && let Some(address) = job.get("callback").and_then(Json::as_str)
            && let Ok(mut value) = HeaderValue::from_str(address)
        {
            value.set_sensitive(true);
            request.headers_mut().insert(CALLBACK, value);
        }
        Ok(request)
    }

    /// The body, where there is one.
    pub(super) fn body(&self, scope: &dyn Scope) -> Result<Option<String>, Failure> {
        Ok(match &self.payload {
            Payload::None => None,
            Payload::Json(tree) => Some(tree.render(scope)?.to_string()),
            Payload::Text(template) => Some(template.text(scope)?.unwrap_or_default().into_owned()),
        })
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
