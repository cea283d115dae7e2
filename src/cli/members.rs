//! Who is in a stage's consumer group, as the brokers say.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::exit::CliResult;
use super::output;
use super::scan::ANSWER;
use crate::broker::{Admin, ClientSettings, Group};

/// The group of a stage.
#[derive(Debug, Serialize, PartialEq)]
pub(super) struct Members {
    group: String,
    /// Kafka's word, such as `Stable`; `None`: no such group, as before its first member.
    state: Option<String>,
    members: Vec<Member>,
}

#[derive(Debug, Serialize, PartialEq)]
struct Member {
    id: String,
    client_id: String,
    host: String,
    /// The partitions it reads, by topic.
    partitions: BTreeMap<String, Vec<i32>>,
}

/// Asks for the members of `group`. Brokers that do not tell leave it open, with a note: it is not all
/// that was asked for.
pub(super) fn of(client: &ClientSettings, group: &str) -> CliResult<Option<Members>> {
    match Admin::open(client)?.group(group, ANSWER) {
        Ok(found) => Ok(Some(Members::new(group, found))),
        Err(error) => {
            output::note(&format!("the members of {group} are not known: {error}"));
            Ok(None)
        }
    }
}

impl Members {
    fn new(name: &str, group: Option<Group>) -> Self {
        let state = group.as_ref().map(|group| group.state.clone());
        let members = group.into_iter().flat_map(|group| group.members).map(|member| {
            let mut partitions: BTreeMap<String, Vec<i32>> = BTreeMap::new();
            for partition in member.partitions {
                partitions.entry(partition.topic.to_string()).or_default().push(partition.partition);
            }
            Member { id: member.id, client_id: member.client_id, host: member.host, partitions }
        });
        Self { group: name.to_owned(), state, members: members.collect() }
    }

    /// A line for the group and a table of its members.
    pub(super) fn text(&self) -> String {
        let state = self.state.as_deref().unwrap_or("no member yet");
        let mut text = format!("group        {}, {state}, {} members\n", self.group, self.members.len());
        if !self.members.is_empty() {
            let rows = self
                .members
                .iter()
                .map(|member| [member.client_id.clone(), member.host.clone(), member.reads()]);
            let table = output::table(&["client", "host", "reads"], rows);
            // Writing into a string cannot fail.
            let _ = writeln!(text, "\n{table}");
        }
        text
    }
}

impl Member {
    /// `orders[0, 2] payments[0]`
    fn reads(&self) -> String {
        if self.partitions.is_empty() {
            return "nothing".to_owned();
        }
        let topics = self.partitions.iter().map(|(topic, numbers)| {
            let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
            format!("{topic}[{}]", numbers.join(", "))
        });
        topics.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{self, TopicPartition};

    #[test]
    fn members_are_shown_with_what_they_read() {
        let member = |client_id: &str, partitions| broker::Member {
            id: format!("{client_id}-1"),
            client_id: client_id.to_owned(),
            host: "10.0.0.7".to_owned(),
            partitions,
        };
        let given =
            vec![TopicPartition::new("a", 0), TopicPartition::new("a", 2), TopicPartition::new("b", 1)];
        let members = vec![member("biplane-0", given), member("biplane-1", Vec::new())];
        let group = Group { name: "g.s".to_owned(), state: "Stable".to_owned(), members };
        let text = Members::new("g.s", Some(group)).text();
        assert!(text.starts_with("group        g.s, Stable, 2 members\n\nCLIENT"), "{text}");
        assert!(text.contains("a[0, 2] b[1]") && text.contains("nothing"), "{text}");
        let none = Members::new("g.s", None).text();
        assert_eq!(none, "group        g.s, no member yet, 0 members\n");
    }
}
