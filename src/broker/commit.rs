//! Offsets on their way to the group and back, with their metadata.
//!
//! The client tells the outcome of a commit only to a caller that waits for it, so each consumer has a
//! thread that waits. It carries out commits in the order in which they were asked for; those that
//! nobody waits for are merged while it is busy, so its queue is bounded by the partitions.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use indexmap::IndexMap;
use parking_lot::{Condvar, Mutex};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::consumer::TopicPartition;
use super::error::BrokerError;

/// What is to be committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// Text that is kept beside it; the broker takes 4,096 bytes unless set otherwise.
    pub metadata: String,
}

/// What a group has committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset to read; `None` if the group never committed, or the commit has expired.
    pub offset: Option<i64>,
    /// The text beside it; empty where it is not UTF-8.
    pub metadata: String,
}

/// What became of one commit: its number, and the partitions that were committed or why none was.
pub(super) type Outcome = (u64, Result<Vec<TopicPartition>, BrokerError>);

/// The thread that commits for one consumer.
pub(super) struct Committer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    outcomes: VecDeque<Outcome>,
    stopped: bool,
}

enum Request {
    Later(u64, IndexMap<TopicPartition, Commit>),
    Now(Vec<Commit>, mpsc::SyncSender<Result<(), BrokerError>>),
}

/// Outcomes that nobody took; past it the oldest go.
const MAX_OUTCOMES: usize = 1_024;

impl Committer {
    /// Starts the thread. `commit` waits for the group's answer; `wake` is called when there is an
    /// outcome to take.
    pub(super) fn start(
        commit: impl Fn(&TopicPartitionList) -> Result<(), BrokerError> + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Self, BrokerError> {
        let queue = Arc::new(Queue::default());
        let served = Arc::clone(&queue);
        let thread = thread::Builder::new()
            .name("kafka-commit".to_owned())
            .spawn(move || {
                while let Some(request) = served.next() {
                    served.serve(request, &commit, &wake);
                }
            })
            .map_err(|error| BrokerError::Settings(error.to_string()))?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Asks for a commit whose outcome is taken later, under the newest number it was merged with.
    pub(super) fn later(&self, commits: &[Commit], number: u64) {
        let mut state = self.queue.state.lock();
        if !matches!(state.requests.back(), Some(Request::Later(..))) {
            state.requests.push_back(Request::Later(number, IndexMap::new()));
        }
        if let Some(Request::Later(newest, merged)) = state.requests.back_mut() {
            *newest = number;
            merged.extend(commits.iter().map(|commit| (commit.partition.clone(), commit.clone())));
        }
        drop(state);
        self.queue.changed.notify_one();
    }

    /// Asks for a commit; the answer comes through what is returned.
    pub(super) fn now(&self, commits: &[Commit]) -> mpsc::Receiver<Result<(), BrokerError>> {
        let (done, answer) = mpsc::sync_channel(1);
        self.queue.state.lock().requests.push_back(Request::Now(commits.to_vec(), done));
        self.queue.changed.notify_one();
        answer
    }

    /// The outcomes since the last call, oldest first.
    pub(super) fn take(&self) -> Vec<Outcome> {
        self.queue.state.lock().outcomes.drain(..).collect()
    }

    /// Forgets the requests that were not begun.
    pub(super) fn forget(&self) {
        self.queue.state.lock().requests.clear();
    }

    /// Takes no more requests and forgets those that were not started.
    pub(super) fn stop(&self) {
        let mut state = self.queue.state.lock();
        state.stopped = true;
        state.requests.clear();
        drop(state);
        self.queue.changed.notify_one();
    }

    /// Waits for the request under way, if there is one.
    pub(super) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn next(&self) -> Option<Request> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(request) = state.requests.pop_front() {
                return Some(request);
            }
            self.changed.wait(&mut state);
        }
    }

    fn serve(
        &self,
        request: Request,
        commit: &impl Fn(&TopicPartitionList) -> Result<(), BrokerError>,
        wake: &impl Fn(),
    ) {
        match request {
            Request::Now(commits, done) => {
                let _ = done.send(to_client(&commits).and_then(|list| commit(&list)));
            }
            Request::Later(number, commits) => {
                let (partitions, commits): (Vec<_>, Vec<_>) = commits.into_iter().unzip();
                let outcome = to_client(&commits).and_then(|list| commit(&list)).map(|()| partitions);
                let mut state = self.state.lock();
                if state.outcomes.len() == MAX_OUTCOMES {
                    state.outcomes.pop_front();
                }
                state.outcomes.push_back((number, outcome));
                drop(state);
                wake();
            }
        }
    }
}

pub(super) fn to_client(commits: &[Commit]) -> Result<TopicPartitionList, BrokerError> {
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for commit in commits {
        let mut element = list.add_partition(&commit.partition.topic, commit.partition.partition);
        element
            .set_offset(Offset::Offset(commit.offset))
            .map_err(|error| BrokerError::from_client("commit", &error))?;
        if !commit.metadata.is_empty() {
            element.set_metadata(&commit.metadata);
        }
    }
    Ok(list)
}

pub(super) fn committed(list: &TopicPartitionList) -> Result<Vec<Committed>, BrokerError> {
    list.elements()
        .iter()
        .map(|element| {
            element.error().map_err(|error| BrokerError::from_client("committed offsets", &error))?;
            Ok(Committed {
                partition: TopicPartition::new(element.topic(), element.partition()),
                offset: match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                },
                metadata: metadata(element),
            })
        })
        .collect()
}

/// The client library panics on metadata that is not UTF-8, which other tools may have written.
fn metadata(element: &TopicPartitionListElem<'_>) -> String {
    catch_unwind(AssertUnwindSafe(|| element.metadata().to_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(partition: i32, offset: i64) -> Commit {
        Commit { partition: TopicPartition::new("t", partition), offset, metadata: String::new() }
    }

    fn offsets(list: &TopicPartitionList) -> Vec<(i32, Offset)> {
        list.elements().iter().map(|element| (element.partition(), element.offset())).collect()
    }

    #[test]
    fn commits_that_wait_are_merged_to_the_newest_and_never_overtake_one_another() {
        let (started, starts) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let mut committer = Committer::start(
            move |list| {
                let _ = started.send(offsets(list));
                let _ = gate.recv();
                Ok(())
            },
            || {},
        )
        .expect("started");
        committer.later(&[commit(0, 1)], 1);
        assert_eq!(starts.recv(), Ok(vec![(0, Offset::Offset(1))]));
        committer.later(&[commit(0, 2), commit(1, 5)], 2);
        committer.later(&[commit(0, 3)], 3);
        let answer = committer.now(&[commit(0, 4)]);
        committer.later(&[commit(0, 6)], 5);
        for expected in [
            vec![(0, Offset::Offset(3)), (1, Offset::Offset(5))],
            vec![(0, Offset::Offset(4))],
            vec![(0, Offset::Offset(6))],
        ] {
            go.send(()).expect("served");
            assert_eq!(starts.recv(), Ok(expected));
        }
        assert_eq!(answer.recv(), Ok(Ok(())));
        committer.later(&[commit(0, 7)], 6);
        let late = committer.now(&[commit(0, 8)]);
        committer.forget();
        assert!(late.recv().is_err(), "what was not begun is forgotten");
        committer.stop();
        go.send(()).expect("served");
        committer.join();
        let taken = committer
            .take()
            .into_iter()
            .map(|(number, outcome)| (number, outcome.map_or(0, |all| all.len())));
        assert_eq!(taken.collect::<Vec<_>>(), [(1, 1), (3, 2), (5, 1)]);
    }
}
