//! How large a batch a topic takes where the files do not say: asked of the brokers before the engine
//! writes to it.
//!
//! Brokers that do not answer or may not be asked leave it open; then the first batch that is refused
//! shows it, at the price of sending its records once more, one by one.

use std::time::{Duration, Instant};

use crate::broker::{Admin, BrokerError, ClientSettings};

/// How long the start of a stage may wait for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long nobody is asked again after nobody answered.
const SILENCE: Duration = Duration::from_secs(60);

/// Asks as long as somebody answers.
pub(super) struct Limits {
    settings: ClientSettings,
    admin: Option<Admin>,
    silent_until: Option<Instant>,
}

impl Limits {
    pub(super) fn new(settings: ClientSettings) -> Self {
        Self { settings, admin: None, silent_until: None }
    }

    /// The `max.message.bytes` of a topic; `None`: not known.
    pub(super) fn of(&mut self, topic: &str) -> Option<usize> {
        // The cluster in this process knows no settings of topics.
        if self.settings.mock || self.silent_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        if self.admin.is_none() {
            self.admin = Admin::open(&self.settings).ok();
        }
        match self.admin.as_ref()?.settings(&[topic], PATIENCE) {
            Ok(settings) => settings.first()?.get("max.message.bytes")?.value.as_ref()?.parse().ok(),
            Err(error) => {
                if let BrokerError::Unreachable(_) = error {
                    self.silent_until = Some(Instant::now() + SILENCE);
                }
                None
            }
        }
    }

    /// Closes the client; the next question opens another.
    pub(super) fn rest(&mut self) {
        self.admin = None;
    }
}
