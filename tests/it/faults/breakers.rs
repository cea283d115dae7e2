//! Systems that are down, and inputs that are bad from end to end: the stage stops by itself and says why,
//! instead of spending what its records have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Bed, DEADLINE, INTACT, LIMIT, numbers};
use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, Engine, Message, holds_within, wait_for, wait_until};

const KEYS: i64 = 12;
const EACH: i64 = 20;
const MOST: usize = 4;
/// The breaker's `of`, and how many runs may be under way as it opens.
const BEFORE: usize = 20 + 16;

/// A service that can be down.
struct Service {
    stub: Stub,
    down: Arc<AtomicBool>,
}

impl Service {
    fn start(down: bool) -> Self {
        let down = Arc::new(AtomicBool::new(down));
        let now = Arc::clone(&down);
        let stub = Stub::start(move |_, stream| match now.load(Ordering::Acquire) {
            true => reply(stream, "503 Service Unavailable", ""),
            false => reply(stream, "200 OK", "{}"),
        });
        Self { stub, down }
    }

    fn comes_up(&self) {
        self.down.store(false, Ordering::Release);
    }
}

fn records() -> Vec<Message> {
    let record = |number: i64| Message::json(format!("k{}", number % KEYS), &json!({ "number": number }));
    (0..KEYS * EACH).map(record).collect()
}

/// A stage that asks the service once for each record; the first record is doomed whatever it answers.
fn bed_of(cluster: &Cluster, service: &Service, without: &'static str) -> Bed {
    let stage = format!(
        "[retries.short]\nmax_attempts = {MOST}\ndelays = [\"30ms\"]\n\n[http_clients.stub]\n\
         base_url = \"{}\"\n\n[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\nretry = \"short\"\n\
         breaker.transient = {{ probe_after = \"200ms\", probe_up_to = \"400ms\" }}\n\n\
         [[STAGE.steps]]\nname = \"ask\"\nhttp.client = \"stub\"\nhttp.path = \"/\"\n\n\
         [[STAGE.steps]]\nwhen = \"value.number == 0\"\nfail = {{ code = \"doomed\", message = \"as planned\" }}\n",
        service.stub.url()
    );
    Bed::new(cluster, 2, &stage, without)
}

fn status(engine: &Engine) -> Value {
    let answer = engine.get("/v1/status").map(|answer| answer.body).unwrap_or_default();
    let status: Value = serde_json::from_str(&answer).unwrap_or_default();
    status["stages"][0].clone()
}

