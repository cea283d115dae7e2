//! A group's consumer, driven by the one thread that owns it.
//!
//! Nothing is assigned, committed or reset behind the owner's back: a rebalance is only reported by
//! [`Consumer::poll`], and the owner answers it with [`Consumer::assign`] or [`Consumer::unassign`]
//! (the group waits until it does). Offsets are committed only when asked for. Polling must go on
//! while partitions are paused. It does not decide where to start or what to commit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;

use super::commit::{self, Commit, Committed, Committer};
use super::context::ClientLog;
use super::error::{BrokerError, ConsumeError};
use super::message::Fetched;
use super::oauth::{self, Tokens};
use super::properties::Role;
use super::settings::ClientSettings;
use super::transactions::Membership;
use crate::base::guard::{self, Guard};

/// One partition of one topic, by its physical name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The physical name of the topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// How a consumer joins its group and how much it fetches ahead.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// The group.
    pub group: String,
    /// The physical names of the topics.
    pub topics: Vec<Arc<str>>,
    /// Static membership: a restart under the same id within the session is no rebalance.
    pub instance_id: Option<String>,
    /// When a silent member is taken for dead.
    pub session_timeout: Duration,
    /// How long the owner may go without polling before its partitions are given away.
    pub max_poll_interval: Duration,
    /// The most KiB fetched ahead of the owner, over all partitions.
    pub queued_kbytes: u32,
    /// Counts what transactions have written that are not committed, too.
    pub uncommitted: bool,
}

impl ConsumerOptions {
    /// The defaults: sessions of 10 s, polls at least every 5 minutes, 2 MiB fetched ahead.
    pub fn new(group: impl Into<String>, topics: Vec<Arc<str>>) -> Self {
        Self {
            group: group.into(),
            topics,
            instance_id: None,
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(300),
            queued_kbytes: 2 * 1024,
            uncommitted: false,
        }
    }
}

/// What one poll brought.
#[derive(Debug)]
pub enum Polled<'c> {
    /// A record.
    Record(Fetched<'c>),
    /// The group has changed; answer with [`Consumer::assign`] or [`Consumer::unassign`].
    Rebalance(Rebalance),
    /// All that this partition holds by now was read. Told only to a consumer that joins no group.
    End(i32),
    /// Something is wrong; polling goes on unless the error says otherwise.
    Error(ConsumeError),
    /// Nothing in time, or only the client's own business: poll again.
    Nothing,
}

/// A change of what this member reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebalance {
    /// The whole new assignment (the `range` assignor gives all or nothing). It may be empty.
    Assigned(Vec<TopicPartition>),
    /// All partitions are taken back.
    Revoked {
        /// What was assigned.
        partitions: Vec<TopicPartition>,
        /// True where others may read them already: nothing may be committed any more.
        lost: bool,
    },
}

/// Where reading a partition starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At this offset.
    Offset(i64),
    /// At the oldest record.
    Earliest,
    /// Behind the newest record.
    Latest,
}

impl StartAt {
    fn to_client(self) -> Offset {
        match self {
            Self::Offset(offset) => Offset::Offset(offset),
            Self::Earliest => Offset::Beginning,
            Self::Latest => Offset::End,
        }
    }
}

/// A member of a group. One thread polls, assigns and closes; commits and look-ups may come from any.
pub struct Consumer {
    client: Arc<BaseConsumer<Context>>,
    committer: Committer,
    reading: Mutex<Reading>,
    session_timeout: Duration,
}

/// What the owner last said about the assigned partitions.
#[derive(Default)]
struct Reading {
    starts: BTreeMap<TopicPartition, StartAt>,
    paused: BTreeSet<TopicPartition>,
    /// Where polling stood in assignments before; the client may go on saying so for a moment.
    before: BTreeMap<TopicPartition, i64>,
}

/// The most of one answer to a fetch, unless set otherwise. The client's default of 50 MiB would hold
/// that much a broker before anything is read; a larger record still comes, alone.
const FETCH_MAX_BYTES: &str = "1048576";
/// How long a seek may take to reach the client's own threads.
const SEEK_LIMIT: Duration = Duration::from_secs(5);

