//! The topic itself: its name, how it is made, read and written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value as Json;

use crate::broker::{
    Admin, BrokerError, ClientSettings, DeliverySink, OutHeaders, Outgoing, Producer, ProducerOptions,
    SendError, Sink,
};
use crate::engine::own_topics;
use crate::engine::scan::{self, ScanError, Seen};
use crate::record::RawRecord;

/// How long the brokers may take for one thing.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a full producer is waited for.
const MOMENT: Duration = Duration::from_millis(5);

/// Why the control topic cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The brokers.
    #[error("the control topic: {0}")]
    Broker(#[from] BrokerError),
    /// Not all of it could be read.
    #[error("the control topic: {0}")]
    Scan(#[from] ScanError),
    /// A record was not taken.
    #[error("the control topic takes nothing: {0}")]
    Send(SendError),
}

/// Its physical name in a namespace.
pub fn topic(namespace: &str) -> String {
    format!("{namespace}.control")
}

/// One entry of the control topic: its key, and its value; a null ends it.
/// `None` where the record is no entry.
pub(super) fn entry<'a>(raw: &RawRecord<'a>) -> Option<(&'a str, Option<Json>)> {
    let key = std::str::from_utf8(raw.key?).ok()?;
    match raw.value {
        None => Some((key, None)),
        Some(value) => Some((key, Some(serde_json::from_slice(value).ok()?))),
    }
}

/// All entries whose keys begin with `prefix`. None where there is no such topic yet.
///
/// # Errors
/// Where the brokers do not answer or refuse.
pub fn read(
    client: &ClientSettings,
    namespace: &str,
    prefix: &str,
) -> Result<BTreeMap<String, Json>, ControlError> {
    let mut all = BTreeMap::new();
    visit(client, namespace, |key, value| {
        if key.starts_with(prefix) {
            match value {
                Some(value) => all.insert(key.to_owned(), value),
                None => all.remove(key),
            };
        }
    })?;
    Ok(all)
}

/// Shows every entry in the order in which they were written.
pub(super) fn visit(
    client: &ClientSettings,
    namespace: &str,
    mut see: impl FnMut(&str, Option<Json>),
) -> Result<(), ControlError> {
    let name = topic(namespace);
    let looker = scan::looker(client, &name)?;
    let parts = match scan::parts(&looker, &name) {
        Err(ScanError::Broker(BrokerError::UnknownTopic(_))) => return Ok(()),
        parts => parts?,
    };
    scan::read(&looker, &parts, |raw: &RawRecord<'_>| {
        if let Some((key, value)) = entry(raw) {
            see(key, value);
        }
        Seen::More
    })?;
    Ok(())
}

/// Writes entries.
pub struct Writer {
    producer: Arc<Producer>,
    sink: Sink,
    refused: Arc<Refused>,
    topic: String,
}

/// The first send that was refused since the last flush.
#[derive(Default)]
struct Refused(Mutex<Option<SendError>>);

impl DeliverySink for Refused {
    fn delivered(&self, _: u64, result: Result<(), SendError>) {
        if let Err(error) = result {
            self.0.lock().get_or_insert(error);
        }
    }
}

impl Writer {
    /// Opens a writer, and makes the topic where it is not there.
    ///
    /// # Errors
    /// Where the brokers do not answer or refuse.
    pub fn open(client: &ClientSettings, namespace: &str) -> Result<Self, ControlError> {
        let topic = topic(namespace);
        make(client, namespace)?;
        let producer = Producer::open(client, ProducerOptions::default())?;
        let refused = Arc::new(Refused::default());
        let sink = producer.register(Arc::clone(&refused) as _);
        Ok(Self { producer, sink, refused, topic })
    }

    /// Hands an entry over; `None` ends it. What was handed over is there after [`Writer::flush`].
    ///
    /// # Errors
    /// Where the client refuses it.
    pub fn put(&self, key: &str, value: Option<&Json>) -> Result<(), ControlError> {
        let value = value.map(|value| value.to_string().into_bytes());
        loop {
            let out = Outgoing {
                topic: &self.topic,
                partition: Some(0),
                key: Some(key.as_bytes()),
                value: value.as_deref(),
                timestamp: None,
                headers: OutHeaders::new(0),
            };
            match self.producer.send(out, &self.sink, 0) {
                Ok(()) => return Ok(()),
                Err((SendError::Full, _)) => std::thread::park_timeout(MOMENT),
                Err((error, _)) => return Err(ControlError::Send(error)),
            }
        }
    }

    /// Waits until all that was handed over is on the broker.
    ///
    /// # Errors
    /// Where it is not within 20 s, or was refused.
    pub fn flush(&self) -> Result<(), ControlError> {
        self.producer.flush(ANSWER)?;
        self.refused.0.lock().take().map_or(Ok(()), |error| Err(ControlError::Send(error)))
    }
}

/// Makes the topic unless it is there.
fn make(client: &ClientSettings, namespace: &str) -> Result<(), ControlError> {
    let own = own_topics::control(namespace);
    match scan::looker(client, &own.name)?.partition_count(&own.name, ANSWER) {
        Ok(_) => Ok(()),
        Err(BrokerError::UnknownTopic(_)) => Ok(own_topics::make(&own, &Admin::open(client)?, ANSWER)?),
        Err(error) => Err(error.into()),
    }
}
