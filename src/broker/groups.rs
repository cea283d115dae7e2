//! Consumer groups as the brokers see them: their state and who is in them.
//!
//! Reads only; joining, committing and leaving are the consumer's.

use std::time::Duration;

use rdkafka::groups::{GroupInfo, GroupMemberInfo};

use super::admin::Admin;
use super::consumer::TopicPartition;
use super::error::BrokerError;

/// One consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Kafka's word: `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty` or `Dead`.
    pub state: String,
    /// Who is in it.
    pub members: Vec<Member>,
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What the broker calls it.
    pub id: String,
    /// What it calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// What it was given to read, in order.
    pub partitions: Vec<TopicPartition>,
}

impl Admin {
    /// All groups that these credentials may see, by name.
    ///
    /// # Errors
    /// Where a broker does not answer within `limit` or refuses.
    pub fn groups(&self, limit: Duration) -> Result<Vec<Group>, BrokerError> {
        self.find_groups(None, limit)
    }

    /// One group; `None` where there is none of that name, as before its first member.
    ///
    /// # Errors
    /// As [`Admin::groups`].
    pub fn group(&self, name: &str, limit: Duration) -> Result<Option<Group>, BrokerError> {
        let found = self.find_groups(Some(name), limit)?;
        Ok(found.into_iter().find(|group| group.name == name))
    }

    fn find_groups(&self, name: Option<&str>, limit: Duration) -> Result<Vec<Group>, BrokerError> {
        let list = self
            .asked()?
            .fetch_group_list(name, limit)
            .map_err(|error| BrokerError::from_client("groups", &error))?;
        let mut groups: Vec<_> = list.groups().iter().map(group).collect();
        groups.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(groups)
    }
}

fn group(info: &GroupInfo) -> Group {
    let mut members: Vec<_> = info.members().iter().map(member).collect();
    members.sort_by(|left, right| (&left.client_id, &left.id).cmp(&(&right.client_id, &right.id)));
    Group { name: info.name().to_owned(), state: info.state().to_owned(), members }
}

fn member(info: &GroupMemberInfo) -> Member {
    let mut partitions = info.assignment().and_then(assignment).unwrap_or_default();
    partitions.sort();
    Member {
        id: info.id().to_owned(),
        client_id: info.client_id().to_owned(),
        host: info.client_host().trim_start_matches('/').to_owned(),
        partitions,
    }
}

/// Reads an assignment of Kafka's consumer protocol: a version, then topics with their partitions. What
/// comes behind is the assignor's own. `None` where another program wrote something else.
fn assignment(bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    let mut rest = bytes;
    let mut partitions = Vec::new();
    number::<2>(&mut rest)?;
    for _ in 0..number::<4>(&mut rest)? {
        let length = number::<2>(&mut rest)?;
        let (name, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = behind;
        let name = std::str::from_utf8(name).ok()?;
        for _ in 0..number::<4>(&mut rest)? {
            partitions.push(TopicPartition::new(name, i32::try_from(number::<4>(&mut rest)?).ok()?));
        }
    }
    Some(partitions)
}

/// A big-endian number of `N` bytes.
fn number<const N: usize>(bytes: &mut &[u8]) -> Option<i64> {
    let (number, rest) = bytes.split_at_checked(N)?;
    *bytes = rest;
    Some(number.iter().fold(0, |value, byte| value << 8 | i64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_no_bytes_panic() {
        let bytes = b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x03\0\x02bc\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff";
        let expected =
            [TopicPartition::new("a", 0), TopicPartition::new("a", 3), TopicPartition::new("bc", 1)];
        assert_eq!(assignment(bytes).as_deref(), Some(&expected[..]));
        for length in 0..bytes.len() - 4 {
            assert_eq!(assignment(&bytes[..length]), None, "cut at {length}");
        }
        assert_eq!(assignment(&[0xff; 64]), None);
    }
}
