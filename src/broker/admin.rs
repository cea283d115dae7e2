//! Topics as the broker has them, and changing them.
//!
//! Every call waits for its answer and takes a limit: call it from a thread that may wait, never from
//! an async task. Listing never creates a topic. Changing one setting leaves the others as they are,
//! and a change returns only once the brokers show it, so that the next look sees it. It decides
//! nothing: what should be created or changed is the caller's to say.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigEntry, ConfigSource, NewPartitions, NewTopic,
    OwnedResourceSpecifier, ResourceSpecifier, TopicReplication, TopicResult,
};
use rdkafka::client::Client;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use super::context::ClientLog;
use super::error::BrokerError;
use super::oauth::Handed;
use super::properties::Role;
use super::settings::ClientSettings;

/// How many partitions and replicas a topic has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicShape {
    /// Its partitions.
    pub partitions: u32,
    /// The replicas of its first partition.
    pub replication: u16,
}

/// One setting of a topic on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSetting {
    /// The value in force; `None` where the broker keeps it to itself.
    pub value: Option<String>,
    /// True where it is set on this topic, false where it is the broker's default.
    pub own: bool,
}

/// The settings of one topic by name.
pub type TopicSettings = BTreeMap<String, TopicSetting>;

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest {
    /// Its physical name.
    pub name: String,
    /// `None`: the broker's default.
    pub partitions: Option<u32>,
    /// `None`: the broker's default.
    pub replication: Option<u16>,
    /// The settings that differ from the broker's defaults.
    pub settings: Vec<(String, String)>,
}

/// A client for the topics themselves.
pub struct Admin {
    client: AdminClient<Quiet>,
    tokens: Option<Handed>,
}

impl Admin {
    /// Opens the client.
    ///
    /// # Errors
    /// [`BrokerError::Settings`] where the client refuses its configuration.
    pub fn open(settings: &ClientSettings) -> Result<Self, BrokerError> {
        let client = settings
            .config(Role::Any)
            .create_with_context(Quiet(ClientLog::new("admin")))
            .map_err(|error| BrokerError::from_client("open an admin client", &error))?;
        Ok(Self { client, tokens: settings.tokens.clone().map(Handed::new) })
    }

    /// The client, with an OAUTHBEARER token that lives where it needs one: it is never polled, which is
    /// how other clients ask for theirs.
    fn client(&self) -> Result<&AdminClient<Quiet>, BrokerError> {
        if let Some(tokens) = &self.tokens {
            tokens.renew(self.client.inner())?;
        }
        Ok(&self.client)
    }

    /// What the look at groups asks through.
    pub(super) fn asked(&self) -> Result<&Client<impl ClientContext>, BrokerError> {
        Ok(self.client()?.inner())
    }

