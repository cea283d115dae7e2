//! `http.batch` on a real Kafka: records share requests and still come to an end one by one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, ConfigRoot, Engine, Message, unique};

const PIPELINE: &str = r#"
[topics.input]
topic      = "PREFIX.input"
partitions = 2

[topics.output]
topic      = "PREFIX.output"
partitions = 2

[dlqs.dead]
topic = "PREFIX.dlq"

[retries.soon]
max_attempts = 3
backoff      = { delays = ["50ms"] }

[stages.score]
from        = "input"
to          = "output"
dlq         = "dead"
retry       = "soon"
concurrency = 8

[[stages.score.steps]]
name       = "score"
http.url   = "URL/score"
http.json  = { key = "{{ key }}", number = "{{ value.number }}" }
http.into  = "score"
http.batch = { records = 8, bytes = "1MiB", linger = "20ms", answers = "results", status = "status", body = "body" }
"#;

const KEYS: usize = 8;
const NUMBERS: u64 = 25;
/// The key and the number that the other side refuses for good, and those that it refuses once.
const REFUSED: (&str, u64) = ("key-3", 7);
const BUSY_ONCE: (&str, u64) = ("key-5", 11);

/// What came in each request, as key and number.
type Requests = Arc<Mutex<Vec<Vec<(String, u64)>>>>;

fn start_stub(requests: &Requests) -> Stub {
    let requests = Arc::clone(requests);
    Stub::start_with_bodies(move |_, body, stream| {
        let list: Vec<Json> = serde_json::from_str(body).expect("a list");
        let asked = |element: &Json| {
            let key = element["key"].as_str().expect("a key").to_owned();
            (key, element["number"].as_u64().expect("a number"))
        };
        let list: Vec<_> = list.iter().map(asked).collect();
        let mut requests = requests.lock().expect("the requests");
        let results: Vec<_> = list
            .iter()
            .map(|(key, number)| {
                let is = |(named, own): (&str, u64)| (named, own) == (key.as_str(), *number);
                let again = requests.iter().flatten().any(|known| known == &(key.clone(), *number));
                let status = match () {
                    () if is(REFUSED) => 422,
                    () if is(BUSY_ONCE) && !again => 503,
                    () => 200,
                };
                json!({ "status": status, "body": format!("{key} {number}") })
            })
            .collect();
        requests.push(list);
        drop(requests);
        reply(stream, "200 OK", &json!({ "results": results }).to_string());
    })
}

#[test]
fn records_that_share_requests_end_one_by_one_and_in_the_order_of_their_keys() {
    let (cluster, prefix, requests) = (Cluster::shared(), unique("batch"), Requests::default());
    let stub = start_stub(&requests);
    let pipeline = PIPELINE.replace("PREFIX", &prefix).replace("URL", &stub.url());
    let root = ConfigRoot::new(&[("pipelines/score.toml", &pipeline)]);
    for topic in ["input", "output", "dlq"] {
        cluster.create_topic(&format!("{prefix}.{topic}"), 2, &[]);
    }
    let records: Vec<_> = (0..NUMBERS)
        .flat_map(|number| {
            (0..KEYS).map(move |key| Message::json(format!("key-{key}"), &json!({ "number": number })))
        })
        .collect();
    cluster.produce(&format!("{prefix}.input"), &records);
    let mut engine = Engine::start(&root, cluster.brokers(), &[("BIPLANE_NAMESPACE", &prefix)]);

    let passed =
        cluster.wait_for_records(&format!("{prefix}.output"), records.len() - 1, Duration::from_secs(60));
    assert_eq!(passed.len(), records.len() - 1, "none is lost and none passes twice");
    let mut by_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in &passed {
        let (key, value) = (record.key_text().to_owned(), record.value_json());
        let number = value["number"].as_u64().expect("a number");
        assert_eq!(value["score"], format!("{key} {number}"), "its own answer");
        by_key.entry(key).or_default().push(number);
    }
    for (key, numbers) in &by_key {
        let expected: Vec<_> = (0..NUMBERS).filter(|number| (key.as_str(), *number) != REFUSED).collect();
        assert_eq!(numbers, &expected, "{key}");
    }

    let dead = cluster.wait_for_records(&format!("{prefix}.dlq"), 1, Duration::from_secs(30));
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].key_text(), &dead[0].value_json()["number"]), (REFUSED.0, &json!(REFUSED.1)));
    assert_eq!(dead[0].header_text("biplane-error-code"), Some("http-422"));
    assert_eq!(dead[0].header_text("biplane-error-class"), Some("permanent"));
    assert_eq!(dead[0].header_text("biplane-attempts"), Some("1"));

    let requests = requests.lock().expect("the requests");
    let all: Vec<_> = requests.iter().flatten().collect();
    let twice: Vec<_> =
        all.iter().filter(|asked| all.iter().filter(|other| other == asked).count() > 1).collect();
    assert!(twice.iter().all(|(key, number)| (key.as_str(), *number) == BUSY_ONCE), "{twice:?}");
    assert_eq!(all.len(), records.len() + 1, "one record was tried again, alone of its batch");
    assert!(requests.iter().all(|list| (1..=8).contains(&list.len())));
    assert!(requests.len() < records.len() / 2, "{} requests for {} records", requests.len(), records.len());
    assert!(engine.terminate(Duration::from_secs(20)).success(), "{}", engine.log());
}
