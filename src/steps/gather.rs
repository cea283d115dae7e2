//! Records that share a request: who waits with whom, when their request goes, and who gets which
//! answer. Does not know what a request says, whom it goes to, or how an answer is taken apart.
//!
//! No task owns a batch: its members take turns at driving it, the first in line until it ends or is
//! dropped, then the next from where it stood. A batch lives in its members alone, so that there are
//! never more batches than records in the step, and none that nobody drives.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Gathering;
use crate::base::Failure;
use crate::spec::TableReader;

/// The most records of a batch.
const MAX_RECORDS: i64 = 10_000;
/// How large a batch may be where nothing is said.
const MAX_BYTES: usize = 1 << 20;

/// How records share a request, as it was said.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) gathering: Gathering,
    pub(super) max_bytes: usize,
}

impl Settings {
    /// Reads the keys that all such tables have.
    pub(super) fn read(table: &mut TableReader<'_>) -> Option<Self> {
        let records = table.required("records", |inner, key| inner.integer(key, 1..=MAX_RECORDS));
        let linger = table.required("linger", TableReader::duration);
        let max_bytes = table.size("bytes").map_or(MAX_BYTES, |size| size.value.as_usize());
        let records = records?.map(|records| usize::try_from(records).unwrap_or(usize::MAX));
        Some(Self { gathering: Gathering { records, linger: linger? }, max_bytes })
    }

    pub(super) fn limits(&self) -> Limits {
        let Gathering { records, linger } = &self.gathering;
        Limits { records: records.value, bytes: self.max_bytes, linger: linger.value }
    }
}

/// How much a batch takes, and how long it waits for more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// At least 1.
    pub(super) records: usize,
    /// Of all elements, each with one more to part it from the next, and one for the list.
    pub(super) bytes: usize,
    /// From the first record on.
    pub(super) linger: Duration,
}

/// What each record of a batch comes to, in the order of its elements.
pub(super) type Outcomes<A> = Vec<Result<A, Failure>>;

/// A request under way.
pub(super) type Asking<A> = Pin<Box<dyn Future<Output = Outcomes<A>> + Send>>;

/// The batches of one step: each record adds an `E` and gets an `A`.
pub(super) struct Batches<E, A> {
    limits: Limits,
    /// The newest batch of each group; each has a member.
    open: Mutex<Open<E, A>>,
}

type Open<E, A> = HashMap<Vec<u8>, Arc<Batch<E, A>>>;

struct Batch<E, A> {
    due: Instant,
    gathered: Mutex<Gathered<E>>,
    /// Says that nothing more will come.
    closed: Notify,
    /// Whoever holds it drives the batch. An asynchronous lock: it is held while waiting, and handed on
    /// when its holder is dropped.
    drive: tokio::sync::Mutex<Drive<A>>,
}

struct Gathered<E> {
    /// With their sizes.
    elements: BTreeMap<usize, (E, usize)>,
    /// Of all elements, each with one more.
    bytes: usize,
    closed: bool,
    next: usize,
    /// Those who have not left, whatever became of their elements.
    members: usize,
}

enum Drive<A> {
    Gathering,
    Asking(Vec<usize>, Asking<A>),
    Answered(HashMap<usize, Result<A, Failure>>),
}

/// A record's place in a batch. Leaving it takes the record out of a request that has not gone.
struct Seat<'a, E, A> {
    batches: &'a Batches<E, A>,
    group: Vec<u8>,
    batch: Arc<Batch<E, A>>,
    number: usize,
}