    /// All topics that these credentials may see, by name.
    ///
    /// # Errors
    /// Where no broker answers within `limit` or the answer is a refusal.
    pub fn topics(&self, limit: Duration) -> Result<BTreeMap<String, TopicShape>, BrokerError> {
        // Asking for all topics creates none, where asking for one by name might.
        let metadata = self
            .asked()?
            .fetch_metadata(None, limit)
            .map_err(|error| BrokerError::from_client("list topics", &error))?;
        let known = metadata.topics().iter().filter(|topic| topic.error().is_none());
        Ok(known
            .map(|topic| {
                let replicas = topic.partitions().first().map_or(0, |first| first.replicas().len());
                let shape = TopicShape {
                    partitions: u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX),
                    replication: u16::try_from(replicas).unwrap_or(u16::MAX),
                };
                (topic.name().to_owned(), shape)
            })
            .collect())
    }

    /// The settings of these topics, in the order of `names`.
    ///
    /// # Errors
    /// Where the brokers do not answer within `limit` or refuse;
    /// [`BrokerError::UnknownTopic`] where one of the topics does not exist.
    pub fn settings(&self, names: &[&str], limit: Duration) -> Result<Vec<TopicSettings>, BrokerError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let specifiers: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        // The client refuses an operation time-out for this request.
        let options = AdminOptions::new().request_timeout(Some(limit));
        let results = wait(self.client()?.describe_configs(&specifiers, &options))
            .map_err(|error| BrokerError::from_client("settings of topics", &error))?;
        let mut found: HashMap<String, TopicSettings> = HashMap::new();
        for result in results {
            let resource = result.map_err(|code| BrokerError::from_code("settings of topics", code))?;
            if let OwnedResourceSpecifier::Topic(name) = resource.specifier {
                found.insert(name, resource.entries.into_iter().map(setting).collect());
            }
        }
        // A topic that does not exist is answered without any settings.
        let mut settings = |name: &str| found.remove(name).filter(|settings| !settings.is_empty());
        names
            .iter()
            .map(|name| settings(name).ok_or_else(|| BrokerError::UnknownTopic((*name).to_owned())))
            .collect()
    }

    /// Makes a topic. One that exists already is an error.
    ///
    /// # Errors
    /// Where the brokers do not answer within `limit` or refuse.
    pub fn create(&self, request: &TopicRequest, limit: Duration) -> Result<(), BrokerError> {
        let partitions = request.partitions.map_or(-1, |count| i32::try_from(count).unwrap_or(i32::MAX));
        let replication = TopicReplication::Fixed(request.replication.map_or(-1, i32::from));
        let mut topic = NewTopic::new(&request.name, partitions, replication);
        for (name, value) in &request.settings {
            topic = topic.set(name, value);
        }
        let results = wait(self.client()?.create_topics([&topic], &options(limit)));
        one(&format!("create topic `{}`", request.name), results)?;
        self.until_shown(limit, || {
            let shown = self.topics(limit)?.contains_key(&request.name);
            let settings = self.settings(&[&request.name], limit);
            Ok(shown && settings.is_ok_and(|settings| request.is_shown(&settings[0])))
        })
    }

    /// Grows a topic to `partitions`.
    ///
    /// # Errors
    /// Where the brokers do not answer within `limit` or refuse, as they do where it has as many.
    pub fn grow(&self, name: &str, partitions: u32, limit: Duration) -> Result<(), BrokerError> {
        let count = usize::try_from(partitions).unwrap_or(usize::MAX);
        let request = NewPartitions::new(name, count);
        let results = wait(self.client()?.create_partitions([&request], &options(limit)));
        one(&format!("grow topic `{name}`"), results)?;
        self.until_shown(limit, || {
            Ok(self.topics(limit)?.get(name).is_some_and(|shape| shape.partitions >= partitions))
        })
    }

    /// Changes settings of a topic and keeps all others that are set on it. The request replaces the
    /// whole set, so a change that somebody else makes at the same moment may be undone.
    ///
    /// # Errors
    /// Where the brokers do not answer within `limit` or refuse, or hide a value that must be kept.
    pub fn configure(
        &self,
        name: &str,
        changes: &[(String, String)],
        limit: Duration,
    ) -> Result<(), BrokerError> {
        let doing = format!("change settings of topic `{name}`");
        let before = self.settings(&[name], limit)?.remove(0);
        let wanted = merged(&doing, &before, changes)?;
        let request =
            wanted.iter().fold(AlterConfig::new(ResourceSpecifier::Topic(name)), |request, (name, value)| {
                request.set(name, value)
            });
        let results = wait(self.client()?.alter_configs([&request], &options(limit)))
            .map_err(|error| BrokerError::from_client(&doing, &error))?;
        match results.into_iter().next() {
            Some(Err((_, code))) => Err(BrokerError::from_code(&doing, code)),
            Some(Ok(_)) => self.until_shown(limit, || {
                let now = self.settings(&[name], limit)?.remove(0);
                Ok(changes.iter().all(|change| is_shown(change, &before, &now)))
            }),
            None => Err(no_answer(&doing)),
        }
    }

    /// Removes a topic with all its records.
    ///
    /// # Errors
    /// Where the brokers do not answer within `limit` or refuse.
    pub fn delete(&self, name: &str, limit: Duration) -> Result<(), BrokerError> {
        let results = wait(self.client()?.delete_topics(&[name], &options(limit)));
        one(&format!("delete topic `{name}`"), results)?;
        self.until_shown(limit, || {
            let gone = matches!(self.settings(&[name], limit), Err(BrokerError::UnknownTopic(_)));
            Ok(gone && !self.topics(limit)?.contains_key(name))
        })
    }

    /// The controller answers before every broker shows the change.
    fn until_shown(
        &self,
        limit: Duration,
        mut shown: impl FnMut() -> Result<bool, BrokerError>,
    ) -> Result<(), BrokerError> {
        let deadline = Instant::now() + limit;
        while !shown()? {
            if Instant::now() >= deadline {
                return Err(BrokerError::Unreachable(format!("the change is not shown after {limit:?}")));
            }
            thread::park_timeout(LOOK_AGAIN);
        }
        Ok(())
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl TopicRequest {
    fn is_shown(&self, settings: &TopicSettings) -> bool {
        self.settings.iter().all(|(name, _)| settings.get(name).is_some_and(|setting| setting.own))
    }
}

/// All that shall be set on the topic: what is, with the changes.
fn merged(
    doing: &str,
    before: &TopicSettings,
    changes: &[(String, String)],
) -> Result<BTreeMap<String, String>, BrokerError> {
    let mut wanted = BTreeMap::new();
    for (name, setting) in before.iter().filter(|(_, setting)| setting.own) {
        if changes.iter().all(|(changed, _)| changed != name) {
            let value = setting.value.clone();
            let value = value.ok_or_else(|| BrokerError::Denied(format!("{doing}: `{name}` is hidden")))?;
            wanted.insert(name.clone(), value);
        }
    }
    wanted.extend(changes.iter().cloned());
    Ok(wanted)
}

/// The broker may write a value in another way than it was given.
fn is_shown((name, wanted): &(String, String), before: &TopicSettings, now: &TopicSettings) -> bool {
    now.get(name).is_some_and(|setting| {
        setting.own && (setting.value.as_ref() == Some(wanted) || before.get(name) != Some(setting))
    })
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

fn setting(entry: ConfigEntry) -> (String, TopicSetting) {
    let own = entry.source == ConfigSource::DynamicTopic;
    (entry.name, TopicSetting { value: entry.value, own })
}

fn options(limit: Duration) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit))
}

fn one(doing: &str, results: KafkaResult<Vec<TopicResult>>) -> Result<(), BrokerError> {
    let results = results.map_err(|error: KafkaError| BrokerError::from_client(doing, &error))?;
    match results.into_iter().next() {
        Some(Err((_, code))) => Err(BrokerError::from_code(doing, code)),
        Some(Ok(_)) => Ok(()),
        None => Err(no_answer(doing)),
    }
}

fn no_answer(doing: &str) -> BrokerError {
    BrokerError::from_code(doing, RDKafkaErrorCode::BadMessage)
}

/// Waits for a future on this thread; the client completes it from one of its own.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

struct Quiet(ClientLog);

impl ClientContext for Quiet {
    /// Without it the client would want to make tokens itself.
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, kind: &str, message: &str) {
        self.0.line(level, kind, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.line(RDKafkaLogLevel::Warning, "error", &format!("{error}: {reason}"));
    }
}
