//! Reading the marks of partitions that were assigned, on a thread of the runtime's.
//!
//! First the topic must be there, which the engine makes. Then a claim is written, and all is read up to
//! it: what earlier owners wrote before it counts, whatever of theirs comes later does not. Readers see
//! only what is committed, so that where the stage writes in transactions, one that an engine left open is
//! waited for. Whatever goes wrong is said and tried again, until nobody wants the marks any more.

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::Place;
use super::entry::{Owner, Reading};
use super::window::Window;
use crate::base::now_millis;
use crate::broker::{
    BrokerError, ClientSettings, ConsumeError, Consumer, ConsumerOptions, DeliverySink, OutHeaders, Outgoing,
    Polled, SendError, StartAt,
};
use crate::events::delivery::Producers;
use crate::events::inbox::{Inbox, Letter};
use crate::events::stage::StageRuntime;
use crate::events::status::Shared;
use crate::record::RawRecord;

/// How long one look waits, and so how soon it is noticed that nobody wants the marks any more.
const LOOK: Duration = Duration::from_millis(100);
/// How soon a topic that is not there is looked for again, and what went wrong is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How soon the engine makes a topic; only then is it missed.
const SOON: Duration = Duration::from_secs(5);
/// How long the brokers may take to answer one question.
const ANSWER: Duration = Duration::from_secs(3);
/// How long nothing may come before somebody is told.
const SILENCE: Duration = Duration::from_secs(10);
/// For so long without a record the reading is begun anew, with another claim.
const PATIENCE: Duration = Duration::from_secs(60);
/// After so many entries it is looked whether there are too many marks.
const BOUND_EVERY: usize = 256;
/// How much is fetched ahead, in KiB.
const QUEUED: u32 = 4 * 1024;

/// The marks of one partition, as they were read.
pub(in crate::events) struct Loaded {
    pub(super) slot: u32,
    pub(super) owner: Owner,
    pub(super) window: Window,
    /// Where the partition of marks ended.
    pub(super) end: i64,
    /// How many marks were left out, as there were too many.
    pub(super) forgotten: u64,
}

/// Where marks are read and claimed.
pub(super) struct Loading {
    pub(super) namespace: String,
    pub(super) stage: Arc<str>,
    client: ClientSettings,
    producers: Arc<Producers>,
    runtime: Handle,
}

/// One partition whose marks are wanted, as long as somebody does.
struct Wanted {
    slot: u32,
    place: Place,
    alive: Weak<()>,
    reading: Option<Reading>,
    forgotten: u64,
}

impl Loading {
    pub(super) fn new(stage: &Arc<str>, runtime: &StageRuntime) -> Self {
        Self {
            namespace: runtime.namespace.clone(),
            stage: Arc::clone(stage),
            client: runtime.client.clone(),
            producers: Arc::clone(&runtime.producers),
            runtime: runtime.runtime.clone(),
        }
    }

    /// Says of these partitions whose they are.
    pub(super) fn claim(&self, places: Vec<(u32, Place)>, shared: &Arc<Shared>) {
        self.spawn(places, shared, |job| {
            job.again(|job| {
                job.topics_are_there()?;
                job.claim()?;
                job.wanted.clear();
                Ok(())
            });
        });
    }

    /// Reads the marks of these partitions; what was read comes by letter.
    pub(super) fn read(
        &self,
        places: Vec<(u32, Place)>,
        length: i64,
        most: usize,
        inbox: &Arc<Inbox>,
        shared: &Arc<Shared>,
    ) {
        let inbox = Arc::clone(inbox);
        self.spawn(places, shared, move |job| {
            job.again(|job| {
                job.topics_are_there()?;
                job.claim()?;
                job.read((length, most), &inbox)
            });
        });
    }

    fn spawn(
        &self,
        places: Vec<(u32, Place)>,
        shared: &Arc<Shared>,
        work: impl FnOnce(&mut Job) + Send + 'static,
    ) {
        if places.is_empty() {
            return;
        }
        // A group's name is asked for though nothing of it is used.
        let options = ConsumerOptions {
            queued_kbytes: QUEUED,
            ..ConsumerOptions::new(format!("{}.{}", self.namespace, self.stage), Vec::new())
        };
        let wanted = places.into_iter().map(|(slot, mut place)| {
            // Only the stage's own hold on it keeps it alive.
            let alive = Arc::downgrade(&std::mem::take(&mut place.alive));
            Wanted { slot, place, alive, reading: None, forgotten: 0 }
        });
        let wanted = wanted.collect();
        let (client, producers, shared) =
            (self.client.clone(), Arc::clone(&self.producers), Arc::clone(shared));
        self.runtime.spawn_blocking(move || match Consumer::open(&client, options, || {}) {
            Ok(reader) => work(&mut Job { reader, producers, shared, wanted, since: Instant::now() }),
            Err(error) => shared.trouble(&format!("the marks of duplicates cannot be read: {error}")),
        });
    }
}