impl Consumer {
    /// Joins the group, or none where there are no topics and only the look-ups are wanted. `wake` is called, from a thread of the client, whenever there is something to
    /// poll where there was nothing; it must be cheap and must not call back.
    ///
    /// # Errors
    /// [`BrokerError::Settings`] where the client refuses its configuration. Unreachable brokers are
    /// no error here; polling reports them.
    pub fn open(
        settings: &ClientSettings,
        options: ConsumerOptions,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, BrokerError> {
        let context = Context::new(options.group.clone(), settings.tokens.clone());
        let mut client: BaseConsumer<Context> = config(settings, &options)
            .create_with_context(context)
            .map_err(|error| BrokerError::from_client("open a consumer", &error))?;
        // Look-ups would wait for a token that only polling brings.
        if settings.tokens.is_some() {
            take_first_token(&client);
        }
        let wake = Arc::new(wake);
        let told = Arc::clone(&wake);
        client.set_nonempty_callback(move || told());
        let topics: Vec<&str> = options.topics.iter().map(|topic| &**topic).collect();
        if !topics.is_empty() {
            client.subscribe(&topics).map_err(|error| BrokerError::from_client("subscribe", &error))?;
        }
        let client = Arc::new(client);
        let committing = Arc::clone(&client);
        let committer = Committer::start(
            move |offsets| {
                committing
                    .commit(offsets, CommitMode::Sync)
                    .map_err(|error| BrokerError::from_client("commit", &error))
            },
            move || wake(),
        )?;
        let session_timeout = options.session_timeout;
        Ok(Self { client, committer, reading: Mutex::default(), session_timeout })
    }

    /// Reads these topics from now on: the group takes back what is assigned and hands out anew.
    ///
    /// # Errors
    /// Where the client refuses, as it does while closing.
    pub fn subscribe(&self, topics: &[Arc<str>]) -> Result<(), BrokerError> {
        let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        self.client.subscribe(&topics).map_err(|error| BrokerError::from_client("subscribe", &error))
    }

    /// The names of all topics that these credentials may see.
    ///
    /// # Errors
    /// Where no broker answers within `limit` or the answer is a refusal.
    pub fn topics(&self, limit: Duration) -> Result<BTreeSet<String>, BrokerError> {
        let metadata = self
            .client
            .fetch_metadata(None, limit)
            .map_err(|error| BrokerError::from_client("list topics", &error))?;
        let known = metadata.topics().iter().filter(|topic| topic.error().is_none());
        Ok(known.map(|topic| topic.name().to_owned()).collect())
    }

    /// Waits up to `wait` for whatever comes next. A zero wait takes what is there.
    pub fn poll(&self, wait: Duration) -> Polled<'_> {
        let context = self.client.context();
        if let Some(rebalance) = context.take_rebalance() {
            return Polled::Rebalance(rebalance);
        }
        match self.client.poll(wait) {
            Some(Ok(message)) => Polled::Record(Fetched::new(message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => Polled::End(partition),
            Some(Err(error)) => Polled::Error(ConsumeError::from_client(&error, context.take_reason())),
            // The client returns empty-handed right after a rebalance or the answer to a commit.
            None => context.take_rebalance().map_or(Polled::Nothing, Polled::Rebalance),
        }
    }

    /// Answers [`Rebalance::Assigned`], or starts the assigned partitions anew; what was fetched ahead
    /// is thrown away, and nothing is paused any more.
    ///
    /// # Errors
    /// Where the client refuses, as it does while closing.
    pub fn assign(&self, partitions: &[(TopicPartition, StartAt)]) -> Result<(), BrokerError> {
        self.end_pauses();
        self.keep_positions();
        let mut reading = self.reading.lock();
        reading.starts = partitions.iter().cloned().collect();
        let Reading { starts, before, .. } = &mut *reading;
        before.retain(|partition, before| match starts.get(partition) {
            Some(StartAt::Offset(start)) => *before > *start,
            start => start.is_some(),
        });
        drop(reading);
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (partition, start) in partitions {
            list.add_partition_offset(&partition.topic, partition.partition, start.to_client())
                .map_err(|error| BrokerError::from_client("assign", &error))?;
        }
        self.client.assign(&list).map_err(|error| BrokerError::from_client("assign", &error))
    }

    /// Answers [`Rebalance::Revoked`].
    pub fn unassign(&self) {
        self.end_pauses();
        self.keep_positions();
        self.reading.lock().starts.clear();
        // Refused only by a client that is closing or beyond repair, where nothing is assigned.
        let _ = self.client.unassign();
    }

    /// Up to where each assigned partition was polled, past offsets that hold no record for a reader
    /// (transaction markers, aborted records). A partition of which nothing was polled since it was
    /// assigned or sought is left out. Asks no broker.
    pub fn positions(&self) -> Vec<(TopicPartition, i64)> {
        let mut reading = self.reading.lock();
        let mut positions = self.told_positions();
        positions.retain(|(partition, position)| match reading.before.get(partition) {
            Some(before) if before == position => false,
            _ => {
                reading.before.remove(partition);
                true
            }
        });
        positions
    }

    fn keep_positions(&self) {
        let told = self.told_positions();
        self.reading.lock().before.extend(told);
    }

    fn told_positions(&self) -> Vec<(TopicPartition, i64)> {
        let Ok(list) = self.client.position() else { return Vec::new() };
        let polled = list.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => {
                Some((TopicPartition::new(element.topic(), element.partition()), offset))
            }
            _ => None,
        });
        polled.collect()
    }

