//! PgBouncer in transaction mode before a PostgreSQL. It ends with the test.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::ports::free_port;
use super::postgres::{as_server, give_to_server};

/// Where distributions put it.
const PLACES: [&str; 3] = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];

/// The first 1.x that keeps prepared statements.
const KEEPS: u32 = 21;

/// `BIPLANE_TEST_PGBOUNCER` names another than the distribution's.
fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("BIPLANE_TEST_PGBOUNCER").map(PathBuf::from);
    named.or_else(|| PLACES.iter().map(PathBuf::from).find(|path| path.exists()))
}

/// One PgBouncer process.
pub struct PgBouncer {
    // Read by the process as long as it runs.
    _folder: TempDir,
    port: u16,
    process: Child,
}

impl PgBouncer {
    /// One before the server that a URL names, with that many connections to each of its databases. `None`: it is not
    /// installed. Panics where it does not start.
    pub fn before(url: &str, connections: usize) -> Option<Self> {
        Some(Self::start(url, connections, &binary()?, ""))
    }

    /// As [`PgBouncer::before`], one that keeps prepared statements. `None`: it is not installed, or too old for that.
    pub fn that_keeps_statements(url: &str, connections: usize) -> Option<Self> {
        let binary = binary()?;
        let version = Command::new(&binary).arg("--version").output().expect("pgbouncer runs").stdout;
        let version = String::from_utf8_lossy(&version).into_owned();
        let (_, minor) = version.split_once("PgBouncer 1.").unwrap_or_else(|| panic!("which is {version}"));
        let minor: u32 = minor.split('.').next().and_then(|number| number.parse().ok()).expect("a number");
        (minor >= KEEPS).then(|| Self::start(url, connections, &binary, "max_prepared_statements = 100\n"))
    }

    fn start(url: &str, connections: usize, binary: &Path, more: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("biplane-pgbouncer-").tempdir().expect("a folder");
        let port = free_port();
        let (_, rest) = url.split_once("://").expect("a URL");
        let (role, place) = rest.split_once('@').expect("a URL with a role");
        let (user, password) = role.split_once(':').expect("a role with a password");
        let (server, _) = place.split_once('/').expect("a URL with a database");
        let (host, server_port) = server.split_once(':').expect("a server with a port");
        let config = format!(
            "[databases]\n* = host={host} port={server_port} user={user} password={password}\n\
             [pgbouncer]\npool_mode = transaction\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\ndefault_pool_size = {connections}\nmax_client_conn = 200\n\
             ignore_startup_parameters = extra_float_digits\n{more}"
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, config).expect("its config");
        give_to_server(folder.path());
        let log = File::create(folder.path().join("log")).expect("a log file");
        let process = as_server(binary.to_owned())
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("pgbouncer runs");
        let mut pooler = Self { _folder: folder, port, process };
        super::wait_until("pgbouncer answers", Duration::from_secs(20), || {
            let ended = pooler.process.try_wait().ok().flatten();
            assert!(ended.is_none(), "pgbouncer ended: {}", pooler.log());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        pooler
    }

    /// The URL that leads through it.
    pub fn url(&self, url: &str) -> String {
        let (role, place) = url.rsplit_once('@').expect("a URL with a role");
        let (_, database) = place.split_once('/').expect("a URL with a database");
        format!("{role}@127.0.0.1:{}/{database}", self.port)
    }

    fn log(&self) -> String {
        fs::read_to_string(self._folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