struct Job {
    reader: Consumer,
    producers: Arc<Producers>,
    shared: Arc<Shared>,
    wanted: Vec<Wanted>,
    since: Instant,
}

/// Why it has to be tried again; `None`: because less is wanted by now.
type Again = Option<String>;

impl Job {
    /// Works until nothing is wanted any more.
    fn again(&mut self, mut work: impl FnMut(&mut Self) -> Result<(), Again>) {
        while self.is_wanted() {
            if let Err(why) = work(self) {
                why.into_iter().for_each(|why| self.shared.trouble(&why));
                std::thread::park_timeout(AGAIN);
            }
        }
    }

    /// Forgets what nobody wants any more; whether something is left.
    fn is_wanted(&mut self) -> bool {
        self.wanted.retain(|wanted| wanted.alive.strong_count() > 0);
        !self.wanted.is_empty()
    }

    fn topics_are_there(&self) -> Result<(), Again> {
        let mut counts: HashMap<&str, i32> = HashMap::new();
        for Wanted { place: Place { marks, .. }, .. } in &self.wanted {
            if !counts.contains_key(&*marks.topic) {
                let count = match self.reader.partition_count(&marks.topic, ANSWER) {
                    Ok(count) => count,
                    Err(BrokerError::UnknownTopic(_)) => 0,
                    Err(error) => return Err(Some(format!("topic `{}`: {error}", marks.topic))),
                };
                counts.insert(&marks.topic, count);
            }
            if counts.get(&*marks.topic).is_none_or(|count| *count <= marks.partition) {
                // The engine is at it.
                if self.since.elapsed() < SOON {
                    return Err(None);
                }
                return Err(Some(format!(
                    "{marks}, where marks of duplicates lie, is not there yet; the engine makes it"
                )));
            }
        }
        Ok(())
    }

