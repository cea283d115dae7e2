//! The files of a config root in memory, read at one moment. Whoever fills it does the IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::steps::ConfigFiles;

/// Paths relative to the root, with `/`, and what the files hold.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    files: BTreeMap<Arc<str>, Arc<[u8]>>,
}

/// A digest of all files; equal digests mean equal files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeDigest([u8; 32]);

impl Tree {
    /// Adds or replaces a file.
    pub fn insert(&mut self, path: impl Into<Arc<str>>, bytes: impl Into<Arc<[u8]>>) {
        self.files.insert(path.into(), bytes.into());
    }

    /// What a file holds, if it is there.
    pub fn get(&self, path: &str) -> Option<&Arc<[u8]>> {
        self.files.get(path)
    }

    /// All files by path.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<[u8]>)> {
        self.files.iter()
    }

    /// What tells these files from others.
    pub fn digest(&self) -> TreeDigest {
        let mut hash = Sha256::new();
        for part in self.iter().flat_map(|(path, bytes)| [path.as_bytes(), bytes]) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        TreeDigest(hash.finalize().into())
    }
}

impl ConfigFiles for Tree {
    fn file(&self, path: &str) -> Option<&[u8]> {
        self.get(path).map(|bytes| &**bytes)
    }

    fn under(&self, folder: &str) -> Vec<&str> {
        self.files.keys().filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/')).collect()
    }
}

/// What the process around a check knows and the files do not.
pub trait Outside {
    /// A variable of the process, if it is set.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a mounted file that `[env]` names.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn mounted(&self, path: &str) -> Result<String, String>;
}

/// A process without variables and files: what an offline check of the files alone sees.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Outside for Nothing {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn mounted(&self, path: &str) -> Result<String, String> {
        Err(format!("{path} cannot be read here"))
    }
}
