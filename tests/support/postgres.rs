//! A PostgreSQL as tests see it: a database of their own each, and servers of a test's own that may be
//! killed and brought back on the same data.

use std::fs::{self, File};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use super::engine::signal;
use super::ports::free_port;
use super::unique;

/// Runs a future on a runtime of its own.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// As [`block_on`], on a thread of its own, for callers that may be on a runtime already.
fn aside<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| scope.spawn(|| block_on(work)).join().expect("no panic"))
}

/// The server that tests share, as a superuser. Panics where none is named.
pub fn database_url() -> String {
    std::env::var("BIPLANE_TEST_DATABASE_URL").unwrap_or_else(|_| {
        panic!(
            "BIPLANE_TEST_DATABASE_URL is not set: run tests/run, which starts a PostgreSQL, or name one yourself"
        )
    })
}

/// A database of one test's own, dropped with it.
pub struct TestDatabase {
    server: String,
    name: String,
    roles: Vec<String>,
}

impl TestDatabase {
    /// An empty one on the shared server.
    pub fn new() -> Self {
        Self::on(&database_url())
    }

    /// An empty one on the server that this URL reaches as a superuser.
    pub fn on(server: &str) -> Self {
        let name = unique("test").replace('-', "_");
        let database = Self { server: server.to_owned(), name, roles: Vec::new() };
        database.on_server(&format!("create database {}", database.name));
        database
    }

    /// Its URL, as a superuser.
    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').expect("a URL with a database");
        format!("{server}/{}", self.name)
    }

    /// Its URL as another role.
    pub fn url_as(&self, role: &str, password: &str) -> String {
        let (_, place) = self.server.rsplit_once('@').expect("a URL with a role");
        let (place, _) = place.rsplit_once('/').expect("a URL with a database");
        format!("postgres://{role}:{password}@{place}/{}", self.name)
    }

    /// A role that may log in and nothing else; its name and its URL.
    pub fn role(&mut self) -> (String, String) {
        let role = unique("role").replace('-', "_");
        self.on_server(&format!("create role {role} login password 'plain'"));
        self.roles.push(role.clone());
        let url = self.url_as(&role, "plain");
        (role, url)
    }

    /// Runs statements as a superuser. Panics where one fails.
    pub fn execute(&self, sql: &str) {
        execute(&self.url(), sql);
    }

    /// One value of one row, as text. Panics where there is none or it is null.
    pub fn value(&self, sql: &str) -> String {
        let (url, asked) = (self.url(), format!("select ({sql})::text"));
        aside(async move {
            let mut connection = connect(&url).await;
            let value: String = sqlx::query_scalar(AssertSqlSafe(asked.clone()))
                .fetch_one(&mut connection)
                .await
                .unwrap_or_else(|error| panic!("{asked}: {error}"));
            let _ = connection.close().await;
            value
        })
    }

    /// How the server would carry out a statement, line by line.
    pub fn plan(&self, sql: &str) -> String {
        let (url, asked) = (self.url(), format!("explain {sql}"));
        aside(async move {
            let mut connection = connect(&url).await;
            let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(asked.clone()))
                .fetch_all(&mut connection)
                .await
                .unwrap_or_else(|error| panic!("{asked}: {error}"));
            let _ = connection.close().await;
            lines.join("\n")
        })
    }

    /// Moves it to another tablespace, while nobody is connected.
    pub fn move_to(&self, tablespace: &str) {
        self.on_server(&format!("alter database {} set tablespace {tablespace}", self.name));
    }

    /// Runs statements on the server as a superuser, outside of this database.
    pub fn on_server(&self, sql: &str) {
        execute(&self.server, sql);
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let mut statements = vec![format!("drop database if exists {} with (force)", self.name)];
        statements.extend(self.roles.iter().map(|role| format!("drop role if exists {role}")));
        let server = self.server.clone();
        // The server may be down, or the test may be failing already.
        let _ = std::thread::spawn(move || {
            block_on(async move {
                let Ok(mut connection) = PgConnection::connect(&server).await else { return };
                for statement in statements {
                    let _ = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await;
                }
            });
        })
        .join();
    }
}

/// One connection. Panics where there is none.
pub async fn connect(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().expect("a URL of Postgres");
    PgConnection::connect_with(&options).await.unwrap_or_else(|error| panic!("no connection: {error}"))
}

fn execute(url: &str, sql: &str) {
    let (url, sql) = (url.to_owned(), sql.to_owned());
    aside(async move {
        let mut connection = connect(&url).await;
        let done = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let _ = connection.close().await;
    });
}

