//! The Postgres of `biplane dev` where none is named: a private real server on a Unix socket, which nobody
//! but this machine's users who may enter its folder can reach.
//!
//! Its data is kept below the data folder, one folder a major version, so that jobs outlive a restart.
//! Postgres refuses to run as root: there the server gets an account of its own, and where that account
//! cannot reach the data folder the data goes to a temporary one and is gone when the server ends.

mod account;
mod binaries;
mod server;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use self::account::Account;
use self::binaries::Binaries;
use self::server::Server;
use super::output;

/// The longest path that a Unix socket may have, in bytes.
const SOCKET_PATH: usize = 107;

/// The name that Postgres gives its socket for port 5432.
const SOCKET: &str = ".s.PGSQL.5432";

/// A server that runs until it is dropped.
pub(super) struct DevPostgres {
    url: String,
    /// Where its data is; `None`: in a temporary folder.
    kept_in: Option<PathBuf>,
    /// Ends before what is below is removed.
    _server: Server,
    _temporary: Vec<TempDir>,
}

impl DevPostgres {
    /// Starts one with its data below `data_folder`, with the programs in `named` or those that this machine
    /// has, which are fetched where it has none. Blocks until it answers.
    pub(super) fn start(data_folder: &Path, named: Option<&Path>) -> anyhow::Result<Self> {
        let account = Account::for_server()?;
        let binaries = Binaries::find(named, account.as_ref())?;
        let mut temporary = Vec::new();
        let folder = data_folder.canonicalize()?.join(format!("postgres-{}", binaries.major()));
        let reached = account.as_ref().is_none_or(|account| account.reaches(data_folder));
        let folder = if reached { folder } else { temporary_folder(&mut temporary)? };
        own(&folder, account.as_ref())?;
        let data = folder.join("data");
        if !data.is_dir() {
            output::note("making a private PostgreSQL for the jobs");
            binaries.make(&folder, &data, account.as_ref())?;
        }
        let fits = folder.as_os_str().len() + 1 + SOCKET.len() <= SOCKET_PATH;
        let sockets = if fits { folder.clone() } else { temporary_folder(&mut temporary)? };
        own(&sockets, account.as_ref())?;
        let server = Server::start(&binaries, (&data, &sockets), &folder.join("log"), account.as_ref())?;
        let kept_in = reached.then_some(folder);
        Ok(Self { url: server::url(&sockets), kept_in, _server: server, _temporary: temporary })
    }

    /// What `DATABASE_URL` is to say.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Where its data is, in words.
    pub(super) fn place(&self) -> String {
        match &self.kept_in {
            Some(folder) => format!("a private server, kept in {}", folder.display()),
            None => "a private server, gone when this ends".to_owned(),
        }
    }
}

fn temporary_folder(kept: &mut Vec<TempDir>) -> anyhow::Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix("biplane-").tempdir().context("no temporary folder")?;
    let path = folder.path().to_owned();
    kept.push(folder);
    Ok(path)
}

/// Makes a folder, and gives it to the server's account.
fn own(folder: &Path, account: Option<&Account>) -> anyhow::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", folder.display()))
        }
        _ => account.map_or(Ok(()), |account| account.take(folder)),
    }
}
