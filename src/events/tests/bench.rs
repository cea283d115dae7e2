//! A runner that no thread runs: a test tells it of rebalances, records and time, over a delivery that
//! answers as the test says.

use std::collections::HashMap;

use super::*;
use crate::broker::{BrokerError, Commit, Rebalance};
use crate::events::delivery::{Answer, Begin, Delivery, Standing};
use crate::events::inbox::Inbox;
use crate::events::inflight::EntryId;
use crate::events::metadata::Beyond;
use crate::events::program::Program;
use crate::events::runner::Runner;
use crate::events::sources::Sources;
use crate::events::status::Shared;
use crate::record::RawRecord;

pub(super) const DRAIN: Duration = Duration::from_secs(3);

/// What a scripted delivery answers, and what it was told.
#[derive(Default)]
pub(super) struct Book {
    /// Nobody answers.
    pub(super) away: bool,
    /// What the group has committed.
    pub(super) committed: HashMap<TopicPartition, i64>,
    /// How often it was asked where partitions start.
    pub(super) looked_up: usize,
    /// How many epochs were given up.
    pub(super) aborts: usize,
    /// The sends, in their order.
    pub(super) sent: Vec<EntryId>,
}

impl Book {
    fn answer<T>(&self, answer: T) -> Result<T, BrokerError> {
        if self.away { Err(BrokerError::Unreachable("nobody there".to_owned())) } else { Ok(answer) }
    }

    fn close(&mut self, commits: &[Commit]) -> Result<Vec<TopicPartition>, BrokerError> {
        self.answer(())?;
        self.committed.extend(commits.iter().map(|commit| (commit.partition.clone(), commit.offset)));
        Ok(commits.iter().map(|commit| commit.partition.clone()).collect())
    }
}

#[derive(Default)]
struct Told {
    book: Arc<Mutex<Book>>,
    answers: Vec<Answer>,
}

impl Delivery for Told {
    fn starts(
        &mut self,
        partitions: &[TopicPartition],
        deadline: Instant,
    ) -> Result<Vec<Begin>, BrokerError> {
        let mut book = self.book.lock();
        book.looked_up += 1;
        assert!(deadline <= Instant::now() + DRAIN, "a look-up may take {:?}", deadline - Instant::now());
        let begin = |partition: &TopicPartition| Begin {
            partition: partition.clone(),
            at: StartAt::Offset(book.committed.get(partition).copied().unwrap_or_default()),
            committed: book.committed.get(partition).copied(),
            inherited: false,
            beyond: Beyond::default(),
        };
        book.answer(partitions.iter().map(begin).collect())
    }

    fn produce(&mut self, _: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        self.book.lock().sent.push(EntryId::from_token(token));
        Ok(())
    }

    fn produce_alone(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        self.produce(outgoing, token)
    }

    fn close_later(&mut self, commits: &[Commit], number: u64) -> Result<(), BrokerError> {
        let answer = self.book.lock().close(commits);
        self.answers.push((number, answer));
        Ok(())
    }

    fn close_now(&mut self, commits: &[Commit], _: Duration) -> Result<(), BrokerError> {
        self.book.lock().close(commits).map(|_| ())
    }

    fn take_closed(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    fn rejoin(&mut self, _: Arc<Consumer>) {}

    fn abort(&mut self) -> Result<Standing, BrokerError> {
        self.book.lock().aborts += 1;
        Ok(Standing::Acknowledged)
    }
}

/// A runner that no thread runs, and its world.
pub(super) struct Bench {
    pub(super) runner: Runner,
    pub(super) book: Arc<Mutex<Book>>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) shared: Arc<Shared>,
    _world: World,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_, _| Ok(()))
    }

    /// With a step of its own.
    pub(super) fn with(script: Script) -> Self {
        let world = World::new(script);
        let runtime = world.stage_runtime();
        let stage = Arc::new(Stage { drain: DRAIN, ..stage(&world.step) });
        let program = Arc::new(Program::open(Arc::clone(&stage), "g", &runtime.ports).unwrap());
        let shared = Arc::new(Shared::new("s", runtime.telemetry.stage("s")));
        // A member of no group: the rebalances are made up here.
        let open = {
            let client = runtime.client.clone();
            move |_| Consumer::open(&client, ConsumerOptions::new("t.s", Vec::new()), || {})
        };
        let told = Told::default();
        let book = Arc::clone(&told.book);
        let consumer = Arc::new(open(Vec::new()).unwrap());
        let runner = Runner::new(
            program,
            consumer,
            (Box::new(open), Sources::new("t", &stage)),
            Box::new(told),
            Arc::new(Inbox::default()),
            Arc::clone(&shared),
            &runtime,
        );
        Self { runner, book, telemetry: Arc::clone(&runtime.telemetry), shared, _world: world }
    }

    pub(super) fn assign(&mut self, partitions: &[i32]) {
        self.runner.rebalance(Rebalance::Assigned(partitions.iter().map(|number| name(*number)).collect()));
    }

    pub(super) fn revoke(&mut self, lost: bool) {
        let partitions = (0..PARTITIONS).map(|number| name(number as i32)).collect();
        self.runner.rebalance(Rebalance::Revoked { partitions, lost });
    }

    /// A record comes, and its output is sent.
    pub(super) fn read(&mut self, partition: i32, offset: i64) -> EntryId {
        self.runner.accept(RawRecord {
            topic: "in",
            partition,
            offset,
            timestamp: None,
            log_append: false,
            key: Some(b"k"),
            value: Some(b"\"w\""),
            headers: &(),
        });
        *self.book.lock().sent.last().unwrap()
    }

    /// Time passes, and the runner does what is due.
    pub(super) fn pass(&mut self, time: Duration) {
        self.runner.now += time;
        self.runner.keep_pace();
    }

    /// Whether the group has its answer: nothing is handed over any more.
    pub(super) fn handed_over(&self) -> bool {
        self.runner.hand_over_by.is_none()
    }

    pub(super) fn committed(&self, partition: i32) -> Option<i64> {
        self.book.lock().committed.get(&name(partition)).copied()
    }

    pub(super) fn next(&self, partition: i32) -> Option<i64> {
        let slot = self.runner.partitions.find("in", partition)?;
        self.runner.partitions.get(slot)?.next()
    }

    /// Another member commits.
    pub(super) fn commit_elsewhere(&self, partition: i32, offset: i64) {
        self.book.lock().committed.insert(name(partition), offset);
    }

    pub(super) fn repeated(&self) -> String {
        let text = self.telemetry.render();
        let line = text.lines().find(|line| line.starts_with("biplane_stage_records_repeated_total"));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
    }
}

pub(super) fn name(partition: i32) -> TopicPartition {
    TopicPartition::new("in", partition)
}