/// While the service is down the stage pauses and asks with one record at a time; the others spend
/// nothing. Without `breaker` they use up what they have and go to the DLQ.
#[test]
fn a_service_that_is_down_costs_no_attempts_and_everything_arrives_in_order_once_it_is_back() {
    let (cluster, service) = (Cluster::shared(), Service::start(true));
    let bed = bed_of(&cluster, &service, INTACT);
    cluster.produce(&bed.topic("input"), &records());
    let mut engine = bed.start(&cluster);
    wait_until("the breaker opens", DEADLINE, || engine.metric("biplane_breaker_open{", &["ask"]) == 1.0);
    let shown =
        wait_for("the state", DEADLINE, || Some(status(&engine)).filter(|it| it["state"] == "paused"));
    let reason = shown["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("breaker of step `ask`") && reason.contains("http-503"), "{shown}");
    assert_eq!(shown["breakers"][0], json!({"step": "ask", "open": true, "opened": 1}));
    let asked = service.stub.asked();
    assert!(asked <= BEFORE + 2, "{asked} requests before it opened");
    wait_until("several probes", DEADLINE, || service.stub.asked() >= BEFORE + 2 * MOST);
    assert_eq!((cluster.count(&bed.topic("dlq")), cluster.count(&bed.topic("output"))), (0, 0));

    service.comes_up();
    let passed = cluster.wait_for_records(&bed.topic("output"), (KEYS * EACH - 1) as usize, DEADLINE);
    let dead = cluster.wait_for_records(&bed.topic("dlq"), 1, DEADLINE);
    let mut by_key: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (message, number) in passed.iter().zip(numbers(&passed)) {
        by_key.entry(message.key_text().to_owned()).or_default().push(number);
    }
    assert_eq!(by_key.len() as i64, KEYS);
    assert!(by_key.values().all(|numbers| numbers.is_sorted()), "{by_key:?}");
    assert_eq!(numbers(&dead), [0]);
    // It was the oldest, so it failed before the breaker opened and asked while it was open.
    let attempts: usize = dead[0].header_text("biplane-attempts").unwrap().parse().unwrap();
    assert!(attempts <= MOST, "{attempts}");
    wait_until("it is closed", DEADLINE, || status(&engine)["breakers"][0]["open"] == false);
    assert_eq!(engine.metric("biplane_breaker_opened_total", &["ask"]), 1.0);
    assert!(engine.terminate(Duration::from_secs(20)).success());

    #[cfg(debug_assertions)]
    {
        let service = Service::start(true);
        let bed = bed_of(&cluster, &service, "breaker");
        cluster.produce(&bed.topic("input"), &records());
        let _engine = bed.start(&cluster);
        cluster.wait_for_records(&bed.topic("dlq"), (KEYS * EACH) as usize, DEADLINE);
    }
}

/// Two services in one stage: the one that answers has nothing to do with the other's outage.
#[test]
fn a_breaker_is_its_own_steps_alone() {
    let (cluster, fine, ill) = (Cluster::shared(), Service::start(false), Service::start(true));
    let stage = format!(
        "[retries.often]\nmax_attempts = 9\ndelays = [\"50ms\"]\n\n\
         [STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\nretry = \"often\"\n\
         breaker.transient = {{ probe_after = \"200ms\", probe_up_to = \"400ms\" }}\n\n\
         [[STAGE.steps]]\nname = \"fine\"\nhttp.url = \"{}\"\n\n\
         [[STAGE.steps]]\nname = \"ill\"\nhttp.url = \"{}\"\n",
        fine.stub.url(),
        ill.stub.url()
    );
    let bed = Bed::new(&cluster, 1, &stage, INTACT);
    cluster.produce(&bed.topic("input"), &records());
    let engine = bed.start(&cluster);
    wait_until("one of them opens", DEADLINE, || engine.metric("biplane_breaker_open{", &["ill"]) == 1.0);
    assert_eq!(engine.metric("biplane_breaker_open{", &["fine"]), 0.0);
    ill.comes_up();
    cluster.wait_for_records(&bed.topic("output"), (KEYS * EACH) as usize, DEADLINE);
    assert_eq!(engine.metric("biplane_breaker_opened_total", &["fine"]), 0.0);
    assert_eq!(cluster.count(&bed.topic("dlq")), 0);
}

/// Every record is poison: the stage halts and says so. Without `flood` all of them go to the DLQ.
#[test]
fn a_topic_of_poison_is_not_drained_into_the_dlq() {
    const POISON: usize = 300;
    const OF: i64 = 50;
    fn flood(cluster: &Cluster, without: &'static str) -> (Bed, Engine) {
        let stage = format!(
            "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\nbreaker.permanent = {{ of = {OF} }}\n\n\
             [[STAGE.steps]]\nfilter = \"value.number >= 0\"\n"
        );
        let bed = Bed::new(cluster, 2, &stage, without);
        let poison: Vec<_> =
            (0..POISON).map(|number| Message::new(number.to_string(), "{\"number\": ")).collect();
        cluster.produce(&bed.topic("input"), &poison);
        let engine = bed.start(cluster);
        (bed, engine)
    }
    let cluster = Cluster::shared();
    let (bed, engine) = flood(&cluster, INTACT);
    let shown = wait_for("it halts", DEADLINE, || Some(status(&engine)).filter(|it| it["state"] == "halted"));
    let reason = shown["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("50 of the last 50 records") && reason.contains("`json` (50)"), "{reason}");
    assert_eq!(engine.metric("biplane_stage_floods_total", &["bed"]), 1.0);
    wait_until("what was sent is there", DEADLINE, || cluster.count(&bed.topic("dlq")) == OF - 1);
    assert!(!holds_within(LIMIT / 5, || cluster.count(&bed.topic("dlq")) >= OF), "it goes on");
    assert!(bed.committed(&cluster) < OF);
    assert!(engine.get("/ready").is_some_and(|ready| ready.status == 503));

    #[cfg(debug_assertions)]
    {
        let (bed, _engine) = flood(&cluster, "flood");
        cluster.wait_for_records(&bed.topic("dlq"), POISON, DEADLINE);
    }
}
