//! What is known right after each kill: what the group had committed, and how far the outputs had come.

use std::collections::BTreeMap;
use std::time::Duration;

use super::metadata;
use crate::support::{Cluster, wait_for};

/// The stages, what they read, and what they write.
pub(super) const STAGES: [(&str, &str, [&str; 2]); 2] =
    [("first", "input", ["middle", "first-dlq"]), ("second", "middle", ["output", "second-dlq"])];

/// What was collected so far.
#[derive(Default)]
pub(super) struct Evidence {
    kills: Vec<Kill>,
}

struct Kill {
    /// By stage and partition of its input.
    commits: BTreeMap<(&'static str, i32), Committed>,
    ends: Ends,
}

/// By topic and partition: the offset behind the newest record.
type Ends = BTreeMap<(&'static str, i32), i64>;

struct Committed {
    offset: i64,
    finished: Vec<(i64, i64)>,
}

impl Evidence {
    /// A kill has happened, and the next engine is not started yet.
    pub(super) fn collect(&mut self, cluster: &Cluster, prefix: &str) {
        // The broker may still be reading what the dead engine had put on the wire.
        let mut before = None;
        let ends = wait_for("the topics stand still", Duration::from_secs(20), || {
            let now = ends(cluster, prefix);
            let still = before.as_ref() == Some(&now);
            before = Some(now);
            before.take_if(|_| still)
        });
        let mut commits = BTreeMap::new();
        for (stage, input, _) in STAGES {
            let committed = cluster.committed(&format!("{prefix}.{stage}"), &format!("{prefix}.{input}"));
            for (partition, (offset, text)) in committed {
                let finished = metadata::finished(&text, offset);
                commits.insert((stage, partition), Committed { offset, finished });
            }
        }
        self.kills.push(Kill { commits, ends });
    }

    pub(super) fn kills(&self) -> usize {
        self.kills.len()
    }

    /// Which life wrote that record; the first is 0.
    pub(super) fn life(&self, topic: &'static str, partition: i32, offset: i64) -> usize {
        self.kills.partition_point(|kill| kill.ends.get(&(topic, partition)).is_none_or(|end| *end <= offset))
    }

    /// Whether kill number `kill` (from 0) left that input record uncommitted, so that it must be done
    /// again.
    pub(super) fn left_open(&self, kill: usize, stage: &'static str, partition: i32, offset: i64) -> bool {
        match self.kills[kill].commits.get(&(stage, partition)) {
            None => true,
            Some(committed) => {
                offset >= committed.offset
                    && !committed.finished.iter().any(|(first, last)| (*first..=*last).contains(&offset))
            }
        }
    }
}

fn ends(cluster: &Cluster, prefix: &str) -> Ends {
    let topics = STAGES.iter().flat_map(|(_, _, outputs)| outputs);
    let by_topic = topics.map(|topic| {
        let found = cluster.end_offsets(&format!("{prefix}.{topic}"));
        found.into_iter().map(|(partition, end)| ((*topic, partition), end))
    });
    by_topic.flatten().collect()
}
