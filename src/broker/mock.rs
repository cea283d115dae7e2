//! A Kafka cluster inside this process, for `biplane dev` and for tests.
//!
//! It is the client library's own mock: in memory, at most 5 MiB (or 100,000 batches) a partition,
//! then the oldest goes. Topics are made here, since it has no CreateTopics; look-ups by time always
//! answer the end; transactions are not isolated. The cluster lives on a thread of its own, because
//! the library's handle may not leave the thread that made it.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::error::KafkaResult;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Key, RDKafkaRespErr as Code};

use super::error::BrokerError;
use super::settings::ClientSettings;

/// What the cluster keeps of a partition before the oldest records go, in bytes.
pub const MOCK_PARTITION_BYTES: u64 = 5 * 1024 * 1024;

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Command = Box<dyn FnOnce(&Cluster) + Send>;

/// A running cluster; it ends when this is dropped.
#[derive(Debug)]
pub struct MockKafka {
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    brokers: String,
}

/// A request whose answer can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MockRequest {
    /// Writing records.
    Produce,
    /// Reading records.
    Fetch,
    /// Committing offsets.
    OffsetCommit,
    /// Reading committed offsets.
    OffsetFetch,
    /// Looking offsets up, by time or at either end.
    ListOffsets,
    /// Finding the coordinator of a group.
    FindCoordinator,
    /// A member's sign of life.
    Heartbeat,
}

/// An error that the broker answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MockError {
    /// The partition has moved to another broker.
    NotLeader,
    /// The coordinator has moved to another broker.
    NotCoordinator,
    /// The broker did not manage in time.
    RequestTimedOut,
    /// The record or its batch is too large.
    TooLarge,
    /// The topic is not permitted.
    TopicDenied,
    /// The producer's sequence does not continue: fatal for an idempotent producer.
    OutOfOrderSequence,
    /// The member belongs to a generation that is over.
    IllegalGeneration,
    /// The offset is not on the broker.
    OffsetOutOfRange,
}

impl MockKafka {
    /// Starts a cluster of `brokers` nodes, numbered from 1, on ports of the system's choice.
    ///
    /// # Errors
    /// Where the library cannot start it, for want of threads or ports.
    pub fn start(brokers: u16) -> Result<Self, BrokerError> {
        let (commands, inbox) = mpsc::channel::<Command>();
        let (started, start) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("kafka-mock".to_owned())
            .spawn(move || match MockCluster::new(i32::from(brokers.max(1))) {
                Ok(cluster) => {
                    let _ = started.send(Ok(cluster.bootstrap_servers()));
                    for command in inbox {
                        command(&cluster);
                    }
                }
                Err(error) => {
                    let _ = started.send(Err(BrokerError::from_client("start the mock cluster", &error)));
                }
            })
            .map_err(|error| BrokerError::Settings(error.to_string()))?;
        let brokers = start.recv().map_err(|_| ended())??;
        Ok(Self { commands: Some(commands), thread: Some(thread), brokers })
    }

    /// Where clients find it, also those of other processes.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Settings for a client of this cluster.
    pub fn settings(&self, client_id: &str) -> ClientSettings {
        ClientSettings { mock: true, ..ClientSettings::new(self.brokers.clone(), client_id) }
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// Where it exists already, or the partitions are none.
    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), BrokerError> {
        let (topic, partitions) = (topic.to_owned(), i32::try_from(partitions).unwrap_or(i32::MAX));
        self.ask("create a topic", move |cluster| cluster.create_topic(&topic, partitions, 1))
    }

    /// Cuts a broker off: its connections end and new ones are refused.
    ///
    /// # Errors
    /// Where there is no such broker.
    pub fn broker_down(&self, id: u16) -> Result<(), BrokerError> {
        self.ask("take a broker down", move |cluster| cluster.broker_down(i32::from(id)))
    }

    /// Brings a broker back.
    ///
    /// # Errors
    /// Where there is no such broker.
    pub fn broker_up(&self, id: u16) -> Result<(), BrokerError> {
        self.ask("bring a broker up", move |cluster| cluster.broker_up(i32::from(id)))
    }

    /// Makes every answer of a broker take this long.
    ///
    /// # Errors
    /// Where there is no such broker.
    pub fn round_trip(&self, id: u16, delay: Duration) -> Result<(), BrokerError> {
        self.ask("slow a broker", move |cluster| cluster.broker_round_trip_time(i32::from(id), delay))
    }

    /// Lets the next `times` requests of a kind fail, whichever client sends them.
    ///
    /// # Errors
    /// Where the cluster has ended.
    pub fn fail_next(&self, request: MockRequest, error: MockError, times: usize) -> Result<(), BrokerError> {
        self.ask("inject an error", move |cluster| {
            cluster.request_errors(request.to_client(), &vec![error.to_client(); times]);
            Ok(())
        })
    }

    /// Lets requests of a kind succeed again.
    ///
    /// # Errors
    /// Where the cluster has ended.
    pub fn fail_no_more(&self, request: MockRequest) -> Result<(), BrokerError> {
        self.ask("end an injected error", move |cluster| {
            cluster.clear_request_errors(request.to_client());
            Ok(())
        })
    }

    fn ask(
        &self,
        doing: &'static str,
        command: impl FnOnce(&Cluster) -> KafkaResult<()> + Send + 'static,
    ) -> Result<(), BrokerError> {
        let (done, answer) = mpsc::sync_channel(1);
        let boxed: Command = Box::new(move |cluster| {
            let _ = done.send(command(cluster));
        });
        self.commands.as_ref().ok_or_else(ended)?.send(boxed).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?.map_err(|error| BrokerError::from_client(doing, &error))
    }
}

impl Drop for MockKafka {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ended() -> BrokerError {
    BrokerError::Fatal("the mock cluster has ended".to_owned())
}

impl MockRequest {
    fn to_client(self) -> Key {
        match self {
            Self::Produce => Key::Produce,
            Self::Fetch => Key::Fetch,
            Self::OffsetCommit => Key::OffsetCommit,
            Self::OffsetFetch => Key::OffsetFetch,
            Self::ListOffsets => Key::ListOffsets,
            Self::FindCoordinator => Key::FindCoordinator,
            Self::Heartbeat => Key::Heartbeat,
        }
    }
}

impl MockError {
    fn to_client(self) -> Code {
        match self {
            Self::NotLeader => Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Self::NotCoordinator => Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            Self::RequestTimedOut => Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            Self::TooLarge => Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
            Self::TopicDenied => Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            Self::OutOfOrderSequence => Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
            Self::IllegalGeneration => Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
            Self::OffsetOutOfRange => Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
        }
    }
}