    /// Writes a claim to each partition and waits until all are there.
    fn claim(&mut self) -> Result<(), Again> {
        let producer = self.producers.current();
        let (told, answers) = mpsc::channel();
        let sink = producer.register(Arc::new(Told(told)));
        let mut sent = 0;
        let mut wrong = None;
        for Wanted { place, .. } in &self.wanted {
            let (key, value) = (place.owner.claim(), place.owner.to_string());
            let out = Outgoing {
                topic: &place.marks.topic,
                partition: Some(place.marks.partition),
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                timestamp: None,
                headers: OutHeaders::new(0),
            };
            match producer.send(out, &sink, 0) {
                Ok(()) => sent += 1,
                Err((error, _)) => wrong = Some(error),
            }
        }
        while sent > 0 && self.is_wanted() {
            match answers.recv_timeout(LOOK) {
                Ok(result) => {
                    sent -= 1;
                    wrong = wrong.or(result.err());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        producer.deregister(&sink);
        match wrong {
            // Room comes with time.
            Some(SendError::Full) => Err(None),
            Some(error) => Err(Some(format!("marks of duplicates cannot be claimed: {error}"))),
            None => Ok(()),
        }
    }

    /// Reads each partition up to its claim.
    fn read(&mut self, (length, most): (i64, usize), inbox: &Inbox) -> Result<(), Again> {
        let failed = |why: &dyn std::fmt::Display| Some(format!("marks of duplicates cannot be read: {why}"));
        let starts: Vec<_> =
            self.wanted.iter().map(|wanted| (wanted.place.marks.clone(), StartAt::Earliest)).collect();
        self.reader.assign(&starts).map_err(|error| failed(&error))?;
        for Wanted { place, reading, forgotten, .. } in &mut self.wanted {
            *reading = Some(Reading::new(place.home.clone(), place.owner, length));
            *forgotten = 0;
        }
        let mut read = 0_usize;
        let (mut last, mut told) = (Instant::now(), Instant::now());
        while self.is_wanted() {
            match self.reader.poll(LOOK) {
                Polled::Record(fetched) => {
                    last = Instant::now();
                    take(&mut self.wanted, &fetched.raw(), inbox);
                    read += 1;
                    if read.is_multiple_of(BOUND_EVERY) {
                        bound(&mut self.wanted, most);
                    }
                }
                Polled::Error(
                    error @ (ConsumeError::OffsetOutOfRange(_)
                    | ConsumeError::UnknownTopic(_)
                    | ConsumeError::Denied(_)
                    | ConsumeError::Fatal(_)),
                ) => return Err(failed(&error)),
                _ => {}
            }
            if last.elapsed() > PATIENCE {
                return Err(failed(&"the broker gives nothing more"));
            }
            if last.elapsed() > SILENCE && told.elapsed() > SILENCE {
                told = Instant::now();
                self.shared.trouble("marks of duplicates are waited for: a transaction may be open");
            }
        }
        Ok(())
    }
}

/// An entry was read. Where it is the last of its partition, the marks go to who wants them.
fn take(all: &mut Vec<Wanted>, raw: &RawRecord<'_>, inbox: &Inbox) {
    let of = |Wanted { place: Place { marks, .. }, .. }: &Wanted| {
        marks.partition == raw.partition && *marks.topic == *raw.topic
    };
    let Some(index) = all.iter().position(of) else { return };
    let Some(reading) = &mut all[index].reading else { return };
    let time = raw.timestamp.unwrap_or_else(now_millis);
    if !reading.take(raw.key, raw.value, time) {
        return;
    }
    let Wanted { slot, place, reading, forgotten, .. } = all.swap_remove(index);
    if let Some(reading) = reading {
        let window = reading.into_window();
        let (owner, end) = (place.owner, raw.offset + 1);
        inbox.tell(Letter::Marks(Loaded { slot, owner, window, end, forgotten }));
    }
}

/// Where more marks are there than there may be, the partition with most forgets its first ones.
fn bound(all: &mut [Wanted], most: usize) {
    let mut count: usize = all.iter().filter_map(|wanted| wanted.reading.as_ref()).map(Reading::len).sum();
    while count > most {
        let len = |wanted: &&mut Wanted| wanted.reading.as_ref().map_or(0, Reading::len);
        let Some(Wanted { reading: Some(reading), forgotten, .. }) = all.iter_mut().max_by_key(len) else {
            return;
        };
        if !reading.forget_first() {
            return;
        }
        *forgotten += 1;
        count -= 1;
    }
}

struct Told(mpsc::Sender<Result<(), SendError>>);

impl DeliverySink for Told {
    fn delivered(&self, _: u64, result: Result<(), SendError>) {
        // Nobody listens any more where nothing is wanted.
        let _ = self.0.send(result);
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::Keys;
    use super::super::entry;
    use super::super::window::Seen;
    use super::*;
    use crate::broker::TopicPartition;
    use crate::record::RawRecord;

    const LENGTH: i64 = 1_000;

    fn wanted(slot: u32) -> Wanted {
        let home = TopicPartition::new("in", slot as i32);
        let place = Place {
            marks: TopicPartition::new("marks", slot as i32),
            home: home.clone(),
            owner: Owner::new(),
            end: 0,
            alive: Arc::default(),
        };
        let reading = Some(Reading::new(home, place.owner, LENGTH));
        Wanted { slot, place, alive: Weak::new(), reading, forgotten: 0 }
    }

    fn read(all: &mut Vec<Wanted>, inbox: &Inbox, slot: u32, entry: Option<i64>) {
        let Some(wanted) = all.iter().find(|wanted| wanted.slot == slot) else { return };
        let (mut key, mut value) = (wanted.place.owner.claim(), wanted.place.owner.to_string().into_bytes());
        if let Some(offset) = entry {
            key = Keys::of("k").digest(&offset.to_string()).hex();
            value.clear();
            let seen = Seen { offset, timestamp: Some(5) };
            entry::write(&mut value, wanted.place.owner, &wanted.place.home, Some(seen));
        }
        let raw = RawRecord {
            topic: "marks",
            partition: slot as i32,
            offset: 0,
            timestamp: Some(5),
            log_append: false,
            key: Some(key.as_bytes()),
            value: Some(&value),
            headers: &(),
        };
        take(all, &raw, inbox);
    }

    #[test]
    fn no_more_is_kept_than_there_may_be_and_each_partition_goes_out_once_its_claim_is_read() {
        let inbox = Inbox::default();
        let mut all = vec![wanted(0), wanted(1)];
        (0..9).for_each(|offset| read(&mut all, &inbox, 0, Some(offset)));
        (0..2).for_each(|offset| read(&mut all, &inbox, 1, Some(offset)));
        bound(&mut all, 5);
        read(&mut all, &inbox, 0, None);
        assert_eq!(all.len(), 1);
        read(&mut all, &inbox, 1, None);
        let loaded: Vec<_> = inbox
            .take_letters()
            .into_iter()
            .map(|letter| match letter {
                Letter::Marks(Loaded { slot, window, forgotten, .. }) => {
                    (slot, window.len(), forgotten, window.of(Keys::of("k").digest("0")).is_some())
                }
                _ => unreachable!("no run ended"),
            })
            .collect();
        assert_eq!(loaded, [(0, 3, 6, false), (1, 2, 0, true)]);
    }
}
