//! A runner told of rebalances by hand, over a delivery that answers as it is told: what it commits,
//! keeps and gives up, and what it says of itself.

use std::collections::HashMap;

use super::*;
use crate::broker::{BrokerError, Commit, Rebalance};
use crate::events::delivery::{Answer, Begin, Delivery};
use crate::events::inbox::Inbox;
use crate::events::inflight::EntryId;
use crate::events::metadata::Beyond;
use crate::events::program::Program;
use crate::events::runner::Runner;
use crate::events::status::Shared;
use crate::record::RawRecord;

const DRAIN: Duration = Duration::from_secs(3);

/// What a scripted delivery answers, and what it was told.
#[derive(Default)]
struct Book {
    /// Nobody answers.
    away: bool,
    /// What the group has committed.
    committed: HashMap<TopicPartition, i64>,
    /// How often it was asked where partitions start.
    looked_up: usize,
    /// The sends, in their order.
    sent: Vec<EntryId>,
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

    fn abort(&mut self) -> Result<(), BrokerError> {
        Ok(())
    }
}

/// A runner that no thread runs, and its world.
struct Bench {
    runner: Runner,
    book: Arc<Mutex<Book>>,
    telemetry: Arc<Telemetry>,
    _world: World,
}

impl Bench {
    fn new() -> Self {
        let world = World::new(|_, _| Ok(()));
        let runtime = world.stage_runtime();
        let stage = Arc::new(Stage { drain: DRAIN, ..stage(&world.step) });
        let program = Arc::new(Program::open(Arc::clone(&stage), "g", &runtime.ports).unwrap());
        let shared = Arc::new(Shared::new("s", runtime.telemetry.stage("s")));
        // A member of no group: the rebalances are made up here.
        let open = {
            let client = runtime.client.clone();
            move || Consumer::open(&client, ConsumerOptions::new("t.s", Vec::new()), || {})
        };
        let told = Told::default();
        let book = Arc::clone(&told.book);
        let consumer = Arc::new(open().unwrap());
        let runner = Runner::new(
            program,
            consumer,
            Box::new(open),
            Box::new(told),
            Arc::new(Inbox::default()),
            shared,
            &runtime,
        );
        Self { runner, book, telemetry: Arc::clone(&runtime.telemetry), _world: world }
    }

    fn assign(&mut self, partitions: &[i32]) {
        self.runner.rebalance(Rebalance::Assigned(partitions.iter().map(|number| name(*number)).collect()));
    }

    fn revoke(&mut self, lost: bool) {
        let partitions = (0..PARTITIONS).map(|number| name(number as i32)).collect();
        self.runner.rebalance(Rebalance::Revoked { partitions, lost });
    }

    /// A record comes, and its output is sent.
    fn read(&mut self, partition: i32, offset: i64) -> EntryId {
        self.runner.accept(RawRecord {
            topic: "in",
            partition,
            offset,
            timestamp: None,
            key: Some(b"k"),
            value: Some(b"\"w\""),
            headers: &(),
        });
        *self.book.lock().sent.last().unwrap()
    }

    /// Time passes, and the runner does what is due.
    fn pass(&mut self, time: Duration) {
        self.runner.now += time;
        self.runner.keep_pace();
    }

    /// Whether the group has its answer: nothing is handed over any more.
    fn handed_over(&self) -> bool {
        self.runner.hand_over_by.is_none()
    }

    fn committed(&self, partition: i32) -> Option<i64> {
        self.book.lock().committed.get(&name(partition)).copied()
    }

    fn next(&self, partition: i32) -> Option<i64> {
        let slot = self.runner.partitions.find("in", partition)?;
        self.runner.partitions.get(slot)?.next()
    }

    /// Another member commits.
    fn commit_elsewhere(&self, partition: i32, offset: i64) {
        self.book.lock().committed.insert(name(partition), offset);
    }

    fn repeated(&self) -> String {
        let text = self.telemetry.render();
        let line = text.lines().find(|line| line.starts_with("biplane_stage_records_repeated_total"));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
    }
}

fn name(partition: i32) -> TopicPartition {
    TopicPartition::new("in", partition)
}