impl<E, A> Batches<E, A> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: Mutex::default() }
    }

    /// What `element`, of `size` bytes, is answered as one of the list that goes out for `group`. One member
    /// of each batch calls `send`, with all elements and the place of its own among them. Dropping the future
    /// leaves the others as they are.
    ///
    /// # Errors
    /// `batch-too-large` where the element alone is more than a batch may hold, and what `send` gives.
    pub(super) async fn ask(
        &self,
        group: Vec<u8>,
        (element, size): (E, usize),
        send: impl FnOnce(Vec<E>, usize) -> Asking<A>,
    ) -> Result<A, Failure> {
        let seat = self.join(group, element, size)?;
        let mut drive = seat.batch.drive.lock().await;
        if let Drive::Gathering = *drive {
            seat.batch.full_or_due().await;
            let (seats, elements) = seat.batch.close();
            let own = seats.iter().position(|number| *number == seat.number).unwrap_or_default();
            let asking = send(elements, own);
            *drive = Drive::Asking(seats, asking);
        }
        if let Drive::Asking(seats, asking) = &mut *drive {
            let outcomes = asking.await;
            *drive = Drive::Answered(std::mem::take(seats).into_iter().zip(outcomes).collect());
        }
        let outcome = match &mut *drive {
            Drive::Answered(outcomes) => outcomes.remove(&seat.number),
            Drive::Gathering | Drive::Asking(..) => None,
        };
        outcome.unwrap_or_else(|| Err(Failure::fatal("internal", "a batch ended without one of its records")))
    }

    fn join(&self, group: Vec<u8>, mut element: E, size: usize) -> Result<Seat<'_, E, A>, Failure> {
        let (alone, most) = (size + 2, self.limits.bytes);
        if alone > most {
            let message =
                format!("the record alone makes a batch of {alone} bytes; `batch.bytes` is {most} bytes");
            return Err(Failure::permanent("batch-too-large", message));
        }
        let mut open = self.open.lock();
        loop {
            let batch = open.entry(group.clone()).or_insert_with(|| Arc::new(Batch::new(self.limits.linger)));
            match batch.add(element, size, &self.limits) {
                Ok(number) => {
                    let batch = Arc::clone(batch);
                    return Ok(Seat { batches: self, group, batch, number });
                }
                Err(back) => element = back,
            }
            // It is on its way, and its members hold it; an empty one takes every element.
            open.remove(&group);
        }
    }
}

impl<E, A> Batch<E, A> {
    fn new(linger: Duration) -> Self {
        let gathered = Gathered { elements: BTreeMap::new(), bytes: 0, closed: false, next: 0, members: 0 };
        Self {
            due: Instant::now() + linger,
            gathered: Mutex::new(gathered),
            closed: Notify::new(),
            drive: tokio::sync::Mutex::new(Drive::Gathering),
        }
    }

    /// Takes an element in and gives its place, or gives it back. What does not fit closes the batch,
    /// as does what fills it.
    fn add(&self, element: E, size: usize, limits: &Limits) -> Result<usize, E> {
        let mut gathered = self.gathered.lock();
        let bytes = gathered.bytes + size + 1;
        let fits = !gathered.closed && bytes < limits.bytes;
        let number = gathered.next;
        let result = if fits {
            gathered.bytes = bytes;
            gathered.next += 1;
            gathered.members += 1;
            gathered.elements.insert(number, (element, size));
            Ok(number)
        } else {
            Err(element)
        };
        // The smallest element takes a byte and a comma.
        let full = gathered.elements.len() >= limits.records || gathered.bytes + 2 >= limits.bytes;
        if !fits || full {
            gathered.closed = true;
            self.closed.notify_one();
        }
        result
    }

    async fn full_or_due(&self) {
        if self.gathered.lock().closed {
            return;
        }
        tokio::select! {
            () = self.closed.notified() => {}
            () = tokio::time::sleep_until(self.due) => {}
        }
    }

    /// Takes what has been gathered: the places, and their elements.
    fn close(&self) -> (Vec<usize>, Vec<E>) {
        let mut gathered = self.gathered.lock();
        gathered.closed = true;
        gathered.bytes = 0;
        let elements = std::mem::take(&mut gathered.elements);
        elements.into_iter().map(|(number, (element, _))| (number, element)).unzip()
    }
}

impl<E, A> Drop for Seat<'_, E, A> {
    fn drop(&mut self) {
        // Joining happens under the same lock, so that nobody joins a batch that is cleared away.
        let mut open = self.batches.open.lock();
        let mut gathered = self.batch.gathered.lock();
        if let Some((_, size)) = gathered.elements.remove(&self.number) {
            gathered.bytes -= size + 1;
        }
        gathered.members -= 1;
        let mine = open.get(&self.group).is_some_and(|batch| Arc::ptr_eq(batch, &self.batch));
        if gathered.members == 0 && mine {
            open.remove(&self.group);
        }
    }
}

#[cfg(test)]
impl<E, A> Batches<E, A> {
    pub(super) fn open(&self) -> usize {
        self.open.lock().len()
    }
}
