//! What a stage reads: its inputs, and the topics that the engine keeps beside them.
//!
//! Partition `p` of such a topic belongs to partition `p` of the inputs: the `range` assignor gives both
//! to one member, so that one generation fences both. Who makes the topics is not decided here.

use std::sync::Arc;

use super::runner::Runner;
use crate::catalog::Stage;

/// What a topic is to a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The stage's records come from it.
    Input,
    /// Records that were sent again, to this stage alone.
    Replay,
}

/// The topic through which records are sent again to one stage alone.
pub fn replay_topic(namespace: &str, stage: &str) -> String {
    format!("{namespace}.{stage}.replay")
}

/// All that one stage may read.
#[derive(Debug)]
pub(super) struct Sources {
    inputs: Vec<Arc<str>>,
    replay: Arc<str>,
    /// Whether the replay topic is on the broker, as far as it was told.
    replayed: bool,
}

impl Sources {
    pub(super) fn new(namespace: &str, stage: &Stage) -> Self {
        Self {
            inputs: stage.inputs.iter().map(|topic| Arc::clone(&topic.physical)).collect(),
            replay: replay_topic(namespace, &stage.name).into(),
            replayed: false,
        }
    }

    /// What to subscribe to. The replay topic of a stage that nothing was ever sent to again costs it
    /// nothing.
    pub(super) fn subscription(&self) -> Vec<Arc<str>> {
        let replay = self.replayed.then(|| Arc::clone(&self.replay));
        self.inputs.iter().cloned().chain(replay).collect()
    }

    /// What a topic is to the stage.
    pub(super) fn role(&self, topic: &str) -> Role {
        if *self.replay == *topic { Role::Replay } else { Role::Input }
    }
}

impl Runner {
    /// The replay topic is on the broker, or not any more: the group looks anew where that is news.
    pub(super) fn replay_is_there(&mut self, there: bool) {
        if self.sources.replayed == there {
            return;
        }
        self.sources.replayed = there;
        if let Err(error) = self.consumer.subscribe(&self.sources.subscription()) {
            self.shared.trouble(&error.to_string());
        }
    }
}
