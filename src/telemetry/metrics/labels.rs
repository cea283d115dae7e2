//! The label sets of the metrics: a stage, and one more dimension that the config bounds.

use prometheus_client::encoding::EncodeLabelSet;

/// A stage.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct StageLabels {
    pub(super) stage: String,
}

impl StageLabels {
    pub(super) fn new(stage: &str) -> Self {
        Self { stage: stage.to_owned() }
    }
}

/// A state of a stage; the word comes from a fixed vocabulary.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct StateLabels {
    pub(super) stage: String,
    pub(super) state: &'static str,
}

/// A step of a stage.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct StepLabels {
    pub(super) stage: String,
    pub(super) step: String,
}

/// A partition that a stage reads.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct PartitionLabels {
    pub(super) stage: String,
    pub(super) topic: String,
    pub(super) partition: i32,
}