    /// The client keeps a pause by the partition's name, over assignments and whoever has the partition
    /// meanwhile, until it is told to resume.
    fn end_pauses(&self) {
        let paused = std::mem::take(&mut self.reading.lock().paused);
        if !paused.is_empty() {
            let _ = self.client.resume(&list(&Vec::from_iter(paused)));
        }
    }

    /// What this member was when its partitions were last assigned; `None` before that.
    pub fn membership(&self) -> Option<Membership> {
        self.client.context().membership.lock().clone()
    }

    /// Whether the partitions were lost without being revoked: then nothing may be committed.
    pub fn assignment_lost(&self) -> bool {
        self.client.assignment_lost()
    }

    /// What the group has committed for these partitions, each exactly once, in any order.
    ///
    /// # Errors
    /// Where the coordinator does not answer within `limit` or refuses.
    pub fn committed(
        &self,
        partitions: &[TopicPartition],
        limit: Duration,
    ) -> Result<Vec<Committed>, BrokerError> {
        let list = self
            .client
            .committed_offsets(list(partitions), limit)
            .map_err(|error| BrokerError::from_client("committed offsets", &error))?;
        commit::committed(&list)
    }

    /// The first offset whose record is not older than `millis` since the Unix epoch.
    /// [`StartAt::Latest`] where there is none.
    ///
    /// # Errors
    /// Where the brokers do not answer within `limit` or refuse.
    pub fn offsets_for_time(
        &self,
        partitions: &[TopicPartition],
        millis: i64,
        limit: Duration,
    ) -> Result<Vec<(TopicPartition, StartAt)>, BrokerError> {
        offsets_for_time(&*self.client, partitions, millis, limit)
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// [`BrokerError::UnknownTopic`] where there is no such topic; else where the brokers do not answer
    /// within `limit`.
    pub fn partition_count(&self, topic: &str, limit: Duration) -> Result<i32, BrokerError> {
        let metadata = self
            .client
            .fetch_metadata(Some(topic), limit)
            .map_err(|error| BrokerError::from_client("metadata", &error))?;
        match metadata.topics().iter().find(|found| found.name() == topic) {
            Some(found) if !found.partitions().is_empty() => {
                Ok(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))
            }
            _ => Err(BrokerError::UnknownTopic(topic.to_owned())),
        }
    }

    /// The oldest offset and the one behind the newest record.
    ///
    /// # Errors
    /// Where the broker does not answer within `limit` or refuses.
    pub fn watermarks(&self, partition: &TopicPartition, limit: Duration) -> Result<(i64, i64), BrokerError> {
        self.client
            .fetch_watermarks(&partition.topic, partition.partition, limit)
            .map_err(|error| BrokerError::from_client("watermarks", &error))
    }

    /// The offsets behind the newest records, with one request a broker.
    ///
    /// # Errors
    /// Where the brokers do not answer within `limit` or refuse.
    pub fn ends(
        &self,
        partitions: &[TopicPartition],
        limit: Duration,
    ) -> Result<BTreeMap<TopicPartition, i64>, BrokerError> {
        bounds(&self.client, partitions, Offset::End, limit)
    }

