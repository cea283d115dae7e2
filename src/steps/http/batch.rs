//! Records that share a request: who waits with whom, when their request goes, and who gets which
//! answer. Does not know what a request says or how an answer is taken apart.
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
use reqwest::Request;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::answer::Answer;
use crate::base::Failure;
use crate::telemetry::traces::Parent;

/// How much a batch takes, and how long it waits for more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// At least 1.
    pub(super) records: usize,
    /// Of the whole body, brackets and commas included.
    pub(super) bytes: usize,
    /// From the first record on.
    pub(super) linger: Duration,
}

/// What each record of a batch comes to, in the order of the body's list.
pub(super) type Outcomes = Vec<Result<Answer, Failure>>;

/// What a record adds to a request.
pub(super) struct Element {
    /// Its part of the body's list.
    pub(super) text: String,
    /// Its span, where spans are made.
    pub(super) parent: Option<Parent>,
}

/// A request under way.
pub(super) type Asking = Pin<Box<dyn Future<Output = Outcomes> + Send>>;

/// The batches of one step.
pub(super) struct Batches {
    limits: Limits,
    /// The newest batch by all that its request says before the body; each has a member.
    open: Mutex<HashMap<Vec<u8>, Arc<Batch>>>,
}

struct Batch {
    due: Instant,
    gathered: Mutex<Gathered>,
    /// Says that nothing more will come.
    closed: Notify,
    /// Whoever holds it drives the batch. An asynchronous lock: it is held while waiting, and handed on
    /// when its holder is dropped.
    drive: tokio::sync::Mutex<Drive>,
}

#[derive(Default)]
struct Gathered {
    elements: BTreeMap<usize, Element>,
    /// Of all elements, each with a comma.
    bytes: usize,
    closed: bool,
    next: usize,
    /// Those who have not left, whatever became of their elements.
    members: usize,
}

enum Drive {
    Gathering,
    Asking(Vec<usize>, Asking),
    Answered(HashMap<usize, Result<Answer, Failure>>),
}

/// A record's place in a batch. Leaving it takes the record out of a request that has not gone.
struct Seat<'a> {
    batches: &'a Batches,
    group: Vec<u8>,
    batch: Arc<Batch>,
    number: usize,
}

impl Batches {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: Mutex::default() }
    }

    /// What `element` is answered as one of the list that goes out with `head`. One member of each
    /// batch calls `send`, with the whole request, how many elements it carries, and the spans that those
    /// belong under, beginning with its own. Dropping the future
    /// leaves the others as they are.
    ///
    /// # Errors
    /// `batch-too-large` where the element alone is more than a body may hold, and what `send` gives.
    pub(super) async fn ask(
        &self,
        mut head: Request,
        element: Element,
        send: impl FnOnce(Request, usize, Vec<Parent>) -> Asking,
    ) -> Result<Answer, Failure> {
        let seat = self.join(&head, element)?;
        let mut drive = seat.batch.drive.lock().await;
        if let Drive::Gathering = *drive {
            seat.batch.full_or_due().await;
            let (seats, body, parents) = seat.batch.close(seat.number);
            *head.body_mut() = Some(body.into());
            let asking = send(head, seats.len(), parents);
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

    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.open.lock().len()
    }

    fn join(&self, head: &Request, mut element: Element) -> Result<Seat<'_>, Failure> {
        let (alone, most) = (element.text.len() + 2, self.limits.bytes);
        if alone > most {
            let message =
                format!("the record alone makes a body of {alone} bytes; `batch.bytes` is {most} bytes");
            return Err(Failure::permanent("batch-too-large", message));
        }
        let group = group(head);
        let mut open = self.open.lock();
        loop {
            let batch = open.entry(group.clone()).or_insert_with(|| Arc::new(Batch::new(self.limits.linger)));
            match batch.add(element, &self.limits) {
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

/// All that a request says before its body. Neither a URL nor a header has line breaks in it.
fn group(head: &Request) -> Vec<u8> {
    let mut group = head.url().as_str().as_bytes().to_vec();
    for (name, value) in head.headers() {
        group.push(b'\n');
        group.extend_from_slice(name.as_str().as_bytes());
        group.push(b':');
        group.extend_from_slice(value.as_bytes());
    }
    group
}

impl Batch {
    fn new(linger: Duration) -> Self {
        Self {
            due: Instant::now() + linger,
            gathered: Mutex::default(),
            closed: Notify::new(),
            drive: tokio::sync::Mutex::new(Drive::Gathering),
        }
    }

    /// Takes an element in and gives its place, or gives it back. What does not fit closes the batch,
    /// as does what fills it.
    fn add(&self, element: Element, limits: &Limits) -> Result<usize, Element> {
        let mut gathered = self.gathered.lock();
        let bytes = gathered.bytes + element.text.len() + 1;
        let fits = !gathered.closed && bytes < limits.bytes;
        let number = gathered.next;
        let result = if fits {
            gathered.bytes = bytes;
            gathered.next += 1;
            gathered.members += 1;
            gathered.elements.insert(number, element);
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

    /// Takes what has been gathered: the places in the order of the body, the body, and the spans of all,
    /// that of the place `first` before the others.
    fn close(&self, first: usize) -> (Vec<usize>, String, Vec<Parent>) {
        let mut gathered = self.gathered.lock();
        gathered.closed = true;
        let mut body = String::with_capacity(std::mem::take(&mut gathered.bytes) + 1);
        let mut seats = Vec::with_capacity(gathered.elements.len());
        let mut parents = Vec::new();
        for (number, element) in std::mem::take(&mut gathered.elements) {
            body.push(if seats.is_empty() { '[' } else { ',' });
            body.push_str(&element.text);
            let at = if number == first { 0 } else { parents.len() };
            element.parent.into_iter().for_each(|parent| parents.insert(at, parent));
            seats.push(number);
        }
        body.push(']');
        (seats, body, parents)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        // Joining happens under the same lock, so that nobody joins a batch that is cleared away.
        let mut open = self.batches.open.lock();
        let mut gathered = self.batch.gathered.lock();
        if let Some(element) = gathered.elements.remove(&self.number) {
            gathered.bytes -= element.text.len() + 1;
        }
        gathered.members -= 1;
        let mine = open.get(&self.group).is_some_and(|batch| Arc::ptr_eq(batch, &self.batch));
        if gathered.members == 0 && mine {
            open.remove(&self.group);
        }
    }
}
