//! Parking of exactly-once stages: a copy in the parking topic and the offset of what it stands for are of
//! one transaction.

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use super::{Bed, DEADLINE, INTACT, faults};
use crate::support::stub::reply;
use crate::support::{Cluster, Engine, Message, Random, holds_within, wait_until};

const ONCE: &str = "delivery = \"exactly-once\"";

/// How many records of these keys came out more often than once.
fn repeated(out: &std::collections::BTreeMap<String, Vec<usize>>, count: usize) -> usize {
    out.values().map(|numbers| numbers.len().saturating_sub(count)).sum()
}

/// Some keys fail, are parked and followed while the engine is killed again and again, most often within a
/// transaction. Readers see each record once and in order.
#[test]
fn records_that_an_exactly_once_stage_parks_come_out_once_and_in_order_through_kills() {
    const KEYS: usize = 40;
    const ROUNDS: usize = 4;
    const EACH: usize = 10;
    let cluster = Cluster::shared();
    let bed = Bed::new(&cluster, 2, "250ms", ONCE, INTACT);
    let names: Vec<String> = (0..KEYS).map(|key| format!("k{key}")).collect();
    let path = |key: usize| if key.is_multiple_of(4) { "bad" } else { "good" };
    let mut engine = bed.start_named(&cluster);
    for round in 0..ROUNDS {
        let numbers = round * EACH..(round + 1) * EACH;
        let records: Vec<_> = numbers
            .flat_map(|number| (0..KEYS).map(move |key| (key, number)))
            .map(|(key, number)| (names[key].clone(), path(key), number))
            .collect();
        let (asked, parked) = (bed.stub.asked(), cluster.written(&bed.parking()));
        bed.produce(&cluster, &records);
        wait_until("some are tried and parked", DEADLINE, || {
            bed.stub.asked() > asked + 60 && cluster.written(&bed.parking()) > parked + 20
        });
        engine.kill();
        engine = bed.start_named(&cluster);
    }
    wait_until("all is done on the input", DEADLINE, || bed.is_done(&cluster));
    assert!(!bed.out(&cluster).contains_key("k0"), "what fails is parked");
    bed.heal();
    wait_until("nothing is parked", DEADLINE, || bed.is_cleared(&cluster));
    let out = bed.out(&cluster);
    assert_eq!(faults(&out, &names, ROUNDS * EACH), (0, 0));
    assert_eq!(repeated(&out, ROUNDS * EACH), 0);
    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
}

/// Some outputs are larger than their topic takes, and each spoils its transaction, with what was parked
/// and tried again in it. The input and what is parked go back to where the last one closed. Without
/// `rewind` they do not.
#[test]
fn an_aborted_transaction_takes_back_what_was_parked_and_tried_in_it() {
    const KEYS: usize = 20;
    const EACH: usize = 40;
    const LARGE: usize = 3;
    /// Out of order, missing, repeated.
    fn check(without: &'static str) -> (usize, usize, usize) {
        let cluster = Cluster::shared();
        // Each path is refused once.
        let bed = Bed::answering(&cluster, 1, "150ms", ONCE, |path, times, stream| match times {
            1 if path.starts_with("/once") => reply(stream, "503 Service Unavailable", ""),
            _ => reply(stream, "200 OK", "{}"),
        });
        let bed = Bed { without, ..bed };
        cluster.set_topic(&bed.topic("output"), "max.message.bytes", "20000");
        let engine = bed.start_named(&cluster);
        let names: Vec<String> = (0..KEYS).map(|key| format!("k{key}")).collect();
        // Packed into less it must still be too large.
        let pad = |number: usize| -> String {
            let mut random = Random(number as u64);
            (0..40_000).map(|_| char::from(b'!' + (random.uniform() * 60.0) as u8)).collect()
        };
        let records = (0..EACH).flat_map(|number| {
            let names = &names;
            (0..KEYS).map(move |key| {
                let path = if number % 8 == 3 { format!("once-{key}-{number}") } else { "good".to_owned() };
                let large = key == 7 && number % 16 == 5;
                let pad = if large { pad(number) } else { String::new() };
                let value = json!({"key": names[key], "path": path, "number": number, "pad": pad});
                Message::json(&names[key], &value)
            })
        });
        cluster.produce(&bed.topic("input"), &records.collect::<Vec<_>>());
        let done = || bed.is_done(&cluster) && bed.is_cleared(&cluster);
        match without {
            INTACT => wait_until("all is done", DEADLINE, done),
            _ => drop(holds_within(std::time::Duration::from_secs(8), done)),
        }
        let mut out = bed.out(&cluster);
        let dead = cluster.read_all(&bed.topic("dlq"));
        for letter in &dead {
            let number = letter.value_json()["number"].as_u64().expect("a number") as usize;
            // A dead letter is written as its turn comes.
            let numbers = out.entry(letter.key_text().to_owned()).or_default();
            let at = numbers.iter().position(|other| *other > number).unwrap_or(numbers.len());
            numbers.insert(at, number);
        }
        if without == INTACT {
            assert_eq!(dead.len(), LARGE, "{}", engine.log());
            assert!(
                engine.metric("biplane_stage_records_parked_total", &["retry"]) >= (KEYS * EACH / 8) as f64
            );
        }
        let (disordered, missing) = faults(&out, &names, EACH);
        (disordered, missing, repeated(&out, EACH))
    }
    assert_eq!(check(INTACT), (0, 0, 0));
    #[cfg(debug_assertions)]
    assert_ne!(check("rewind"), (0, 0, 0));
}

