//! Waking queues that wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What wakes each queue, by its name.
#[derive(Debug, Default)]
pub struct Wakes {
    queues: Mutex<HashMap<String, Arc<Notify>>>,
    listening: AtomicBool,
}

impl Wakes {
    /// What wakes the queue of this name.
    pub fn of(&self, queue: &str) -> Arc<Notify> {
        Arc::clone(self.queues.lock().entry(queue.to_owned()).or_default())
    }

    /// Wakes one queue.
    pub fn one(&self, queue: &str) {
        if let Some(wake) = self.queues.lock().get(queue) {
            wake.notify_one();
        }
    }

    /// Wakes all.
    pub fn all(&self) {
        self.queues.lock().values().for_each(|wake| wake.notify_one());
    }

    /// Whether notifications come.
    pub fn listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }

    pub(super) fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Relaxed);
    }
}
