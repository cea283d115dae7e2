//! Three brokers of one test's own: the first is the controller, too, and the others may be killed.

use std::thread;

use super::{Cluster, PrivateKafka};

/// What each of them says beside the usual. A broker that was slow for a moment gets its partitions back soon.
const SHARED: &str = "offsets.topic.replication.factor=3\ntransaction.state.log.replication.factor=3\n\
                      leader.imbalance.check.interval.seconds=1\nleader.imbalance.per.broker.percentage=0\n";
/// As `server.properties` has it.
const GROUP_PARTITIONS: i32 = 4;

/// The brokers, whose ids are 1, 2 and 3.
pub struct PrivateCluster {
    brokers: Vec<PrivateKafka>,
}

impl PrivateCluster {
    /// Starts them and waits until they answer.
    pub fn start() -> Self {
        let first = PrivateKafka::start_with(SHARED, &[]);
        let controller = first.controller();
        let join = |id: i32| {
            let properties = format!(
                "{SHARED}node.id={id}\nprocess.roles=broker\ncontroller.quorum.voters=1@{controller}\n\
                 listeners=PLAINTEXT://127.0.0.1:@PORT@\n"
            );
            PrivateKafka::start_with(&properties, &[])
        };
        let (second, third) = thread::scope(|scope| {
            let second = scope.spawn(|| join(2));
            let third = join(3);
            (second.join().expect("the second broker"), third)
        });
        Self { brokers: vec![first, second, third] }
    }

    /// Access to those that run as one.
    pub fn cluster(&self) -> Cluster {
        let running = self.brokers.iter().filter(|broker| broker.runs());
        let addresses: Vec<_> = running.map(PrivateKafka::brokers).collect();
        Cluster::at(addresses.join(","))
    }

    /// Kills the broker with that id.
    pub fn kill(&mut self, id: i32) {
        self.brokers[id as usize - 1].kill();
    }

    /// Which broker coordinates a group: the leader of the partition that its name hashes to. `None` while
    /// there is none.
    pub fn coordinator(&self, group: &str) -> Option<i32> {
        let hash = group.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let partition = hash.checked_abs().unwrap_or_default() % GROUP_PARTITIONS;
        self.cluster().leader("__consumer_offsets", partition)
    }
}
