//! The addresses by which others call jobs back: a token that nobody can guess, behind the engine's own address.

use std::sync::Arc;

use crate::store::{SecretHash, secret};

/// One attempt's token. Never shown but in its address.
pub(super) struct Token(String);

impl Token {
    pub(super) fn new() -> Self {
        Self(secret())
    }

    pub(super) fn hash(&self) -> SecretHash {
        SecretHash::of(&self.0)
    }
}

/// Where callbacks reach an engine.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    base: Arc<str>,
}

impl Addresses {
    /// Those of an engine that others reach at `public_url`.
    pub(super) fn new(public_url: &str) -> Self {
        Self { base: Arc::from(public_url.trim_end_matches('/')) }
    }

    pub(super) fn of(&self, token: &Token) -> String {
        format!("{}/v1/callbacks/{}", self.base, token.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_token_of_its_own_and_stands_below_the_engine_s() {
        let (one, other) = (Token::new(), Token::new());
        let of = |base: &str| Addresses::new(base).of(&one);
        assert!(
            of("https://jobs.example.com/biplane/")
                .starts_with("https://jobs.example.com/biplane/v1/callbacks/")
        );
        assert_ne!(of("http://h"), Addresses::new("http://h").of(&other));
        assert_eq!((one.0.len(), SecretHash::of(&one.0)), (43, one.hash()));
    }
}
