//! Secrets that this program gives away once and knows again: only their hashes are kept.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How many random bytes a secret has.
const BYTES: usize = 32;

/// A secret that nobody can guess, in characters that need no quoting in an address.
pub fn secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; BYTES]>())
}

/// What of a secret is stored: it tells the secret again and gives it away to nobody.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Of this secret.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Whether that is the secret. Takes as long whatever the answer is.
    pub fn is_of(&self, secret: &str) -> bool {
        *self == Self::of(secret)
    }

    pub(super) fn equals(&self, hash: &[u8]) -> bool {
        self.0.ct_eq(hash).into()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for SecretHash {
    /// Takes as long whatever the answer is.
    fn eq(&self, other: &Self) -> bool {
        self.equals(&other.0)
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_hash_and_shown_nowhere() {
        let hash = SecretHash::of("canary");
        assert!(hash.is_of("canary") && !hash.is_of("canarY") && !hash.is_of(""));
        assert!(!hash.equals(&[]) && !format!("{hash:?}").contains("canary"));
        assert_ne!(secret(), secret());
        assert_eq!(secret().len(), 43);
    }
}
