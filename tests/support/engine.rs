//! The built binary under test: a config root in a temporary folder, the process, its log, its HTTP.
//! Dropping an engine kills it; a test that wants a clean end asks for it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::ports::free_port;

/// A config root in a folder of its own.
pub struct ConfigRoot {
    folder: TempDir,
}

impl ConfigRoot {
    /// Writes these files (path below the root, text).
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("biplane-root-").tempdir().expect("a folder");
        let root = Self { folder };
        fs::create_dir_all(root.path().join("pipelines")).expect("a pipelines folder");
        for (path, text) in files {
            root.write(path, text);
        }
        root
    }

    /// A copy of the shipped example whose topics bear `prefix` on the broker, so that runs never meet.
    pub fn example(prefix: &str) -> Self {
        let root = Self::new(&[]);
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in ["pipelines", "schemas", "lookups"] {
            copy_tree(&shipped.join(folder), &root.path().join(folder), prefix);
        }
        // Its jobs need a database, which its stages do not.
        fs::remove_file(root.path().join("pipelines/upkeep.toml")).expect("the example's jobs");
        root
    }

    /// Adds or replaces one file.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("its folder");
        fs::write(path, text).expect("a config file");
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// How to run the binary: arguments, the config root, the environment.
pub struct Engine {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
    address: String,
}

/// The answer to a plain GET.
#[derive(Debug)]
pub struct Http {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Engine {
    /// Runs `biplane run` and waits until it is ready.
    pub fn start(root: &ConfigRoot, brokers: &str, variables: &[(&str, &str)]) -> Self {
        let mut engine = Self::launch(root, brokers, variables);
        engine.wait_ready();
        engine
    }

    /// Runs `biplane run` without waiting for anything.
    pub fn launch(root: &ConfigRoot, brokers: &str, variables: &[(&str, &str)]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = biplane(root.path());
        command
            .arg("run")
            .env("BIPLANE_KAFKA_BROKERS", brokers)
            .env("BIPLANE_LISTEN", &address)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.envs(variables.iter().copied());
        let mut process = command.spawn().expect("the binary runs");
        let log = Arc::new(Mutex::new(Vec::new()));
        follow(process.stdout.take().expect("its output"), &log);
        follow(process.stderr.take().expect("its errors"), &log);
        Self { process, log, address }
    }

    /// Waits until `/ready` says 200. Panics with the log where the process ends first.
    pub fn wait_ready(&mut self) {
        super::wait_until("the engine is ready", Duration::from_secs(60), || {
            if let Ok(Some(status)) = self.process.try_wait() {
                panic!("the engine ended with {status} before it was ready:\n{}", self.log());
            }
            self.get("/ready").is_some_and(|answer| answer.status == 200)
        });
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it wrote so far, both streams, line by line.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").join("\n")
    }

    /// A GET; `None` while nobody answers.
    pub fn get(&self, path: &str) -> Option<Http> {
        get(&self.address, path).ok()
    }

    /// `/metrics`: the sum of all series whose name and labels contain each of these parts.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.get("/metrics").map(|answer| answer.body).unwrap_or_default();
        text.lines()
            .filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// SIGTERM, and waits for the end. Panics after `deadline`.
    pub fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        signal(self.id(), "TERM");
        super::wait_for("the engine ends after SIGTERM", deadline, || self.process.try_wait().ok().flatten())
    }

    /// SIGSTOP: nothing of it runs until `thaw`.
    pub fn freeze(&self) {
        signal(self.id(), "STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        signal(self.id(), "CONT");
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Resident memory in bytes, from /proc.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
    }

    /// Begins to run the binary with these arguments; what it writes can be read once it has ended.
    pub fn begin(root: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
        let mut command = biplane(root);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(variables.iter().copied());
        command.spawn().expect("the binary runs")
    }

    /// Runs the binary to its end with `input` on its standard input.
    pub fn fed(root: &Path, arguments: &[&str], input: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = biplane(root);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.envs(variables.iter().copied()).spawn().expect("the binary runs");
        process.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
        process.wait_with_output().expect("it ends")
    }

    /// Runs the binary with these arguments to its end.
    pub fn command(root: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = biplane(root);
        command.args(arguments).stdin(Stdio::null());
        command.envs(variables.iter().copied());
        command.output().expect("the binary runs")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- the engine's log\n{}\n---", self.log());
        }
    }
}

/// Sends a signal by name. The shell's own `kill` is there wherever a shell is.
pub fn signal(process: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status();
    assert!(status.is_ok_and(|status| status.success()), "SIG{name} was not sent to {process}");
}

/// The binary with an environment that says nothing but what the test says.
fn biplane(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_biplane"));
    for (name, _) in std::env::vars_os() {
        let named = name.to_string_lossy();
        if named.starts_with("BIPLANE_") || named.starts_with("OTEL_") || named == "DATABASE_URL" {
            command.env_remove(&name);
        }
    }
    command.env("BIPLANE_CONFIG", root).env("NO_COLOR", "1");
    command
}

/// A GET of any address.
pub fn get(address: &str, path: &str) -> std::io::Result<Http> {
    request(address, "GET", path, "", "")
}

/// A request of any address, with further header lines that each have their end. `Host` is the address unless they
/// name another.
pub fn request(address: &str, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<Http> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let host = if headers.contains("Host: ") { String::new() } else { format!("Host: {address}\r\n") };
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    // Whoever refuses a body does not read all of it.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        read?;
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { joined_chunks(body) } else { body.to_owned() };
    Ok(Http { status, headers: head.to_owned(), body })
}

fn joined_chunks(mut body: &str) -> String {
    let mut joined = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        joined.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or("");
    }
    joined
}

fn follow(stream: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            log.lock().expect("the log").push(line);
        }
    });
}

fn copy_tree(from: &Path, to: &Path, prefix: &str) {
    fs::create_dir_all(to).expect("a folder");
    let entries = fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for entry in entries.map(|entry| entry.expect("an entry")) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target, prefix);
        } else if from.ends_with("pipelines") {
            let text = fs::read_to_string(&source).expect("a config file");
            fs::write(target, with_prefix(&text, prefix)).expect("a config file");
        } else {
            fs::copy(source, target).expect("a copy");
        }
    }
}

/// Gives every topic and DLQ of a file a physical name that begins with `prefix`.
fn with_prefix(text: &str, prefix: &str) -> String {
    let lines = text.lines().map(|line| {
        let name = line.strip_prefix("[topics.\"").and_then(|rest| rest.strip_suffix("\"]"));
        match (name, line.split_once('=')) {
            (Some(name), _) => format!("{line}\ntopic = \"{prefix}.{name}\""),
            (None, Some((key, value))) if key.trim() == "topic" => {
                format!("topic = \"{prefix}.{}\"", value.trim().trim_matches('"'))
            }
            _ => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}
