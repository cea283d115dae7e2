//! OAUTHBEARER tokens: where they come from, how long they live, who asks for them.
//!
//! The client library is built without an HTTP client, so its own `oidc` method does not work; tokens
//! are got here and handed to it whenever it asks, which it does before the last one ends. A token's
//! signature is the broker's business and not looked at.

mod endpoint;
mod handed;
mod jwt;
mod oidc;
mod settings;

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::OAuthToken;

use self::jwt::{Claims, Unsecured};
use self::oidc::Refresher;
use crate::base::now_millis;
use crate::telemetry::RateLimit;

pub(super) use self::handed::Handed;
pub(super) use self::settings::{is_handled_here, read};

/// How often the same failure is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A token with what the client must know of it.
#[derive(Clone, PartialEq, Eq)]
struct Token {
    value: String,
    /// Whom it is for; only shown.
    principal: String,
    /// When it ends, in milliseconds since the Unix epoch.
    expires_at: i64,
}

/// Where all clients of an engine get their tokens. Never shows them.
pub(super) struct Tokens {
    source: Source,
    limit: RateLimit,
}

enum Source {
    /// A token endpoint.
    Oidc(Refresher),
    /// A file that somebody else keeps fresh.
    File(PathBuf),
    /// Tokens without a signature, for tests.
    Unsecured(Unsecured),
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl Tokens {
    fn new(source: Source) -> Arc<Self> {
        Arc::new(Self { source, limit: RateLimit::new(LOG_INTERVAL) })
    }

    /// A token that lives, for the client that asks. Waits only for the first answer of a token
    /// endpoint, and that a few seconds at most; fresh ones are got ahead, on a thread of their own.
    ///
    /// # Errors
    /// Why there is none and what to look at. The client asks again ten seconds later.
    fn token(&self) -> Result<OAuthToken, String> {
        let token = match &self.source {
            Source::Oidc(refresher) => refresher.token(),
            Source::File(path) => from_file(path, now_millis()),
            Source::Unsecured(unsecured) => Ok(unsecured.token(now_millis())),
        };
        match token {
            Ok(Token { value, principal, expires_at }) => {
                Ok(OAuthToken { token: value, principal_name: principal, lifetime_ms: expires_at })
            }
            Err(why) => {
                let why = format!("there is no OAUTHBEARER token: {why}");
                if let Some(suppressed) = self.limit.admit(&why) {
                    tracing::warn!(target: "kafka", suppressed, "{why}");
                }
                Err(why)
            }
        }
    }
}

/// A token for the client of a context; clients whose settings name no source are never asked.
pub(super) fn token(tokens: Option<&Tokens>) -> Result<OAuthToken, Box<dyn Error>> {
    let tokens = tokens.ok_or("no source of OAUTHBEARER tokens is set")?;
    Ok(tokens.token()?)
}

/// Reads the file anew: whoever mounts it puts a new token there before the old one ends.
fn from_file(path: &Path, now: i64) -> Result<Token, String> {
    let shown = path.display();
    let hint = "look at BIPLANE_KAFKA_SASL_OAUTHBEARER_TOKEN_FILE and at who writes it";
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}; {hint}"))?;
    let value = text.trim();
    let claims = Claims::of(value).ok_or_else(|| format!("{shown} holds no JWT; {hint}"))?;
    let expires_at = claims.expires_at.ok_or_else(|| format!("the JWT in {shown} has no `exp`; {hint}"))?;
    if expires_at <= now {
        return Err(format!("the JWT in {shown} has expired; {hint}"));
    }
    Ok(Token { value: value.to_owned(), principal: claims.subject.unwrap_or_default(), expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_is_read_again_each_time_and_what_is_wrong_with_it_is_said_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let tokens = Tokens::new(Source::File(path.clone()));
        let error = tokens.token().map(|_| ()).unwrap_err();
        assert!(error.contains("cannot read") && error.contains("TOKEN_FILE"), "{error}");
        let jwt = |subject: &str, life: i64| {
            jwt::unsigned(&serde_json::json!({ "sub": subject, "exp": now_millis() / 1_000 + life }))
        };
        for subject in ["one", "two"] {
            std::fs::write(&path, format!("{}\n", jwt(subject, 60))).unwrap();
            let token = tokens.token().unwrap();
            assert_eq!((token.principal_name.as_str(), token.token.ends_with('.')), (subject, true));
            assert!(token.lifetime_ms > now_millis() + 50_000, "{}", token.lifetime_ms);
        }
        for (text, said) in [(jwt("x", -1), "has expired"), ("hunter2".to_owned(), "holds no JWT")] {
            std::fs::write(&path, &text).unwrap();
            let error = tokens.token().map(|_| ()).unwrap_err();
            assert!(error.contains(said) && !error.contains(&text), "{error}");
        }
    }
}
