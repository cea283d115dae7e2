//! The Kafka of `biplane dev`: the brokers that are named, or a cluster in memory, with the topics of
//! the config on it, also after an edit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use super::arguments::GlobalArguments;
use super::exit::{CliError, CliResult};
use super::{connect, topics};
use crate::broker::{ClientSettings, MockKafka};
use crate::catalog::{Catalog, Topic};
use crate::engine::control;
use crate::events::replay_topic;

/// The partitions of a topic whose files name no number.
const PARTITIONS: u32 = 4;

/// Where the topics are.
pub(super) struct DevKafka {
    client: ClientSettings,
    namespace: String,
    memory: Option<Memory>,
}

struct Memory {
    cluster: MockKafka,
    /// What was made, with its partitions.
    made: Mutex<HashMap<Arc<str>, u32>>,
}

impl DevKafka {
    /// The brokers that are named, or a cluster in memory.
    pub(super) fn start(global: &GlobalArguments) -> CliResult<Self> {
        if global.brokers().is_some() {
            let (client, namespace) = (connect::client(global)?, global.namespace.clone());
            return Ok(Self { client, namespace, memory: None });
        }
        let cluster = MockKafka::start(1)?;
        let client = cluster.settings("biplane-dev");
        let memory = Some(Memory { cluster, made: Mutex::default() });
        Ok(Self { client, namespace: global.namespace.clone(), memory })
    }

    /// How clients reach it.
    pub(super) fn client(&self) -> &ClientSettings {
        &self.client
    }

    /// Whether it is in memory.
    pub(super) fn in_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Brings the topics up to the files.
    pub(super) fn bring_up(&self, catalog: &Catalog) -> CliResult<()> {
        match &self.memory {
            None => topics::bring_up(&self.client, catalog),
            Some(memory) => memory.bring_up(catalog, &self.namespace),
        }
    }

    /// Makes the topics through which records are replayed to stages, where a command cannot do it itself.
    pub(super) fn expect_replays(&self, catalog: &Catalog) -> CliResult<()> {
        match &self.memory {
            None => Ok(()),
            Some(memory) => memory.expect_replays(catalog, &self.namespace),
        }
    }
}

impl Memory {
    fn bring_up(&self, catalog: &Catalog, namespace: &str) -> CliResult<()> {
        let mut made = self.made.lock();
        let dlqs = catalog.dlqs().values().map(|dlq| &dlq.topic);
        let wanted = |topic: &Topic| topic.partitions.unwrap_or(PARTITIONS);
        let all = || catalog.topics().values().chain(dlqs.clone());
        // All or nothing: what cannot be is said before anything is made.
        for topic in all() {
            if let Some(has) = made.get(&topic.physical).filter(|has| **has != wanted(topic)) {
                return Err(CliError::failed(format!(
                    "topic `{}` has {has} partitions and the in-memory Kafka cannot change that; start `biplane dev` again",
                    topic.physical
                )));
            }
        }
        // Clients make a topic of the engine when they need it, which this cluster cannot do.
        let control: Arc<str> = control::topic(namespace).into();
        if let Entry::Vacant(entry) = made.entry(control) {
            self.cluster.create_topic(entry.key(), 1)?;
            entry.insert(1);
        }
        for topic in all() {
            if !made.contains_key(&topic.physical) {
                self.cluster.create_topic(&topic.physical, wanted(topic))?;
                made.insert(Arc::clone(&topic.physical), wanted(topic));
            }
        }
        Ok(())
    }

    fn expect_replays(&self, catalog: &Catalog, namespace: &str) -> CliResult<()> {
        let mut made = self.made.lock();
        for stage in catalog.stages().values() {
            let inputs = stage.inputs.iter().map(|input| input.partitions.unwrap_or(PARTITIONS));
            let partitions = inputs.max().unwrap_or(PARTITIONS);
            if let Entry::Vacant(entry) = made.entry(replay_topic(namespace, &stage.name).into()) {
                self.cluster.create_topic(entry.key(), partitions)?;
                entry.insert(partitions);
            }
        }
        Ok(())
    }
}
