//! Reads one consistent tree of files from a config root. The only place where config meets the disk.
//!
//! Nothing outside the root is read, whatever symbolic links say; hidden files (`..data` of a mounted
//! map among them) and what editors leave behind are passed over.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::catalog::{Outside, Tree};

/// The folders of a config root.
pub(super) const FOLDERS: [&str; 7] =
    ["pipelines", "schedules", "schemas", "lookups", "templates", "sql", "environments"];

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Why a config root cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The root is not there or no folder.
    #[error("cannot read the config root {}: {error}", root.display())]
    Root {
        /// Where it should be.
        root: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something below it cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A link leads out of the root.
    #[error("{} leads out of the config root", .0.display())]
    Outside(PathBuf),
    /// A file is too large to be config.
    #[error("{} is larger than 256MiB", .0.display())]
    TooLarge(PathBuf),
}

/// Reads all files of a config root.
///
/// # Errors
/// Where the root or a file below it cannot be read, or a link leads out of it.
pub fn load_tree(root: &Path) -> Result<Tree, LoadError> {
    let at_root = |error| LoadError::Root { root: root.to_owned(), error };
    let canonical = root.canonicalize().map_err(at_root)?;
    fs::read_dir(&canonical).map_err(at_root)?;
    let mut walk = Walk { root: canonical, tree: Tree::default(), seen: HashSet::new() };
    for folder in FOLDERS {
        let path = walk.root.join(folder);
        if path.is_dir() {
            walk.folder(&path, folder)?;
        }
    }
    Ok(walk.tree)
}

struct Walk {
    root: PathBuf,
    tree: Tree,
    /// Folders on the way, so that links cannot lead round in circles.
    seen: HashSet<PathBuf>,
}

impl Walk {
    fn folder(&mut self, path: &Path, shown: &str) -> Result<(), LoadError> {
        if !self.seen.insert(self.inside(path)?) {
            return Ok(());
        }
        let failed = |error| LoadError::File { path: path.to_owned(), error };
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !is_passed_over(name)) else { continue };
            let (path, shown) = (entry.path(), format!("{shown}/{name}"));
            if path.is_dir() {
                self.folder(&path, &shown)?;
            } else {
                self.file(&path, &shown)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, shown: &str) -> Result<(), LoadError> {
        let canonical = self.inside(path)?;
        let failed = |error| LoadError::File { path: path.to_owned(), error };
        let about = fs::metadata(&canonical).map_err(failed)?;
        if !about.is_file() {
            return Ok(());
        }
        if about.len() > MAX_FILE_BYTES {
            return Err(LoadError::TooLarge(path.to_owned()));
        }
        self.tree.insert(shown, fs::read(&canonical).map_err(failed)?);
        Ok(())
    }

    fn inside(&self, path: &Path) -> Result<PathBuf, LoadError> {
        let canonical =
            path.canonicalize().map_err(|error| LoadError::File { path: path.to_owned(), error })?;
        if canonical.starts_with(&self.root) {
            Ok(canonical)
        } else {
            Err(LoadError::Outside(path.to_owned()))
        }
    }
}

/// Hidden files and what editors leave while they write.
fn is_passed_over(name: &str) -> bool {
    name.starts_with(['.', '#']) || name.ends_with(['~', '#']) || name == "4913" || {
        let end = name.rsplit_once('.').map_or("", |(_, end)| end);
        matches!(end, "swp" | "swo" | "swx" | "tmp" | "bak" | "orig")
    }
}

/// The process that the engine is: its variables and the files mounted into it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Outside for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn mounted(&self, path: &str) -> Result<String, String> {
        fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_with(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        root
    }

    fn paths(tree: &Tree) -> Vec<String> {
        tree.iter().map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn only_files_of_the_known_folders_are_read_and_leftovers_are_not() {
        let root = root_with(&[
            "pipelines/a.toml",
            "pipelines/deep/er/b.toml",
            "pipelines/..data/c.toml",
            "pipelines/.a.toml.swp",
            "pipelines/a.toml~",
            "schemas/s.json",
            "src/main.toml",
        ]);
        let tree = load_tree(root.path()).unwrap();
        assert_eq!(paths(&tree), ["pipelines/a.toml", "pipelines/deep/er/b.toml", "schemas/s.json"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_may_stay_inside_the_root_but_not_leave_it() {
        let root = root_with(&["pipelines/..data/a.toml"]);
        std::os::unix::fs::symlink("..data/a.toml", root.path().join("pipelines/a.toml")).unwrap();
        assert_eq!(paths(&load_tree(root.path()).unwrap()), ["pipelines/a.toml"]);
        let other = root_with(&["secret"]);
        std::os::unix::fs::symlink(other.path().join("secret"), root.path().join("pipelines/b.toml"))
            .unwrap();
        assert!(matches!(load_tree(root.path()), Err(LoadError::Outside(_))));
    }

    #[test]
    fn a_root_that_is_not_there_is_an_error() {
        assert!(matches!(load_tree(Path::new("/nowhere/at/all")), Err(LoadError::Root { .. })));
    }
}
