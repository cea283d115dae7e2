//! A token endpoint, asked by OpenID Connect's client credentials: one question, one answer.
//!
//! The secret is in no message, and neither is the query of the URL.

use base64::Engine as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde_json::Value as Json;

use super::Token;
use super::jwt::Claims;
use crate::base::now_millis;

const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// So much of what the endpoint says about a refusal is told.
const TOLD: usize = 200;

/// Where tokens are asked for, and as whom.
pub(super) struct Endpoint {
    url: Url,
    client_id: String,
    client_secret: String,
    scope: Option<String>,
}

impl Endpoint {
    pub(super) fn new(
        url: &str,
        client_id: String,
        client_secret: String,
        scope: Option<String>,
    ) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("is no URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("is no http or https URL".to_owned());
        }
        Ok(Self { url, client_id, client_secret, scope })
    }

    /// The URL without what may be secret in it.
    pub(super) fn shown(&self) -> String {
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!(
            "{}://{}{port}{}",
            self.url.scheme(),
            self.url.host_str().unwrap_or_default(),
            self.url.path()
        )
    }

    fn form(&self) -> String {
        let scope = self.scope.as_deref().map(|scope| utf8_percent_encode(scope, NON_ALPHANUMERIC));
        let scope = scope.map(|scope| format!("&scope={scope}")).unwrap_or_default();
        format!("grant_type=client_credentials{scope}")
    }

    fn authorization(&self) -> Result<HeaderValue, String> {
        let pair = format!("{}:{}", self.client_id, self.client_secret);
        let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| "the credentials fit no header".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// One question.
    pub(super) async fn ask(&self, client: &reqwest::Client) -> Result<Token, String> {
        let shown = self.shown();
        let request = client
            .post(self.url.clone())
            .header(AUTHORIZATION, self.authorization()?)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(self.form());
        let away = |error: reqwest::Error| {
            let why = source_of(&error.without_url());
            format!(
                "{shown} does not answer: {why}; look at BIPLANE_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"
            )
        };
        let mut answer = request.send().await.map_err(away)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(away)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(format!("{shown} answers with more than {MAX_ANSWER_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let json: Json = serde_json::from_slice(&body).unwrap_or_default();
        if !answer.status().is_success() {
            return Err(self.refused(answer.status().as_u16(), &json));
        }
        self.token(&json, now_millis())
    }

    fn refused(&self, status: u16, json: &Json) -> String {
        let word = |key: &str| json.get(key).and_then(Json::as_str);
        let told: Vec<_> = ["error", "error_description"].into_iter().filter_map(word).collect();
        let told: String = told.join(": ").chars().filter(|c| !c.is_control()).take(TOLD).collect();
        let told = if told.is_empty() || told.contains(&self.client_secret) {
            String::new()
        } else {
            format!(" ({told})")
        };
        format!(
            "{} answers {status}{told}; look at BIPLANE_KAFKA_SASL_OAUTHBEARER_CLIENT_ID, _CLIENT_SECRET and _SCOPE",
            self.shown()
        )
    }

    fn token(&self, json: &Json, now: i64) -> Result<Token, String> {
        let shown = self.shown();
        let value = json.get("access_token").and_then(Json::as_str);
        let value = value.ok_or_else(|| format!("{shown} answers without an `access_token`"))?;
        let claims = Claims::of(value);
        let lives = json.get("expires_in").and_then(Json::as_f64).map(|life| now + (life * 1_000.0) as i64);
        let ends = claims.as_ref().and_then(|claims| claims.expires_at);
        let expires_at = ends.into_iter().chain(lives).min().ok_or_else(|| {
            format!("{shown} does not say how long its token lives, neither by `exp` nor by `expires_in`")
        })?;
        if expires_at <= now {
            return Err(format!("{shown} hands out a token that has expired; compare the clocks"));
        }
        let subject = claims.and_then(|claims| claims.subject);
        let principal = subject.unwrap_or_else(|| self.client_id.clone());
        Ok(Token { value: value.to_owned(), principal, expires_at })
    }
}

/// The innermost reason, which is the one that helps.
pub(super) fn source_of(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::jwt::unsigned;
    use super::*;

    #[test]
    fn what_is_no_token_is_said() {
        let endpoint = Endpoint::new("https://id.example:8443/t", "me".into(), "s".into(), None).unwrap();
        let error = |json: Json| endpoint.token(&json, 1_000).map(|_| ()).unwrap_err();
        assert!(error(json!({})).contains("without an `access_token`"));
        assert!(error(json!({ "access_token": "opaque" })).contains("how long"));
        assert!(error(json!({ "access_token": unsigned(&json!({ "exp": 1 })) })).contains("expired"));
        let opaque = endpoint.token(&json!({ "access_token": "opaque", "expires_in": 2 }), 1_000).unwrap();
        assert_eq!((opaque.principal.as_str(), opaque.expires_at), ("me", 3_000));
        assert_eq!(endpoint.shown(), "https://id.example:8443/t");
    }
}
