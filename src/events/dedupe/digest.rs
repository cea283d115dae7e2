//! What stands for a record's key: a digest of fixed size, so that marks are small whatever keys are made
//! of, and show nothing of what records hold.

use std::fmt::{self, Write};

use sha2::{Digest as _, Sha256};

/// The digest of one key. Cut to 128 bits: two keys of one window never share one by chance.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 16]);

impl Digest {
    /// Its text: 32 hexadecimal digits.
    pub(super) fn hex(self) -> String {
        self.0.iter().fold(String::with_capacity(32), |mut hex, byte| {
            // Writing into a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Reads that text; `None` where it is something else.
    pub(super) fn read(hex: &str) -> Option<Self> {
        if hex.len() != 32 || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        Some(Self(u128::from_str_radix(hex, 16).ok()?.to_be_bytes()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// Makes digests of the keys that one expression gives.
#[derive(Debug, Clone)]
pub(super) struct Keys(Sha256);

impl Keys {
    /// Another expression gives other digests for the same texts: what was marked under the old one must
    /// not make duplicates of what only looks alike.
    pub(super) fn of(expression: &str) -> Self {
        Self(Sha256::new_with_prefix(expression).chain_update([0]))
    }

    pub(super) fn digest(&self, key: &str) -> Digest {
        let whole = self.0.clone().chain_update(key).finalize();
        let mut cut = [0; 16];
        cut.copy_from_slice(&whole[..16]);
        Digest(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_digest_is_read_again_and_nothing_else_is() {
        let digest = Keys::of("value.id").digest("7");
        assert_eq!(Digest::read(&digest.hex()), Some(digest));
        for text in ["", "owner/0011223344556677", "+1223344556677889900112233445566", &"A".repeat(32)] {
            assert_eq!(Digest::read(text), None, "{text}");
        }
    }

    #[test]
    fn the_same_text_under_another_expression_is_another_key() {
        let (id, number) = (Keys::of("value.id"), Keys::of("value.number"));
        assert_eq!(id.digest("7"), Keys::of("value.id").digest("7"));
        assert_ne!(id.digest("7"), number.digest("7"));
        assert_ne!(id.digest("7"), id.digest("8"));
    }
}
