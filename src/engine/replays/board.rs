//! What the control topic holds of replays: what each is, which command works on it, how it ended, and
//! which dead letters it has settled.
//!
//! An entry is written by one party and never changed by another: the replay itself by who starts it, its
//! holder by each command that works on it, its end by whoever ends it. The newest holder counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::spec::{End, Holder, Outcome, Spec};
use super::{Known, ReplayError};
use crate::base::now_millis;
use crate::broker::{ClientSettings, Consumer, Polled, StartAt, TopicPartition};
use crate::engine::control::{self, SettledState, SettledWriter, Writer};
use crate::engine::scan;

const KIND: &str = "replay/";
/// The kinds of entries below `replay/<id>`.
const HOLDER: &str = "/holder";
const END: &str = "/end";
/// How many replays that have ended are remembered.
const REMEMBERED: usize = 200;

/// Why a run goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Somebody cancelled the replay.
    Cancelled {
        /// Who.
        by: String,
    },
    /// Another command works on it.
    TakenOver {
        /// Who started that.
        by: String,
    },
}

/// All replays by id.
pub(super) fn all(client: &ClientSettings, namespace: &str) -> Result<BTreeMap<String, Known>, ReplayError> {
    let entries = control::read(client, namespace, KIND)?;
    let mut all = BTreeMap::new();
    for (key, entry) in &entries {
        let id = &key[KIND.len()..];
        // One that another version of Biplane wrote in another way is not this one's to judge.
        let Some(spec) = read::<Spec>(entry).filter(|spec| spec.id == id) else { continue };
        let of = |kind: &str| entries.get(&format!("{key}{kind}"));
        let (holder, end) = (of(HOLDER).and_then(read), of(END).and_then(read));
        all.insert(id.to_owned(), Known { spec, holder, end });
    }
    Ok(all)
}

/// Writes down how a replay ended.
pub(super) fn end(client: &ClientSettings, namespace: &str, id: &str, end: &End) -> Result<(), ReplayError> {
    end_through(&Writer::open(client, namespace)?, id, end)
}

/// As [`end`], with a writer that is open already.
pub(super) fn end_through(writer: &Writer, id: &str, end: &End) -> Result<(), ReplayError> {
    put(writer, id, END, end)?;
    Ok(writer.flush()?)
}

fn read<T: DeserializeOwned>(entry: &Json) -> Option<T> {
    T::deserialize(entry).ok()
}

fn put(writer: &Writer, id: &str, kind: &str, entry: &impl Serialize) -> Result<(), ReplayError> {
    let entry = serde_json::to_value(entry)
        .map_err(|error| ReplayError::Entry { id: id.to_owned(), why: error.to_string() })?;
    Ok(writer.put(&format!("{KIND}{id}{kind}"), Some(&entry))?)
}

/// Replays that have ended, but for the newest, are forgotten.
fn forget_old(client: &ClientSettings, namespace: &str, writer: &Writer) -> Result<(), ReplayError> {
    let ended: Vec<_> = all(client, namespace)?.into_values().filter(|known| known.end.is_some()).collect();
    for known in ended.iter().take(ended.len().saturating_sub(REMEMBERED)) {
        for kind in ["", HOLDER, END] {
            writer.put(&format!("{KIND}{}{kind}", known.spec.id), None)?;
        }
    }
    Ok(())
}

/// One run's access to the control topic.
pub(super) struct Board {
    id: String,
    topic: String,
    token: String,
    /// Whether the run's own entry was read: what comes behind it was written later.
    held: bool,
    follower: Consumer,
    writer: Arc<Writer>,
    settled: SettledWriter,
}

impl Board {
    /// Says that this command works on the replay from now on; `new` writes down what it is, too.
    pub(super) fn begin(
        client: &ClientSettings,
        namespace: &str,
        spec: &Spec,
        new: bool,
    ) -> Result<Self, ReplayError> {
        let writer = Arc::new(Writer::open(client, namespace)?);
        let control = TopicPartition::new(control::topic(namespace), 0);
        let follower = scan::looker(client, &control.topic)?;
        let (_, end) = follower.watermarks(&control, scan::ANSWER)?;
        follower.assign(&[(control, StartAt::Offset(end))])?;
        let token = uuid::Uuid::now_v7().to_string();
        let holder = Holder { token: token.clone(), by: spec.by.clone(), at: now_millis() };
        if new {
            forget_old(client, namespace, &writer)?;
            put(&writer, &spec.id, "", spec)?;
        }
        put(&writer, &spec.id, HOLDER, &holder)?;
        writer.flush()?;
        let settled = SettledWriter::new(client, namespace, SettledState::Replayed, &spec.by);
        let settled = settled.through(Arc::clone(&writer));
        let (id, topic) = (spec.id.clone(), spec.topic.clone());
        Ok(Self { id, topic, token, held: false, follower, writer, settled })
    }

    /// What writes to the control topic during the run.
    pub(super) fn writer(&self) -> Arc<Writer> {
        Arc::clone(&self.writer)
    }

    /// A dead letter was sent and acknowledged.
    pub(super) fn mark(&mut self, partition: i32, offset: i64) {
        self.settled.add(&self.topic, partition, offset);
    }

    /// Writes the marks down that are not yet.
    pub(super) fn flush(&mut self) -> Result<(), ReplayError> {
        Ok(self.settled.flush()?)
    }

    /// Whether the run must stop, as far as the control topic says by now.
    pub(super) fn orders(&mut self) -> Option<Stop> {
        let (holder, end) = (format!("{KIND}{}{HOLDER}", self.id), format!("{KIND}{}{END}", self.id));
        while let Polled::Record(fetched) = self.follower.poll(Duration::ZERO) {
            let raw = fetched.raw();
            let (Some(key), Some(value)) = (raw.key, raw.value) else { continue };
            if key == holder.as_bytes()
                && let Ok(found) = serde_json::from_slice::<Holder>(value)
            {
                if found.token == self.token {
                    self.held = true;
                } else if self.held {
                    return Some(Stop::TakenOver { by: found.by });
                }
            } else if key == end.as_bytes()
                && let Ok(End { outcome: Outcome::Cancelled, by, .. }) = serde_json::from_slice(value)
            {
                return Some(Stop::Cancelled { by });
            }
        }
        None
    }
}
