//! The account that a server runs under where this process is root's, as which Postgres does not run.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use nix::unistd::{Uid, User};

/// In this order: what the distribution's package makes, and what every machine has.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// An account without root's rights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// The account to change to; `None`: this process's own will do.
    pub(super) fn for_server() -> anyhow::Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        for name in NAMES {
            if let Some(user) = User::from_name(name).with_context(|| format!("cannot look up `{name}`"))? {
                return Ok(Some(Self { user: user.uid.as_raw(), group: user.gid.as_raw() }));
            }
        }
        bail!(
            "PostgreSQL does not run as root and this machine has no account {}: run as another user or set DATABASE_URL",
            NAMES.map(|name| format!("`{name}`")).join(" or ")
        )
    }

    /// Whether it may go as far as into `folder`.
    pub(super) fn reaches(self, folder: &Path) -> bool {
        let Ok(folder) = folder.canonicalize() else { return false };
        folder.ancestors().all(|above| {
            above.metadata().is_ok_and(|found| {
                let mode = found.mode();
                let wanted = if found.uid() == self.user {
                    0o100
                } else if found.gid() == self.group {
                    0o010
                } else {
                    0o001
                };
                mode & wanted != 0
            })
        })
    }

    /// Makes `folder` its own.
    pub(super) fn take(self, folder: &Path) -> anyhow::Result<()> {
        chown(folder, Some(self.user), Some(self.group))
            .with_context(|| format!("cannot give {} to user {}", folder.display(), self.user))
    }

    /// Lets `command` run under it.
    pub(super) fn run(self, command: &mut Command) {
        command.uid(self.user).gid(self.group);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_is_reached_where_all_above_it_may_be_entered() {
        let top = tempfile::tempdir().expect("a folder");
        let inner = top.path().join("inner");
        create_dir(&inner).expect("a folder");
        let stranger = Account { user: u32::MAX - 7, group: u32::MAX - 7 };
        let open = |path: &Path, mode| set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
        open(&inner, 0o755);
        open(top.path(), 0o700);
        assert!(!stranger.reaches(&inner), "the one above is closed");
        open(top.path(), 0o711);
        assert!(stranger.reaches(&inner));
        open(&inner, 0o750);
        assert!(!stranger.reaches(&inner));
        let found = inner.metadata().expect("a folder");
        let owner = Account { user: found.uid(), group: u32::MAX - 7 };
        assert!(owner.reaches(&inner));
        let member = Account { user: u32::MAX - 7, group: found.gid() };
        assert!(member.reaches(&inner));
    }
}
