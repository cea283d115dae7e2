//! Offsets on their way to the group and back, with their metadata.

use std::panic::{AssertUnwindSafe, catch_unwind};

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