#[test]
fn a_hand_over_waits_for_what_is_sent_and_commits_it() {
    let mut bench = Bench::new();
    bench.assign(&[0, 1]);
    let sent = [bench.read(0, 0), bench.read(0, 1), bench.read(1, 0)];
    bench.revoke(false);
    assert!(!bench.handed_over(), "three sends are unanswered");
    bench.read(0, 2);
    assert_eq!(bench.next(0), Some(2), "nothing new starts");
    for id in sent {
        bench.pass(Duration::from_millis(10));
        assert!(!bench.handed_over());
        bench.runner.acknowledged(id, Ok(()));
    }
    bench.pass(Duration::from_millis(10));
    assert!(bench.handed_over());
    assert_eq!((bench.committed(0), bench.committed(1)), (Some(2), Some(1)));
    bench.assign(&[1]);
    assert_eq!((bench.next(0), bench.next(1), bench.repeated().as_str()), (None, Some(1), "0"));
}

#[test]
fn a_hand_over_past_drain_goes_on_where_the_partition_comes_back_and_counts_what_it_gives_up() {
    let mut bench = Bench::new();
    bench.assign(&[0, 1]);
    let (_, kept) = (bench.read(0, 0), bench.read(1, 0));
    bench.read(0, 1);
    bench.revoke(false);
    bench.pass(DRAIN - Duration::from_millis(1));
    assert!(!bench.handed_over());
    bench.pass(Duration::from_millis(1));
    assert!(bench.handed_over(), "the group waits no longer than `drain`");
    bench.assign(&[1]);
    assert_eq!((bench.committed(0), bench.next(1), bench.repeated().as_str()), (Some(0), Some(1), "2"));
    bench.runner.acknowledged(kept, Ok(()));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.committed(1), Some(1), "what came back went on where it stood");
}

#[test]
fn a_loss_waits_for_nothing_and_commits_nothing() {
    let mut bench = Bench::new();
    bench.assign(&[0]);
    let id = bench.read(0, 0);
    bench.runner.acknowledged(id, Ok(()));
    bench.revoke(true);
    assert!(bench.handed_over() && bench.runner.partitions.is_empty());
    assert_eq!(bench.committed(0), None);
}

/// The partitions are another member's by the time the look-up would be repeated.
#[test]
fn an_assignment_that_could_not_begin_is_not_tried_again_once_it_is_taken_back() {
    for lost in [true, false] {
        let mut bench = Bench::new();
        bench.book.lock().away = true;
        bench.assign(&[0, 1]);
        bench.pass(Duration::from_secs(2));
        assert_eq!(bench.book.lock().looked_up, 2, "tried again as long as they are ours");
        bench.revoke(lost);
        bench.book.lock().away = false;
        bench.pass(Duration::from_secs(5));
        assert_eq!(bench.book.lock().looked_up, 2);
        assert!(bench.runner.partitions.is_empty());
    }
}

/// This member was silent while it joined, and both partitions were another's for a while.
#[test]
fn what_another_member_committed_meanwhile_is_not_taken_back() {
    let mut bench = Bench::new();
    bench.assign(&[0, 1]);
    let stale = [bench.read(0, 0), bench.read(1, 0)];
    bench.revoke(false);
    bench.pass(DRAIN);
    bench.commit_elsewhere(1, 40);
    bench.assign(&[0, 1]);
    assert_eq!((bench.next(0), bench.next(1)), (Some(1), Some(40)));
    for id in stale {
        bench.runner.acknowledged(id, Ok(()));
    }
    bench.pass(Duration::from_secs(1));
    assert_eq!((bench.committed(0), bench.committed(1)), (Some(1), Some(40)));
    bench.revoke(false);
    bench.commit_elsewhere(0, 0);
    bench.assign(&[0]);
    assert_eq!(bench.next(0), Some(0), "an offset that was set back counts too");
}

/// Whether a commit without an answer was carried out is not known: either way it was made here.
#[test]
fn a_commit_without_an_answer_does_not_give_up_what_comes_back() {
    for carried_out in [false, true] {
        let mut bench = Bench::new();
        bench.assign(&[0]);
        let (first, _) = (bench.read(0, 0), bench.read(0, 1));
        bench.runner.acknowledged(first, Ok(()));
        bench.book.lock().away = true;
        bench.revoke(false);
        bench.pass(DRAIN);
        bench.book.lock().away = false;
        if carried_out {
            bench.commit_elsewhere(0, 1);
        }
        bench.assign(&[0]);
        assert_eq!((bench.next(0), bench.repeated().as_str()), (Some(2), "0"));
    }
}