/// A server of one test's own. Dropping it kills it and removes its folder.
pub struct PrivatePostgres {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
    settings: Vec<String>,
}

impl PrivatePostgres {
    /// Starts one with further settings, such as `max_connections=5`. Panics where the binaries are not at hand.
    pub fn start(settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("biplane-postgres-").tempdir().expect("a folder");
        let port = free_port();
        give_to_server(folder.path());
        fs::write(folder.path().join("password"), "biplane\n").expect("a password file");
        let log = File::create(folder.path().join("log")).expect("a log file");
        let status = server("initdb")
            .args(["--username", "postgres", "--auth", "scram-sha-256", "--encoding", "UTF8"])
            .args(["--locale", "C", "--no-sync", "--pwfile"])
            .arg(folder.path().join("password"))
            .arg("--pgdata")
            .arg(folder.path().join("data"))
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .status()
            .expect("initdb runs");
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut private = Self { folder, port, process: None, settings };
        assert!(status.success(), "no data folder is made: {}", private.log());
        private.restart();
        private
    }

    /// Its URL as a superuser.
    pub fn url(&self) -> String {
        format!("postgres://postgres:biplane@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends every process of it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // A backend that outlives its server ends by itself, but a new server waits for that.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it on the data it has and waits until it answers. Kills it first where it runs.
    pub fn restart(&mut self) {
        self.kill();
        let log = File::options().append(true).open(self.folder.path().join("log")).expect("the log");
        let mut command = server("postgres");
        command.arg("-D").arg(self.folder.path().join("data"));
        let own = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "fsync=off".to_owned(),
        ];
        for setting in own.iter().chain(&self.settings) {
            command.arg("-c").arg(setting);
        }
        super::wait_until("the private PostgreSQL answers", Duration::from_secs(60), || {
            let ended =
                self.process.as_mut().is_none_or(|process| process.try_wait().ok().flatten().is_some());
            if ended {
                // The port or the shared memory of the one before may be let go only in a moment.
                let started = command
                    .stdin(Stdio::null())
                    .stdout(log.try_clone().expect("a handle"))
                    .stderr(log.try_clone().expect("a handle"))
                    .spawn();
                self.process = Some(started.expect("postgres runs"));
            }
            let url = self.url();
            aside(async move {
                let connecting = tokio::time::timeout(Duration::from_secs(2), PgConnection::connect(&url));
                connecting.await.is_ok_and(|connected| connected.is_ok())
            })
        });
    }

    /// Freezes the server itself: nothing new is accepted.
    pub fn freeze(&self) {
        signal(self.id(), "STOP");
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        signal(self.id(), "CONT");
    }

    /// Makes a folder that is the server's.
    pub fn give(&self, folder: &Path) {
        fs::create_dir(folder).expect("a folder");
        give_to_server(folder);
    }

    fn id(&self) -> u32 {
        self.process.as_ref().expect("a server that runs").id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A binary of the server, as a user that it accepts: it refuses root.
fn server(binary: &str) -> Command {
    let folder = std::env::var_os("BIPLANE_TEST_POSTGRES_BIN").map(PathBuf::from).unwrap_or_else(|| {
        panic!("BIPLANE_TEST_POSTGRES_BIN is not set: run tests/run, which finds or installs PostgreSQL")
    });
    as_server(folder.join(binary))
}

/// A program as the user that servers run as.
pub(super) fn as_server(path: PathBuf) -> Command {
    match server_user() {
        None => Command::new(path),
        Some(user) => {
            let mut command = Command::new("setpriv");
            command
                .args([
                    "--reuid",
                    user,
                    "--regid",
                    user_group(user).as_str(),
                    "--clear-groups",
                    "--reset-env",
                ])
                .args(["setpriv", "--pdeathsig", "KILL"])
                .arg(path);
            command
        }
    }
}

fn server_user() -> Option<&'static str> {
    if user_id(&[]) != "0" {
        return None;
    }
    let known = Command::new("id").arg("postgres").output().is_ok_and(|known| known.status.success());
    Some(if known { "postgres" } else { "nobody" })
}

fn user_id(user: &[&str]) -> String {
    told(Command::new("id").arg("-u").args(user))
}

fn user_group(user: &str) -> String {
    told(Command::new("id").arg("-g").arg(user))
}

fn told(command: &mut Command) -> String {
    let output = command.output().expect("`id` runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(super) fn give_to_server(folder: &Path) {
    if let Some(user) = server_user() {
        let status = Command::new("chown").arg(user).arg(folder).status().expect("chown runs");
        assert!(status.success(), "the folder is not given to `{user}`");
    }
}
