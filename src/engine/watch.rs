//! Notices that the files of a config root are others than before.
//!
//! Any event means "look again" and a digest of the contents decides, so that a touched file, an
//! editor's leftovers and a read access mean nothing. Events that get lost (network volumes, links that
//! are swapped) are made up for by looking every half a minute. Trouble with watching is logged and
//! ends nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::load::{FOLDERS, LoadError, load_tree};
use crate::catalog::{Tree, TreeDigest};

/// How often the files are looked at when nothing happens.
const POLL: Duration = Duration::from_secs(30);
/// The same where the system refuses to watch.
const POLL_UNWATCHED: Duration = Duration::from_secs(2);
/// A burst of events ends with so long a silence, but it is not waited for longer than that.
const QUIET: Duration = Duration::from_millis(100);
const LONGEST_BURST: Duration = Duration::from_secs(1);
/// How often a tree that changes while it is read is read again before that is said.
const READS: u32 = 4;

/// Watches one config root.
pub(super) struct Watch {
    root: PathBuf,
    /// The files that are known; `None`: whatever is there counts as others.
    seen: Option<TreeDigest>,
    /// The last thing that was said about a root that cannot be read.
    unread: Option<String>,
    woken: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Watches `root`; `seen` are the files that are known.
    pub(super) fn new(root: &Path, seen: TreeDigest) -> Self {
        let woken = Arc::new(Notify::new());
        // Whatever changed before the watcher was there is found by the first look.
        woken.notify_one();
        let waker = Arc::clone(&woken);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) if !may_change_files(event.kind) => {}
            Ok(_) => waker.notify_one(),
            Err(error) => {
                warn!(%error, "watching the config root met an error; the files are looked at again");
                waker.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| warn!(%error, "the config root cannot be watched and is looked at often"));
        Self { root: root.to_owned(), seen: Some(seen), unread: None, woken, watcher: watcher.ok() }
    }

    /// Counts the files that are there as others when it looks next, within half a minute.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }

    /// The same, and looks at once.
    pub(super) fn look(&mut self) {
        self.forget();
        self.woken.notify_one();
    }

    /// Waits for files that are others than before. Dropped half way it loses nothing.
    ///
    /// # Errors
    /// Where the root cannot be read; said once, and the next call waits until that changes.
    pub(super) async fn changed(&mut self) -> Result<Tree, LoadError> {
        loop {
            let poll = if self.follow() { POLL } else { POLL_UNWATCHED };
            if timeout(poll, self.woken.notified()).await.is_ok() {
                self.settle().await;
            }
            match self.read().await {
                Ok(tree) => {
                    self.unread = None;
                    let digest = Some(tree.digest());
                    if digest != self.seen {
                        self.seen = digest;
                        return Ok(tree);
                    }
                }
                Err(error) => {
                    let text = Some(error.to_string());
                    if self.unread != text {
                        self.unread = text;
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Waits until no further event comes, for an editor writes in several steps.
    async fn settle(&self) {
        let until = Instant::now() + LONGEST_BURST;
        while Instant::now() < until && timeout(QUIET, self.woken.notified()).await.is_ok() {}
    }

    /// The files; read again where one vanished under the reader's hands.
    async fn read(&self) -> Result<Tree, LoadError> {
        let mut left = READS;
        loop {
            left -= 1;
            let root = self.root.clone();
            let read = tokio::task::spawn_blocking(move || load_tree(&root)).await;
            match read.unwrap_or_else(|error| {
                Err(LoadError::Root { root: self.root.clone(), error: std::io::Error::other(error) })
            }) {
                Err(_) if left > 0 => sleep(QUIET).await,
                read => return read,
            }
        }
    }

    /// Watches the folders that are there now, those that were made again included; false where the
    /// system lets nothing be watched.
    fn follow(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let root = watcher.watch(&self.root, RecursiveMode::NonRecursive);
        let folders = FOLDERS.iter().map(|folder| self.root.join(folder)).filter(|path| path.is_dir());
        let folders: Vec<_> = folders.collect();
        let watched = folders.iter().map(|path| watcher.watch(path, RecursiveMode::Recursive));
        watched.fold(root.is_ok(), |all, one| all && one.is_ok())
    }
}

/// Reading is an event too, that of the look at the files among them.
fn may_change_files(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Root(tempfile::TempDir);

    impl Root {
        fn new() -> Self {
            let root = Self(tempfile::tempdir().unwrap());
            root.write("pipelines/a.toml", "a");
            root
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn watch(&self) -> Watch {
            Watch::new(self.0.path(), load_tree(self.0.path()).unwrap().digest())
        }
    }

    /// What the next change shows of `path`; panics where there is none within seconds.
    async fn next(watch: &mut Watch, path: &str) -> Option<Vec<u8>> {
        let changed = timeout(Duration::from_secs(10), watch.changed()).await.expect("a change");
        changed.unwrap().get(path).map(|bytes| bytes.to_vec())
    }

    #[tokio::test]
    async fn a_change_is_seen_and_what_is_equal_or_passed_over_is_not() {
        let root = Root::new();
        let mut watch = root.watch();
        root.write("pipelines/a.toml", "a");
        root.write("pipelines/.a.toml.swp", "x");
        root.write("pipelines/..data/b.toml", "x");
        root.write("README.md", "x");
        let none = timeout(Duration::from_millis(600), watch.changed()).await;
        assert!(none.is_err(), "{none:?}");
        root.write("pipelines/a.toml", "b");
        assert_eq!(next(&mut watch, "pipelines/a.toml").await.as_deref(), Some(&b"b"[..]));
        fs::rename(root.0.path().join("pipelines/a.toml"), root.0.path().join("pipelines/c.toml")).unwrap();
        assert_eq!(next(&mut watch, "pipelines/a.toml").await, None);
    }

    #[tokio::test]
    async fn what_is_equal_is_given_once_more_to_who_asks() {
        let root = Root::new();
        let mut watch = root.watch();
        watch.look();
        assert_eq!(next(&mut watch, "pipelines/a.toml").await.as_deref(), Some(&b"a"[..]));
        let none = timeout(Duration::from_millis(600), watch.changed()).await;
        assert!(none.is_err(), "{none:?}");
    }

    #[tokio::test]
    async fn folders_that_are_made_later_or_again_are_watched_too() {
        let root = Root::new();
        let mut watch = root.watch();
        root.write("schemas/deep/s.json", "1");
        assert_eq!(next(&mut watch, "schemas/deep/s.json").await.as_deref(), Some(&b"1"[..]));
        root.write("schemas/deep/s.json", "2");
        assert_eq!(next(&mut watch, "schemas/deep/s.json").await.as_deref(), Some(&b"2"[..]));
        fs::remove_dir_all(root.0.path().join("schemas")).unwrap();
        assert_eq!(next(&mut watch, "schemas/deep/s.json").await, None);
        root.write("schemas/s.json", "3");
        assert_eq!(next(&mut watch, "schemas/s.json").await.as_deref(), Some(&b"3"[..]));
    }

    #[tokio::test]
    async fn a_root_that_is_gone_is_said_once_and_seen_when_it_is_back() {
        let root = Root::new();
        let mut watch = root.watch();
        watch.watcher = None;
        let (here, aside) = (root.0.path().to_owned(), root.0.path().with_extension("aside"));
        fs::rename(&here, &aside).unwrap();
        let gone = timeout(Duration::from_secs(10), watch.changed()).await.expect("an error");
        assert!(matches!(gone, Err(LoadError::Root { .. })), "{gone:?}");
        fs::rename(&aside, &here).unwrap();
        root.write("pipelines/a.toml", "back");
        assert_eq!(next(&mut watch, "pipelines/a.toml").await.as_deref(), Some(&b"back"[..]));
    }
}
