//! A broker of one test's own, which may be killed, stopped and brought back on the same data and port.
//! It never outlives the test: dropping it kills the process and removes its folder.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use super::Cluster;
use super::engine::signal;
use super::ports::free_port;

const PROPERTIES: &str = include_str!("server.properties");
const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// One Apache Kafka process.
pub struct PrivateKafka {
    folder: TempDir,
    port: u16,
    second_port: u16,
    controller_port: u16,
    process: Option<Child>,
}

impl PrivateKafka {
    /// Formats a data folder and starts a broker on it. Panics where Kafka's jars are not at hand.
    pub fn start() -> Self {
        Self::start_with("", &[])
    }

    /// As [`PrivateKafka::start`] with further broker properties, which win over the usual ones, and
    /// further arguments for the tool that formats the folder. The properties may open a second
    /// listener: `@PORT@` is the first one's port, `@CONTROLLER_PORT@` the controller's and
    /// `@SECOND_PORT@` a free one.
    pub fn start_with(properties: &str, format: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("biplane-kafka-").tempdir().expect("a folder");
        let [port, controller_port, second_port] = [(); 3].map(|()| free_port());
        let properties = format!("{PROPERTIES}\n{properties}\n")
            .replace("@SECOND_PORT@", &second_port.to_string())
            .replace("@DATA@", &folder.path().join("data").display().to_string())
            .replace("@PORT@", &port.to_string())
            .replace("@CONTROLLER_PORT@", &controller_port.to_string());
        let file = folder.path().join("server.properties");
        fs::write(&file, properties).expect("server.properties");
        let log = File::create(folder.path().join("log")).expect("a log file");
        let status = java()
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(&file)
            .args(format)
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .status()
            .expect("java runs");
        let mut broker = Self { folder, port, second_port, controller_port, process: None };
        assert!(status.success(), "the data folder is not formatted: {}", broker.log());
        broker.restart();
        broker
    }

    /// Its address, the same after a restart.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of its controller, for brokers that join it.
    pub fn controller(&self) -> String {
        format!("127.0.0.1:{}", self.controller_port)
    }

    /// The address of its second listener.
    pub fn second_brokers(&self) -> String {
        format!("127.0.0.1:{}", self.second_port)
    }

    /// Access to its topics.
    pub fn cluster(&self) -> Cluster {
        Cluster::at(self.brokers())
    }

    /// Whether it was started and not killed since.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it on the data it has and waits until it answers. Kills it first where it runs.
    pub fn restart(&mut self) {
        self.kill();
        let log = File::options().append(true).open(self.folder.path().join("log")).expect("the log");
        let process = java()
            .arg("kafka.Kafka")
            .arg(self.folder.path().join("server.properties"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("java runs");
        self.process = Some(process);
        self.wait_until_it_answers();
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn freeze(&self) {
        signal(self.id(), "STOP");
    }

    /// Lets a frozen broker go on.
    pub fn thaw(&self) {
        signal(self.id(), "CONT");
    }

    fn id(&self) -> u32 {
        self.process.as_ref().expect("a broker that runs").id()
    }

    fn wait_until_it_answers(&mut self) {
        let client: BaseConsumer =
            self.cluster().config().set("group.id", "readiness").create().expect("a client");
        super::wait_until("the private Kafka answers", Duration::from_secs(60), || {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            assert!(ended.is_none(), "the private Kafka ended ({ended:?}): {}", self.log());
            client
                .fetch_metadata(None, Duration::from_secs(1))
                .is_ok_and(|metadata| !metadata.brokers().is_empty())
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for PrivateKafka {
    fn drop(&mut self) {
        self.kill();
    }
}

fn java() -> Command {
    let jars = std::env::var_os("BIPLANE_TEST_KAFKA_LIB").map(PathBuf::from).unwrap_or_else(|| {
        panic!("BIPLANE_TEST_KAFKA_LIB is not set: run tests/run, which fetches Kafka's jars and names them")
    });
    let mut command = Command::new("java");
    command
        .args(["-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"])
        .arg(jars.join("*"));
    command
}