    /// Which of these positions (the next offsets to read) are not on the broker, with the oldest
    /// offset and the one behind the newest: what [`ConsumeError::OffsetOutOfRange`] leaves open.
    ///
    /// # Errors
    /// As [`Consumer::ends`].
    pub fn out_of_range(
        &self,
        positions: &[(TopicPartition, i64)],
        limit: Duration,
    ) -> Result<Vec<(TopicPartition, i64, i64)>, BrokerError> {
        let deadline = Instant::now() + limit;
        let names: Vec<_> = positions.iter().map(|(partition, _)| partition.clone()).collect();
        let lows = bounds(&self.client, &names, Offset::Beginning, limit)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let highs = bounds(&self.client, &names, Offset::End, left)?;
        let bounded = positions.iter().filter_map(|(partition, next)| {
            let (low, high) = (*lows.get(partition)?, *highs.get(partition)?);
            (*next < low || *next > high).then(|| (partition.clone(), low, high))
        });
        Ok(bounded.collect())
    }

    /// Commits without waiting. Commits are carried out in the order in which they were asked for; what
    /// was not started yet is merged with what comes next. `wake` is called when there is an outcome,
    /// which bears `number`, or a later one that this was merged with.
    ///
    /// # Errors
    /// None today; what goes wrong comes through [`Consumer::take_commit_results`].
    pub fn commit_later(&self, commits: &[Commit], number: u64) -> Result<(), BrokerError> {
        if !commits.is_empty() {
            self.committer.later(commits, number);
        }
        Ok(())
    }

    /// Commits and waits for the answer, at most one session.
    ///
    /// # Errors
    /// [`BrokerError::Stale`] where the partitions are another member's by now; else whatever kept
    /// the coordinator from answering.
    pub fn commit_now(&self, commits: &[Commit]) -> Result<(), BrokerError> {
        self.commit_within(commits, self.session_timeout)
    }

    /// Commits and waits for the answer, at most `limit`. Past it the commit may still be carried out.
    ///
    /// # Errors
    /// As [`Consumer::commit_now`]; [`BrokerError::Unreachable`] at the limit.
    pub fn commit_within(&self, commits: &[Commit], limit: Duration) -> Result<(), BrokerError> {
        if commits.is_empty() {
            return Ok(());
        }
        match self.committer.now(commits).recv_timeout(limit) {
            Ok(result) => result,
            Err(_) => Err(BrokerError::Unreachable(format!("commit: no answer within {limit:?}"))),
        }
    }

    /// Forgets the commits that were asked for and not begun, such as one whose limit has passed: they
    /// must not be carried out once the partitions may be another member's.
    pub fn forget_commits(&self) {
        self.committer.forget();
    }

    /// What became of the calls of [`Consumer::commit_later`] since the last look, oldest first: the
    /// number, and the partitions that were committed or why none was.
    pub fn take_commit_results(&self) -> Vec<(u64, Result<Vec<TopicPartition>, BrokerError>)> {
        self.committer.take()
    }

    /// Stops fetching these partitions and throws away what was fetched ahead.
    pub fn pause(&self, partitions: &[TopicPartition]) {
        // Fails only for partitions that are not assigned, which are as good as paused.
        let _ = self.client.pause(&list(partitions));
        self.reading.lock().paused.extend(partitions.iter().cloned());
    }

    /// Fetches these partitions again, from where polling stood.
    pub fn resume(&self, partitions: &[TopicPartition]) {
        let _ = self.client.resume(&list(partitions));
        self.reading.lock().paused.retain(|paused| !partitions.contains(paused));
    }

    /// Reads an assigned partition on from `offset`, also one that stands still since its offset was
    /// lost.
    ///
    /// # Errors
    /// Where the partition is not assigned, or the client is closing.
    pub fn seek(&self, partition: &TopicPartition, offset: i64) -> Result<(), BrokerError> {
        self.seek_to(partition, StartAt::Offset(offset))
    }

