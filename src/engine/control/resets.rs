//! Letting a stage go on elsewhere while engines run it: said in the control topic, done by the engine that
//! reads the partition, and answered there.
//!
//! It is meant for the engines that run when it is said, and for a short while: it bears when it expires,
//! and whoever said it takes it back with its answers when nobody waits for them any more.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::pauses::{understood, versioned};
use super::topic::{ControlError, Writer, entry, topic};
use crate::base::now_millis;
use crate::broker::{ClientSettings, Consumer, Polled, StartAt, TopicPartition};
use crate::engine::scan;
use crate::events::{Reset, WasReset};

pub(super) const RESET: &str = "reset/";
const DONE: &str = "reset-done/";
/// How long engines have to do it.
const WAIT: Duration = Duration::from_secs(10);
/// How long one look for answers waits.
const LOOK: Duration = Duration::from_millis(200);
const ANSWER: Duration = Duration::from_secs(10);

/// One partition, and where it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    topic: String,
    partition: i32,
    offset: i64,
}

#[derive(Serialize, Deserialize)]
struct Said {
    stage: String,
    by: String,
    /// In milliseconds since the Unix epoch, as are all times here.
    at: i64,
    expires: i64,
    to: Vec<Place>,
}

/// What an engine did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The topic's physical name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where it would have gone on; `None`: nothing of it was read yet.
    pub from: Option<i64>,
    /// Where it goes on.
    pub to: i64,
    /// The engine.
    pub engine: String,
}

/// Of an entry, the stage and what it is to do; `None` where it is not understood or has expired.
pub(super) fn read(key: &str, value: &Json, answers: &Sender<WasReset>) -> Option<(String, Reset)> {
    let id = key.strip_prefix(RESET)?;
    let said: Said = understood(value).filter(|said: &Said| said.expires > now_millis())?;
    let to = said.to.into_iter();
    let to = to.map(|place| (TopicPartition::new(place.topic, place.partition), place.offset)).collect();
    Some((said.stage, Reset { id: Arc::from(id), to, answers: answers.clone() }))
}

/// Writes down what this engine did.
pub(super) fn answer(writer: &Writer, engine: &str, done: &WasReset) -> Result<(), ControlError> {
    let WasReset { id, partition: TopicPartition { topic, partition }, from, to } = done;
    let entry = Done {
        topic: topic.to_string(),
        partition: *partition,
        from: *from,
        to: *to,
        engine: engine.to_owned(),
    };
    writer.put(&format!("{DONE}{id}/{topic}/{partition}"), Some(&versioned(&entry)))?;
    writer.flush()
}

/// Lets the engines that run `stage` go on at these offsets, and waits for them, at most 10 s; what they
/// did. Afterwards it is taken back: nobody does the rest any more.
///
/// # Errors
/// Where the control topic cannot be written or read.
pub fn reset(
    client: &ClientSettings,
    namespace: &str,
    stage: &str,
    by: &str,
    to: &[(TopicPartition, i64)],
) -> Result<Vec<Done>, ControlError> {
    let writer = Writer::open(client, namespace)?;
    let control = TopicPartition::new(topic(namespace), 0);
    let follower = scan::looker(client, &control.topic)?;
    let (_, end) = follower.watermarks(&control, ANSWER)?;
    follower.assign(&[(control, StartAt::Offset(end))])?;
    let id = uuid::Uuid::now_v7().to_string();
    let place = |(name, offset): &(TopicPartition, i64)| Place {
        topic: name.topic.to_string(),
        partition: name.partition,
        offset: *offset,
    };
    let at = now_millis();
    let said = Said {
        stage: stage.to_owned(),
        by: by.to_owned(),
        at,
        expires: at.saturating_add(WAIT.as_millis() as i64),
        to: to.iter().map(place).collect(),
    };
    let key = format!("{RESET}{id}");
    writer.put(&key, Some(&versioned(&said)))?;
    writer.flush()?;
    let done = listen(&follower, &format!("{DONE}{id}/"), to.len());
    writer.put(&key, None)?;
    for Done { topic, partition, .. } in &done {
        writer.put(&format!("{DONE}{id}/{topic}/{partition}"), None)?;
    }
    writer.flush()?;
    Ok(done)
}

fn listen(follower: &Consumer, prefix: &str, wanted: usize) -> Vec<Done> {
    let until = Instant::now() + WAIT;
    let mut done: Vec<Done> = Vec::new();
    while done.len() < wanted && Instant::now() < until {
        let Polled::Record(fetched) = follower.poll(LOOK) else { continue };
        let raw = fetched.raw();
        let Some((key, Some(value))) = entry(&raw) else { continue };
        if let Some(found) = understood::<Done>(&value).filter(|_| key.starts_with(prefix))
            && !done.iter().any(|known| known.topic == found.topic && known.partition == found.partition)
        {
            done.push(found);
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_expired_or_is_not_understood_is_not_done() {
        let (answers, _) = std::sync::mpsc::channel();
        let now = now_millis();
        let said = |version: u32, expires: i64| {
            let to = json!([{ "topic": "t", "partition": 2, "offset": 7 }]);
            json!({ "version": version, "stage": "s", "by": "me", "at": now, "expires": expires, "to": to })
        };
        let (stage, reset) = read("reset/a", &said(1, now + 60_000), &answers).expect("in time");
        assert_eq!((&*stage, &*reset.id, reset.to), ("s", "a", vec![(TopicPartition::new("t", 2), 7)]));
        for (key, value) in [
            ("reset/a", said(1, now - 1)),
            ("reset/a", said(2, now + 60_000)),
            ("reset/a", json!({ "version": 1 })),
            ("reset-done/a", said(1, now + 60_000)),
        ] {
            assert!(read(key, &value, &answers).is_none(), "{key}: {value}");
        }
    }
}
