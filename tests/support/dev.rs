//! A `biplane dev` process on the cluster inside it, and what it says.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::engine::signal;
use super::{Cluster, Engine};

/// The process, in a working directory of its own.
pub struct Dev {
    process: Child,
    folder: TempDir,
    config: PathBuf,
    said: Arc<Mutex<Vec<String>>>,
}

impl Dev {
    /// Runs it with these arguments in an empty folder.
    pub fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join(".biplane/example");
        Self::launch(folder, config, arguments)
    }

    /// Runs it on these config files (path below the root, text), which may be edited later.
    pub fn on(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("config");
        files.iter().for_each(|(path, text)| write(&config, path, text));
        let root = config.to_str().expect("a path in UTF-8").to_owned();
        Self::launch(folder, config, &["--config", &root])
    }

    /// Runs it in `folder`, on the config root `config` there.
    pub fn in_folder(folder: TempDir, arguments: &[&str]) -> Self {
        let config = folder.path().join("config");
        Self::launch(folder, config, &[&["--config", "config"], arguments].concat())
    }

    fn launch(folder: TempDir, config: PathBuf, arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_biplane"))
            .current_dir(folder.path())
            .arg("dev")
            .args(arguments)
            .args(["--listen", "127.0.0.1:0"])
            .env_remove("BIPLANE_KAFKA_BROKERS")
            .env_remove("BIPLANE_CONFIG")
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let said = Arc::new(Mutex::new(Vec::new()));
        let streams: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(process.stdout.take().expect("its output")),
            Box::new(process.stderr.take().expect("its log")),
        ];
        for stream in streams {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    said.lock().expect("what it said").push(line);
                }
            });
        }
        let dev = Self { process, folder, config, said };
        dev.wait_for("stop ");
        dev
    }

    /// Everything it wrote so far, both streams, a line each.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().expect("what it said").clone()
    }

    /// Waits for a line that contains `text` and returns it.
    pub fn wait_for(&self, text: &str) -> String {
        super::wait_for(&format!("`{text}` among {:#?}", self.said()), Duration::from_secs(60), || {
            self.said().into_iter().find(|line| line.contains(text))
        })
    }

    /// Waits for reload number `index` (from 0) and returns what it said.
    pub fn reloaded(&self, index: usize) -> String {
        super::wait_for(&format!("reload {index}"), Duration::from_secs(60), || {
            self.said().into_iter().filter(|line| line.starts_with("reloaded: ")).nth(index)
        })
    }

    /// The first word behind `name` at the start of a line.
    pub fn says(&self, name: &str) -> String {
        let line = self.said().into_iter().find(|line| line.starts_with(name)).expect("a line");
        line.split_whitespace().nth(1).expect("a value").to_owned()
    }

    /// Its Kafka.
    pub fn cluster(&self) -> Cluster {
        Cluster::at(self.says("kafka"))
    }

    /// Writes one file of its config root.
    pub fn edit(&self, path: &str, text: &str) {
        write(&self.config, path, text);
    }

    /// Its config root.
    pub fn config(&self) -> &Path {
        &self.config
    }

    fn address(&self) -> String {
        let status = self.says("status");
        status.trim_start_matches("http://").split('/').next().expect("an address").to_owned()
    }

    /// `/v1/status`.
    pub fn status(&self) -> serde_json::Value {
        let answer = super::engine::get(&self.address(), "/v1/status").expect("an answer");
        serde_json::from_str(&answer.body).expect("JSON")
    }

    /// `/metrics`.
    pub fn metrics(&self) -> String {
        super::engine::get(&self.address(), "/metrics").expect("an answer").body
    }

    /// Runs another command of the binary against it; its JSON.
    pub fn biplane(&self, arguments: &[&str]) -> serde_json::Value {
        let address = self.address();
        let brokers = self.says("kafka");
        let mut variables = vec![("BIPLANE_LISTEN", &*address), ("BIPLANE_KAFKA_BROKERS", &*brokers)];
        let database =
            self.said().iter().any(|line| line.starts_with("postgres")).then(|| self.says("postgres"));
        variables.extend(database.as_deref().map(|url| ("DATABASE_URL", url)));
        let output = Engine::command(&self.config, &[arguments, &["--format", "json"]].concat(), &variables);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// `stages show`.
    pub fn stage(&self, name: &str) -> serde_json::Value {
        self.biplane(&["stages", "show", name])
    }

    /// SIGKILL; its working directory.
    pub fn killed(mut self) -> TempDir {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.into_folder()
    }

    /// Its working directory, once it has ended.
    pub fn into_folder(mut self) -> TempDir {
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }

    /// The working directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// SIGINT, and waits for the end. Panics after `deadline`.
    pub fn interrupt(&mut self, deadline: Duration) -> std::process::ExitStatus {
        signal(self.process.id(), "INT");
        super::wait_for("it ends", deadline, || self.process.try_wait().ok().flatten())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- what dev said\n{}\n---", self.said().join("\n"));
        }
    }
}

/// As most editors do: a new file that takes the place of the old one.
fn write(root: &Path, path: &str, text: &str) {
    let target = root.join(path);
    let folder = target.parent().expect("a parent");
    std::fs::create_dir_all(folder).expect("its folder");
    let leftover = folder.join(".edit.tmp");
    std::fs::write(&leftover, text).expect("a file");
    std::fs::rename(leftover, target).expect("a renamed file");
}
