//! One record on the wire, byte by byte, for what no client library would write.

use std::io::{Read, Write};
use std::net::TcpStream;

/// Writes a record with one header, whose name may be any bytes, to partition 0. Panics where the broker
/// refuses.
pub fn produce_with_header(broker: &str, topic: &str, value: &[u8], (name, content): (&[u8], &[u8])) {
    let mut request = Vec::new();
    // Produce, version 3, correlation 1, no client id, no transaction, acks of all, 10 s, one topic.
    request.extend([0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    request.extend(10_000_u32.to_be_bytes());
    request.extend(1_u32.to_be_bytes());
    request.extend((topic.len() as u16).to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend(1_u32.to_be_bytes());
    request.extend(0_u32.to_be_bytes());
    let batch = batch(&record(value, name, content));
    request.extend((batch.len() as u32).to_be_bytes());
    request.extend(batch);

    let mut stream = TcpStream::connect(broker).expect("a connection");
    stream.write_all(&(request.len() as u32).to_be_bytes()).expect("sent");
    stream.write_all(&request).expect("sent");
    let mut size = [0; 4];
    stream.read_exact(&mut size).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer).expect("the whole answer");
    // Correlation, topics, the name, partitions, the partition; then the error.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[at..at + 2], [0, 0], "the broker refuses: {answer:?}");
}

fn record(value: &[u8], name: &[u8], content: &[u8]) -> Vec<u8> {
    // Attributes, timestamp and offset as the batch says, the key `k`.
    let mut record = vec![0, 0, 0, 2, b'k'];
    record.extend(varint(value.len()));
    record.extend(value);
    record.extend(varint(1));
    for part in [name, content] {
        record.extend(varint(part.len()));
        record.extend(part);
    }
    let mut framed = varint(record.len());
    framed.extend(record);
    framed
}

fn batch(record: &[u8]) -> Vec<u8> {
    let mut checked = Vec::new();
    // Attributes, last offset delta.
    checked.extend([0; 6]);
    for _ in 0..2 {
        checked.extend(1_700_000_000_000_u64.to_be_bytes());
    }
    // No producer id, epoch and sequence; one record.
    checked.extend([0xff; 14]);
    checked.extend(1_u32.to_be_bytes());
    checked.extend(record);
    let mut batch = vec![0; 8];
    batch.extend((checked.len() as u32 + 9).to_be_bytes());
    batch.extend([0xff, 0xff, 0xff, 0xff, 2]);
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

/// A non-negative number in zigzag.
fn varint(number: usize) -> Vec<u8> {
    let mut rest = number << 1;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 }
            },
        )
    })
}
