//! The helpers that other tests trust: a record comes back byte for byte, private servers survive a kill.

use std::time::Duration;

use crate::support::{Cluster, Message, PrivateKafka, PrivatePostgres, TestDatabase, unique};

#[test]
fn a_record_comes_back_byte_for_byte_with_its_headers() {
    let cluster = Cluster::shared();
    let topic = unique("harness");
    cluster.create_topic(&topic, 3, &[("retention.ms", "3600000")]);
    let sent = [
        Message::new([0xff, 0x00], b"\x00not json\xfe").header("trace", "1").header("trace", [0x80]).at(2),
        Message::tombstone("gone").at(2),
    ];
    cluster.produce(&topic, &sent);

    let read = cluster.wait_for_records(&topic, 2, Duration::from_secs(20));
    assert_eq!(read.len(), 2);
    for (read, sent) in read.iter().zip(&sent) {
        assert_eq!((read.partition, &read.key, &read.value), (2, &sent.key, &sent.value));
        assert_eq!(read.headers, sent.headers);
    }
    assert_eq!(cluster.count(&topic), 2);
    assert!(cluster.committed(&unique("nobody"), &topic).is_empty());
}

#[test]
fn a_private_broker_keeps_its_records_over_a_kill() {
    let mut broker = PrivateKafka::start();
    let topic = unique("private");
    broker.cluster().create_topic(&topic, 1, &[]);
    broker.cluster().produce(&topic, &[Message::new("k", "before")]);
    broker.kill();
    broker.restart();
    broker.cluster().produce(&topic, &[Message::new("k", "after")]);
    let values: Vec<_> = broker.cluster().read_all(&topic).into_iter().map(|read| read.value).collect();
    assert_eq!(values, [Some(b"before".to_vec()), Some(b"after".to_vec())]);
}

#[test]
fn a_private_postgres_keeps_what_was_committed_over_a_kill() {
    let mut server = PrivatePostgres::start(&["max_connections=20"]);
    let database = TestDatabase::on(&server.url());
    database.execute("create table kept (n integer); insert into kept values (1)");
    server.kill();
    server.restart();
    assert_eq!(database.value("select n from kept"), "1");
}

#[test]
fn databases_of_two_tests_never_meet() {
    let (one, other) = (TestDatabase::new(), TestDatabase::new());
    one.execute("create table here (n integer)");
    assert_eq!(other.value("select count(*) from pg_class where relname = 'here'"), "0");
}
