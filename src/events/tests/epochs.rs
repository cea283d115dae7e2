//! An epoch of which nothing stands once it is given up, as a transaction has it: consumers see its
//! outputs when it closes, and not before.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::broker::{BrokerError, Commit};
use crate::events::delivery::{Answer, AtLeastOnce, Begin, Delivery, Standing};
use crate::events::stage::start_with;

/// Outputs are acknowledged by a topic that nobody reads, and go to their own when the epoch closes.
struct Whole {
    inner: AtLeastOnce,
    kept: Vec<Kept>,
    /// What it says to stand of an epoch that it gives up.
    standing: Standing,
    switches: Arc<Switches>,
}

#[derive(Default)]
struct Switches {
    /// No epoch closes.
    held: AtomicBool,
    /// The next send gives the epoch up.
    fatal: AtomicBool,
}

struct Kept {
    topic: String,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: OutHeaders,
}

/// A token that no record has.
const NOBODY: u64 = (1 << 48) - 1;

impl Whole {
    /// The outputs of the epoch become visible.
    fn publish(&mut self) -> Result<(), BrokerError> {
        if self.switches.held.load(Ordering::Acquire) {
            return Err(BrokerError::Unreachable("held".to_owned()));
        }
        for kept in self.kept.drain(..) {
            let outgoing = Outgoing {
                topic: &kept.topic,
                partition: None,
                key: kept.key.as_deref(),
                value: kept.value.as_deref(),
                timestamp: None,
                headers: kept.headers,
            };
            assert!(self.inner.produce(outgoing, NOBODY).is_ok());
        }
        Ok(())
    }
}

impl Delivery for Whole {
    fn starts(
        &mut self,
        partitions: &[TopicPartition],
        deadline: Instant,
    ) -> Result<Vec<Begin>, BrokerError> {
        self.inner.starts(partitions, deadline)
    }

    fn produce(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        if self.switches.fatal.swap(false, Ordering::AcqRel) {
            return Err((SendError::Fatal("fenced".to_owned()), outgoing.headers));
        }
        self.kept.push(Kept {
            topic: outgoing.topic.to_owned(),
            key: outgoing.key.map(<[u8]>::to_vec),
            value: outgoing.value.map(<[u8]>::to_vec),
            headers: outgoing.headers,
        });
        self.inner.produce(Outgoing { topic: "unseen", headers: OutHeaders::new(0), ..outgoing }, token)
    }

    fn produce_alone(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        self.produce(outgoing, token)
    }

    fn closes_whole(&self) -> bool {
        true
    }

    fn close_later(&mut self, commits: &[Commit], number: u64) -> Result<(), BrokerError> {
        self.publish()?;
        self.inner.close_later(commits, number)
    }

    fn close_now(&mut self, commits: &[Commit], limit: Duration) -> Result<(), BrokerError> {
        self.publish()?;
        self.inner.close_now(commits, limit)
    }

    fn take_closed(&mut self) -> Vec<Answer> {
        self.inner.take_closed()
    }

    fn rejoin(&mut self, consumer: Arc<Consumer>) {
        self.inner.rejoin(consumer);
    }

    fn abort(&mut self) -> Result<Standing, BrokerError> {
        self.switches.held.store(false, Ordering::Release);
        self.kept.clear();
        self.inner.abort()?;
        Ok(self.standing)
    }
}

/// How many of 300 records come out where an epoch is given up in which 100 were acknowledged, or 200 if
/// it is the first one, and whether each key's are in order.
fn come_out(standing: Standing, first: bool, limit: Duration) -> (usize, bool) {
    let world = World::new(|_, _| Ok(()));
    world.kafka.create_topic("unseen", PARTITIONS).unwrap();
    let switches = Arc::new(Switches::default());
    switches.held.store(first, Ordering::Release);
    let turned = Arc::clone(&switches);
    let handle = start_with(Arc::new(stage(&world.step)), &world.stage_runtime(), move |inner| {
        Box::new(Whole { inner, kept: Vec::new(), standing, switches: turned })
    });
    let handle = handle.unwrap();
    let sent = words(300, 11);
    world.produce(&borrowed(&sent[..100]));
    if !first {
        world.read("out", 100);
    }
    switches.held.store(true, Ordering::Release);
    world.produce(&borrowed(&sent[100..200]));
    let deadline = Instant::now() + PATIENCE;
    while handle.status().counts.records_out < 200 {
        assert!(Instant::now() < deadline, "{:?}", handle.status());
        std::thread::park_timeout(Duration::from_millis(5));
    }
    switches.fatal.store(true, Ordering::Release);
    world.produce(&borrowed(&sent[200..]));
    let distinct =
        |got: &[Got]| got.iter().map(|record| &record.value).collect::<std::collections::HashSet<_>>().len();
    let deadline = Instant::now() + limit;
    let got = world.read_until("out", |got| distinct(got) == 300 || Instant::now() > deadline);
    stop(&handle);
    assert!(!switches.fatal.load(Ordering::Acquire));
    let ordered = by_key(&got).into_iter().all(|(key, values)| {
        let mine = sent.iter().filter(|(sent, _)| *sent == key).map(|(_, value)| value.clone());
        values == mine.collect::<Vec<_>>()
    });
    (distinct(&got), ordered)
}

#[test]
fn what_was_acknowledged_in_an_epoch_that_is_given_up_is_done_again() {
    assert_eq!(come_out(Standing::Nothing, false, PATIENCE), (300, true));
    assert_eq!(come_out(Standing::Nothing, true, PATIENCE), (300, true));
}

/// The check above bites: where it is taken for standing, it is lost.
#[test]
fn what_was_acknowledged_is_lost_where_it_is_wrongly_taken_for_standing() {
    assert!(come_out(Standing::Acknowledged, false, Duration::from_secs(8)).0 < 300);
}
