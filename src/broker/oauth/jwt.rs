//! What a JWT says of itself, and JWTs without a signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value as Json, json};

use super::Token;

/// What the client needs to know of a JWT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// `sub`.
    pub(super) subject: Option<String>,
    /// `exp`, in milliseconds since the Unix epoch.
    pub(super) expires_at: Option<i64>,
}

impl Claims {
    /// The claims of a text that is a JWT.
    pub(super) fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
        let claims: Json = serde_json::from_slice(&claims).ok()?;
        let claims = claims.as_object()?;
        Some(Self {
            subject: claims.get("sub").and_then(Json::as_str).map(str::to_owned),
            expires_at: claims.get("exp").and_then(Json::as_f64).map(|seconds| (seconds * 1_000.0) as i64),
        })
    }
}

/// A JWT with these claims and no signature.
pub(super) fn unsigned(claims: &Json) -> String {
    let encode = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.", encode(&json!({ "alg": "none" })), encode(claims))
}

/// Makes tokens without a signature, as the client does by `sasl.oauthbearer.config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsecured {
    principal_claim: String,
    principal: String,
    scope_claim: String,
    scope: Vec<String>,
    life_seconds: i64,
}

impl Unsecured {
    /// Reads `principal=NAME scope=a,b lifeSeconds=3600 principalClaimName=sub scopeClaimName=scope`.
    pub(super) fn read(config: &str) -> Result<Self, String> {
        let mut unsecured = Self {
            principal_claim: "sub".to_owned(),
            principal: String::new(),
            scope_claim: "scope".to_owned(),
            scope: Vec::new(),
            life_seconds: 3_600,
        };
        for pair in config.split_whitespace() {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "principal" => value.clone_into(&mut unsecured.principal),
                "principalClaimName" => value.clone_into(&mut unsecured.principal_claim),
                "scope" => unsecured.scope = value.split(',').map(str::to_owned).collect(),
                "scopeClaimName" => value.clone_into(&mut unsecured.scope_claim),
                "lifeSeconds" => {
                    let life = value.parse().ok().filter(|life| (1..=1_000_000_000).contains(life));
                    unsecured.life_seconds = life.ok_or("`lifeSeconds` is no number of seconds")?;
                }
                _ => {
                    return Err(format!(
                        "`{key}` is not known; known are `principal`, `principalClaimName`, `scope`, `scopeClaimName` and `lifeSeconds`"
                    ));
                }
            }
        }
        if unsecured.principal.is_empty() || unsecured.principal_claim.is_empty() {
            return Err("`principal=NAME` is missing".to_owned());
        }
        Ok(unsecured)
    }

    pub(super) fn token(&self, now_millis: i64) -> Token {
        let issued = now_millis / 1_000;
        let expires = issued + self.life_seconds;
        let mut claims = json!({ "iat": issued, "exp": expires });
        claims[&self.principal_claim] = self.principal.as_str().into();
        if !self.scope.is_empty() {
            claims[&self.scope_claim] = self.scope.clone().into();
        }
        Token { value: unsigned(&claims), principal: self.principal.clone(), expires_at: expires * 1_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_from_jwts_and_nothing_else() {
        let jwt = unsigned(&json!({ "sub": "me", "exp": 1_700_000_000.5 }));
        let claims = Claims { subject: Some("me".to_owned()), expires_at: Some(1_700_000_000_500) };
        assert_eq!(Claims::of(&jwt), Some(claims));
        assert_eq!(
            Claims::of(&unsigned(&json!({}))),
            Some(Claims { subject: None, expires_at: None }),
            "a JWT need not say"
        );
        for text in ["", "opaque", "a.b.c", "..", &format!("{jwt}.x"), &unsigned(&json!([1]))] {
            assert_eq!(Claims::of(text), None, "{text}");
        }
    }

    #[test]
    fn unsecured_tokens_say_what_the_config_says() {
        let unsecured = Unsecured::read("principal=me scope=a,b lifeSeconds=5").unwrap();
        let token = unsecured.token(1_000_500);
        assert_eq!((token.principal.as_str(), token.expires_at), ("me", 1_005_000));
        let claims = token.value.split('.').nth(1).unwrap();
        let claims: Json = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(claims, json!({ "iat": 1_000, "exp": 1_005, "sub": "me", "scope": ["a", "b"] }));
        let renamed = Unsecured::read("principalClaimName=name principal=me").unwrap().token(0);
        assert!(Claims::of(&renamed.value).is_some_and(|claims| claims.subject.is_none()));
        for config in ["", "scope=a", "principal=me lifeSeconds=0", "principal=me extension_a=b"] {
            assert!(Unsecured::read(config).is_err(), "{config}");
        }
    }
}