/// The end of a transaction reaches the group's offsets before it reaches the parking topic, as when its
/// engine is killed right then: the input says that a record is parked which cannot be read yet. What comes
/// behind it waits. Without `scan-first` it does not.
#[test]
fn what_is_parked_by_a_transaction_that_is_still_being_ended_is_waited_for() {
    fn check(without: &'static str) -> Vec<usize> {
        let cluster = Cluster::shared();
        let bed = Bed { without, ..Bed::new(&cluster, 1, "150ms", ONCE, INTACT) };
        let mut engine = bed.start_named(&cluster);
        bed.produce(&cluster, &[("k".to_owned(), "good", 0)]);
        wait_until("the first is done", DEADLINE, || bed.is_done(&cluster));
        assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
        let mut config = cluster.config();
        config.set("transactional.id", &bed.prefix);
        let producer: BaseProducer = config.create().expect("a producer");
        producer.init_transactions(DEADLINE).expect("transactions");
        producer.begin_transaction().expect("a transaction");
        let origin = format!("{}/0/0/5", bed.topic("input"));
        let headers = [("biplane-origin", origin.as_str()), ("biplane-parked", "1/5/1//")];
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let value = json!({"key": "k", "path": "good", "number": 1}).to_string();
        let parking = bed.parking();
        let record = BaseRecord::to(&parking).partition(0).key("k").payload(&value).headers(headers);
        producer.send(record).expect("sent");
        producer.flush(DEADLINE).expect("flushed");
        bed.produce(&cluster, &[("k".to_owned(), "good", 2)]);
        let engine = bed.launch(&cluster, &[("BIPLANE_ENGINE_ID", "one")]);
        let scanning = |engine: &Engine| {
            let status = engine.get("/v1/status").map(|answer| answer.body).unwrap_or_default();
            status.contains("\"scanning\":1")
        };
        let second = || bed.out(&cluster)["k"].len() > 1;
        match without {
            INTACT => wait_until("it is read for what is parked", DEADLINE, || scanning(&engine)),
            _ => wait_until("the next is out", DEADLINE, second),
        }
        assert_eq!(second(), without != INTACT);
        producer.commit_transaction(DEADLINE).expect("committed");
        wait_until("all are out", DEADLINE, || bed.out(&cluster)["k"].len() == 3);
        bed.out(&cluster).remove("k").unwrap_or_default()
    }
    assert_eq!(check(INTACT), [0, 1, 2]);
    #[cfg(debug_assertions)]
    assert_eq!(check("scan-first"), [0, 2, 1]);
}
