//! The server's process: started, waited for until it answers, stopped.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::{Pid, Signal, kill_process};

use super::account::Account;
use super::binaries::Binaries;
use crate::cli::database;
use crate::store::{DatabaseSettings, Schema, StoreError, standing};

/// The oldest major version that is served.
pub(super) const OLDEST: u32 = 14;

/// The one role of the server.
pub(super) const ROLE: &str = "biplane";

/// How long a server may take until it answers; one that was killed reads its log first.
const START: Duration = Duration::from_secs(60);

/// The wait between two questions whether it answers.
const ASK: Duration = Duration::from_millis(20);

/// How long a server may take to write what it holds: Ctrl-C ends within two seconds, most of which is the
/// engine's.
const STOP: Duration = Duration::from_millis(300);

/// How long one may take that writes nothing any more.
const QUIT: Duration = Duration::from_millis(100);

/// Little memory, few connections, no port; what is committed is on the disk, as anywhere.
const SETTINGS: [&str; 4] =
    ["listen_addresses=", "max_connections=60", "shared_buffers=16MB", "unix_socket_permissions=0700"];

/// A process that ends with this value, or with this process.
pub(super) struct Server {
    process: Pid,
    ended: Receiver<std::io::Result<ExitStatus>>,
}

impl Server {
    /// Starts a server on `data` with its socket in `sockets`, and waits until it answers.
    pub(super) fn start(
        binaries: &Binaries,
        (data, sockets): (&Path, &Path),
        log: &Path,
        account: Option<&Account>,
    ) -> anyhow::Result<Self> {
        let said = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = binaries.command("postgres", data, account);
        command.arg("-D").arg(data).arg("-k").arg(sockets);
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        // Ctrl-C is the terminal's word to a whole group; the engine is to end before its database.
        command.process_group(0);
        let (tell, started) = mpsc::channel();
        let (tell_end, ended) = mpsc::channel();
        // The kernel takes the end of this thread for the end of the parent, so it stays.
        thread::Builder::new().name("postgres".to_owned()).spawn(move || {
            let mut child = command.spawn();
            let _ = tell.send(child.as_ref().map(Pid::from_child).map_err(ToString::to_string));
            if let Ok(child) = &mut child {
                let _ = tell_end.send(child.wait());
            }
        })?;
        let process = started.recv()?.map_err(|error| anyhow::anyhow!("cannot start postgres: {error}"))?;
        let server = Self { process, ended };
        server
            .answers(sockets)
            .with_context(|| format!("PostgreSQL does not start; its log is {}", log.display()))?;
        Ok(server)
    }

    fn answers(&self, sockets: &Path) -> anyhow::Result<()> {
        let settings = DatabaseSettings::new(&url(sockets), None, Schema::default())?;
        let deadline = Instant::now() + START;
        loop {
            match database::wait(standing(&settings))? {
                Err(StoreError::Unreachable(why)) if Instant::now() > deadline => bail!(why),
                Err(StoreError::Unreachable(_) | StoreError::Busy(_)) => {}
                Err(other) => return Err(other.into()),
                Ok(_) => return Ok(()),
            }
            match self.ended.recv_timeout(ASK) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(ended) => bail!("it ended with {}", ended?),
                Err(RecvTimeoutError::Disconnected) => bail!("it ended"),
            }
        }
    }
}

impl Drop for Server {
    /// Ends sessions and the server; one that takes long is stopped at once, and recovers at its next start.
    fn drop(&mut self) {
        if kill_process(self.process, Signal::INT).is_ok() && self.ended.recv_timeout(STOP).is_err() {
            let _ = kill_process(self.process, Signal::QUIT);
            let _ = self.ended.recv_timeout(QUIT);
        }
    }
}

/// How clients reach the server whose socket is in `sockets`.
pub(super) fn url(sockets: &Path) -> String {
    let folder = sockets.to_string_lossy();
    format!("postgres://{ROLE}@localhost/postgres?host={}", utf8_percent_encode(&folder, NON_ALPHANUMERIC))
}
