//! Who may write a topic, byte by byte on the wire: the client library has no words for it.

use std::io::{Read, Write};
use std::net::TcpStream;

const CREATE: i16 = 30;
const DELETE: i16 = 31;
const TOPIC: u8 = 2;
const LITERAL: u8 = 3;
const ALL: u8 = 2;
const WRITE: u8 = 4;
const DENY: u8 = 2;
const ALLOW: u8 = 3;

/// `user` may do anything with `topic` but write it. Panics where the broker refuses.
pub(super) fn forbid_writing(broker: &str, topic: &str, user: &str) {
    ask(broker, CREATE, &[rule(topic, user, ALL, ALLOW), rule(topic, user, WRITE, DENY)]);
}

/// `user` may write it again.
pub(super) fn allow_writing(broker: &str, topic: &str, user: &str) {
    ask(broker, DELETE, &[rule(topic, user, WRITE, DENY)]);
}

/// One rule, or a filter that it alone meets.
fn rule(topic: &str, user: &str, operation: u8, permission: u8) -> Vec<u8> {
    let mut rule = vec![TOPIC];
    put(&mut rule, topic);
    rule.push(LITERAL);
    put(&mut rule, &format!("User:{user}"));
    put(&mut rule, "*");
    rule.extend([operation, permission]);
    rule
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend(text.as_bytes());
}

fn ask(broker: &str, key: i16, rules: &[Vec<u8>]) {
    let mut request = key.to_be_bytes().to_vec();
    // Version 1, correlation 1, no client id.
    request.extend([0, 1, 0, 0, 0, 1, 0xff, 0xff]);
    request.extend((rules.len() as u32).to_be_bytes());
    rules.iter().for_each(|rule| request.extend(rule));
    let mut stream = TcpStream::connect(broker).expect("a connection");
    stream.write_all(&(request.len() as u32).to_be_bytes()).expect("sent");
    stream.write_all(&request).expect("sent");
    let mut size = [0; 4];
    stream.read_exact(&mut size).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer).expect("the whole answer");
    // Correlation, throttling and the number of results; then the first one's error.
    assert_eq!(answer[8..14], [0, 0, 0, rules.len() as u8, 0, 0], "the broker refuses: {answer:?}");
}
