//! Where a record is sent again: to a topic as it is, or to one stage alone through that stage's own
//! topic, whose partitions are those of its inputs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::ReplayError;
use super::spec::Target;
use crate::broker::{Admin, ClientSettings, Consumer};
use crate::catalog::{Catalog, Stage};
use crate::engine::own_topics;
use crate::events::letters::{Letter, Origin};

/// How long the brokers may take to make a topic.
const ANSWER: Duration = Duration::from_secs(30);

/// Where one record goes.
pub(super) enum Place {
    /// To this topic; `None`: to the partition of its key.
    At(Arc<str>, Option<i32>),
    /// Nowhere: its stage is not in the files.
    Nowhere,
}

/// The topic of a stage for what is sent to it again.
#[derive(Debug)]
struct StageTopic {
    name: Arc<str>,
    partitions: i32,
    inputs: Vec<Arc<str>>,
}

/// See the module's documentation.
pub(super) struct Targets<'a> {
    pub(super) client: &'a ClientSettings,
    pub(super) looker: &'a Consumer,
    pub(super) catalog: &'a Catalog,
    pub(super) namespace: &'a str,
    target: &'a Target,
    /// The one topic that all go to, where that is so.
    topic: Arc<str>,
    stages: HashMap<Box<str>, Option<StageTopic>>,
    gone: Vec<String>,
}

/// At most so many names of stages are kept to tell.
const MAX_GONE: usize = 16;

impl<'a> Targets<'a> {
    pub(super) fn new(
        client: &'a ClientSettings,
        looker: &'a Consumer,
        catalog: &'a Catalog,
        namespace: &'a str,
        target: &'a Target,
    ) -> Self {
        let topic = match target {
            Target::Topic(topic) => topic.as_str(),
            Target::Origin | Target::Stage(_) => "",
        };
        let (topic, stages, gone) = (Arc::from(topic), HashMap::new(), Vec::new());
        Self { client, looker, catalog, namespace, target, topic, stages, gone }
    }

    /// Makes ready what is known before the first record.
    ///
    /// # Errors
    /// Where the stage or the topic is not there.
    pub(super) fn prepare(&mut self) -> Result<(), ReplayError> {
        match self.target {
            Target::Origin => Ok(()),
            Target::Topic(topic) => self.looker.partition_count(topic, ANSWER).map(drop).map_err(Into::into),
            Target::Stage(stage) => match self.catalog.stages().contains_key(stage.as_str()) {
                true => self.open(stage),
                false => Err(ReplayError::NoStage(stage.clone())),
            },
        }
    }

    /// Whether the target wants to know where a record came from.
    pub(super) fn is_stage(&self) -> bool {
        !matches!(self.target, Target::Topic(_))
    }

    /// Stages that gave records up and are not in the files, as far as they were kept.
    pub(super) fn gone(&self) -> &[String] {
        &self.gone
    }

    /// Where a record goes that came from `origin`.
    ///
    /// # Errors
    /// Where the topic of its stage is not there and cannot be made.
    pub(super) fn place(&mut self, letter: &Letter<'_>, origin: &Origin<'_>) -> Result<Place, ReplayError> {
        let stage = match self.target {
            Target::Topic(_) => return Ok(Place::At(Arc::clone(&self.topic), None)),
            Target::Stage(stage) => stage.as_str(),
            Target::Origin => letter.stage.unwrap_or_default(),
        };
        if !self.stages.contains_key(stage) {
            self.open(stage)?;
        }
        Ok(match self.stages.get(stage) {
            Some(Some(topic)) => Place::At(Arc::clone(&topic.name), topic.partition(origin)),
            _ => Place::Nowhere,
        })
    }

    fn open(&mut self, stage: &str) -> Result<(), ReplayError> {
        let topic = match find(self.catalog, stage) {
            Some(stage) => Some(self.topic_of(stage)?),
            None => {
                if self.gone.len() < MAX_GONE {
                    self.gone.push(if stage.is_empty() { "-".to_owned() } else { stage.to_owned() });
                }
                None
            }
        };
        // What is not in the files is named by anybody's headers, and could be endless.
        if topic.is_some() || self.stages.len() < self.catalog.stages().len() + MAX_GONE {
            self.stages.insert(stage.into(), topic);
        }
        Ok(())
    }

    /// The stage's topic, made or grown where that is needed.
    fn topic_of(&self, stage: &Stage) -> Result<StageTopic, ReplayError> {
        let own = own_topics::replay(stage, self.namespace);
        // An input that is not there is said so before anything is made.
        for input in &stage.inputs {
            self.looker.partition_count(&input.physical, ANSWER)?;
        }
        // The cluster in this process has no settings, and what made it has made this topic.
        if !self.client.mock {
            own_topics::make(&own, &Admin::open(self.client)?, ANSWER)?;
        }
        let partitions = self.looker.partition_count(&own.name, ANSWER)?;
        let inputs = stage.inputs.iter().map(|input| Arc::clone(&input.physical)).collect();
        Ok(StageTopic { name: own.name.into(), partitions, inputs })
    }
}

/// The stage of that name, or the one that had it before.
fn find<'c>(catalog: &'c Catalog, name: &str) -> Option<&'c Stage> {
    let stages = catalog.stages();
    let renamed = || stages.values().find(|stage| stage.was.as_deref() == Some(name));
    stages.get(name).or_else(renamed).map(|stage| &**stage)
}

impl StageTopic {
    /// The original's own partition, where it was read from an input of the stage, so that it meets the
    /// other records of its key; else the one of its key.
    fn partition(&self, origin: &Origin<'_>) -> Option<i32> {
        let is_input = self.inputs.iter().any(|input| **input == *origin.topic);
        Some(origin.partition).filter(|partition| is_input && *partition < self.partitions)
    }
}