    /// Reads an assigned partition on from `start`, also one that stands still since its offset was
    /// lost.
    ///
    /// # Errors
    /// As [`Consumer::seek`].
    pub fn seek_to(&self, partition: &TopicPartition, start: StartAt) -> Result<(), BrokerError> {
        let failed = |error: KafkaError| BrokerError::from_client("seek", &error);
        let sought = self.client.seek(&partition.topic, partition.partition, start.to_client(), SEEK_LIMIT);
        let mut reading = self.reading.lock();
        let Some(known) = reading.starts.get_mut(partition) else { return sought.map_err(failed) };
        *known = start;
        match sought {
            Ok(()) => Ok(()),
            Err(_) => self.restart(&mut reading, partition).map_err(failed),
        }
    }

    /// The client cannot seek a partition that it has given up: it must be assigned again, and with
    /// it all others, each from where polling stood.
    fn restart(&self, reading: &mut Reading, restarted: &TopicPartition) -> Result<(), KafkaError> {
        let positions = self.client.position()?;
        let known = positions.find_partition(&restarted.topic, restarted.partition);
        if let Some(Offset::Offset(polled)) = known.map(|element| element.offset()) {
            reading.before.insert(restarted.clone(), polled);
        }
        let mut list = TopicPartitionList::with_capacity(reading.starts.len());
        for (partition, start) in &reading.starts {
            let polled = positions
                .find_partition(&partition.topic, partition.partition)
                .map(|element| element.offset())
                .filter(|position| partition != restarted && matches!(position, Offset::Offset(_)));
            let offset = polled.unwrap_or(start.to_client());
            list.add_partition_offset(&partition.topic, partition.partition, offset)?;
        }
        self.client.assign(&list)?;
        let paused: Vec<_> = reading.paused.iter().cloned().collect();
        if !paused.is_empty() {
            self.client.pause(&self::list(&paused))?;
        }
        Ok(())
    }

    /// Leaves the group (a static member only disconnects) without committing anything. Returns false
    /// where that took longer than `deadline`; a helper thread then goes on with it.
    pub fn close(self, deadline: Duration) -> bool {
        self.stop();
        let (done, closed) = mpsc::sync_channel(1);
        let closer = thread::Builder::new().name("kafka-close".to_owned()).spawn(move || {
            drop(self);
            let _ = done.send(());
        });
        closer.is_ok() && closed.recv_timeout(deadline).is_ok()
    }
}

impl Consumer {
    /// A rebalance that nobody answered would hold up the closing for ever.
    fn stop(&self) {
        self.client.context().closing.store(true, Ordering::Release);
        self.committer.stop();
        let _ = self.client.unassign();
    }
}

impl Drop for Consumer {
    /// Waits for the client without a limit; [`Consumer::close`] has one.
    fn drop(&mut self) {
        self.stop();
        self.committer.join();
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

/// What every look-up by time shares, whoever asks.
pub(super) fn offsets_for_time<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    partitions: &[TopicPartition],
    millis: i64,
    limit: Duration,
) -> Result<Vec<(TopicPartition, StartAt)>, BrokerError> {
    let failed = |error: KafkaError| BrokerError::from_client("offsets for a time", &error);
    let mut times = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        times
            .add_partition_offset(&partition.topic, partition.partition, Offset::Offset(millis.max(0)))
            .map_err(failed)?;
    }
    let found = client.offsets_for_times(times, limit).map_err(failed)?;
    found
        .elements()
        .iter()
        .map(|element| {
            element.error().map_err(failed)?;
            let start = match element.offset() {
                Offset::Offset(offset) => StartAt::Offset(offset),
                _ => StartAt::Latest,
            };
            Ok((TopicPartition::new(element.topic(), element.partition()), start))
        })
        .collect()
}

/// The first or the last offset of each partition; `which` is [`Offset::Beginning`] or [`Offset::End`].
fn bounds<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    partitions: &[TopicPartition],
    which: Offset,
    limit: Duration,
) -> Result<BTreeMap<TopicPartition, i64>, BrokerError> {
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let failed = |error: KafkaError| BrokerError::from_client("first and last offsets", &error);
    let mut wanted = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        wanted.add_partition_offset(&partition.topic, partition.partition, which).map_err(failed)?;
    }
    let found = client.offsets_for_times(wanted, limit).map_err(failed)?;
    found
        .elements()
        .iter()
        .map(|element| {
            element.error().map_err(failed)?;
            let name = TopicPartition::new(element.topic(), element.partition());
            match element.offset() {
                Offset::Offset(offset) => Ok((name, offset)),
                other => Err(BrokerError::Other { retriable: true, message: format!("{name}: {other:?}") }),
            }
        })
        .collect()
}

