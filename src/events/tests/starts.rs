//! Where partitions without a commit start, beside others of their topic that have one.

use super::*;
use crate::broker::Commit;
use crate::events::metadata::Beyond;
use crate::events::starts::Starts;

/// Where partition 1 starts, and how many partitions it will say there were, where partition 0 bears this
/// commit of offset 3 (`None`: none).
fn start_of_other(world: &World, start: Start, commit: Option<String>) -> (StartAt, Option<i32>) {
    static GROUP: AtomicU32 = AtomicU32::new(0);
    let group = format!("group-{}", GROUP.fetch_add(1, Ordering::AcqRel));
    let options = ConsumerOptions::new(group, Vec::new());
    let consumer = Consumer::open(&world.kafka.settings("test"), options, || {}).unwrap();
    let name = |partition| TopicPartition::new("in", partition);
    if let Some(metadata) = commit {
        consumer.commit_now(&[Commit { partition: name(0), offset: 3, metadata }]).unwrap();
    }
    let starts = Starts { consumer: &consumer, before: None, start, deadline: Instant::now() + PATIENCE };
    let begin = starts.of(&[name(1)]).unwrap().remove(0);
    assert_eq!((begin.partition, begin.committed), (name(1), None));
    assert!(consumer.close(PATIENCE));
    (begin.at, begin.beyond.founded)
}

#[test]
fn only_a_partition_that_was_added_since_the_group_began_starts_at_its_oldest_record() {
    let world = World::new(|_, _| Ok(()));
    world.produce(&borrowed(&words(50, 20)));
    let reader = Consumer::open(&world.kafka.settings("test"), ConsumerOptions::new("r", Vec::new()), || {});
    let other = TopicPartition::new("in", 1);
    let end = StartAt::Offset(reader.unwrap().ends(std::slice::from_ref(&other), PATIENCE).unwrap()[&other]);
    assert_ne!(end, StartAt::Offset(0));
    let said = |founded| Some(Beyond { founded: Some(founded), ..Beyond::default() }.encode(3));
    // The in-process cluster finds no record by time, so a time is the end as well.
    for start in [Start::Latest, Start::At(1)] {
        let of = |commit| start_of_other(&world, start, commit);
        assert_eq!(of(None), (end, Some(2)), "the group begins");
        assert_eq!(of(said(2)), (end, Some(2)), "another engine of the group was first to commit");
        assert_eq!(of(said(1)), (StartAt::Earliest, Some(1)), "added since");
        assert_eq!(of(Some(String::new())), (StartAt::Earliest, Some(1)), "the commit does not say");
    }
    assert_eq!(start_of_other(&world, Start::Earliest, said(2)), (StartAt::Earliest, None));
}