pub(super) fn list(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

pub(super) fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|element| TopicPartition::new(element.topic(), element.partition())).collect()
}

fn config(settings: &ClientSettings, options: &ConsumerOptions) -> ClientConfig {
    let mut config = settings.config(Role::Consumer);
    let session = options.session_timeout.as_millis().max(1);
    if config.get("heartbeat.interval.ms").is_none() {
        config.set("heartbeat.interval.ms", (session / 3).clamp(1, 3_000).to_string());
    }
    if config.get("fetch.max.bytes").is_none() {
        config.set("fetch.max.bytes", FETCH_MAX_BYTES);
    }
    if config.get("queued.max.messages.kbytes").is_none() {
        config.set("queued.max.messages.kbytes", options.queued_kbytes.max(1).to_string());
    }
    config
        .set("group.id", &options.group)
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", session.to_string())
        .set("max.poll.interval.ms", options.max_poll_interval.as_millis().max(session).to_string())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", if guard::removed(Guard::LostOffset) { "latest" } else { "error" })
        .set("allow.auto.create.topics", "false")
        .set("enable.partition.eof", options.topics.is_empty().to_string())
        .set("isolation.level", if options.uncommitted { "read_uncommitted" } else { "read_committed" })
        .set("fetch.queue.backoff.ms", "5");
    if let Some(id) = &options.instance_id {
        config.set("group.instance.id", id);
    }
    config
}

/// Polls a client that is not connected yet until it has asked for its token.
fn take_first_token(client: &BaseConsumer<Context>) {
    for _ in 0..MAX_EARLY_EVENTS {
        if client.context().token_given.load(Ordering::Acquire) {
            return;
        }
        let _ = client.poll(Duration::ZERO);
    }
}

/// So many events may come before the question for a token, which is the first.
const MAX_EARLY_EVENTS: usize = 64;

/// Collects what the client reports while it is polled.
struct Context {
    log: ClientLog,
    tokens: Option<Arc<Tokens>>,
    token_given: AtomicBool,
    closing: AtomicBool,
    pending: AtomicBool,
    rebalances: Mutex<VecDeque<Rebalance>>,
    reason: Mutex<Option<String>>,
    membership: Mutex<Option<Membership>>,
}

impl Context {
    fn new(group: String, tokens: Option<Arc<Tokens>>) -> Self {
        Self {
            log: ClientLog::new(group),
            tokens,
            token_given: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            pending: AtomicBool::new(false),
            rebalances: Mutex::new(VecDeque::new()),
            reason: Mutex::new(None),
            membership: Mutex::new(None),
        }
    }

    fn take_rebalance(&self) -> Option<Rebalance> {
        if !self.pending.load(Ordering::Acquire) {
            return None;
        }
        let mut rebalances = self.rebalances.lock();
        let next = rebalances.pop_front();
        self.pending.store(!rebalances.is_empty(), Ordering::Release);
        next
    }

    fn take_reason(&self) -> Option<String> {
        self.reason.lock().take()
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let token = oauth::token(self.tokens.as_deref());
        self.token_given.store(true, Ordering::Release);
        token
    }

    fn log(&self, level: RDKafkaLogLevel, kind: &str, message: &str) {
        self.log.line(level, kind, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.line(RDKafkaLogLevel::Warning, "error", &format!("{error}: {reason}"));
        *self.reason.lock() = Some(reason.to_owned());
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, client: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::Acquire) {
            let _ = client.unassign();
            return;
        }
        let partitions = partitions(list);
        let rebalance = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                // Asked later, it might be another generation's.
                *self.membership.lock() = client.group_metadata().map(|member| Membership(Arc::new(member)));
                Rebalance::Assigned(partitions)
            }
            _ => Rebalance::Revoked { partitions, lost: client.assignment_lost() },
        };
        self.rebalances.lock().push_back(rebalance);
        self.pending.store(true, Ordering::Release);
    }
}
