//! OAUTHBEARER on a real Kafka: a second listener takes unsecured tokens and nothing else, and closes
//! what outlives its token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::support::stub::{Stub, reply};
use crate::support::{ConfigRoot, Engine, Message, PrivateKafka, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
/// How long the endpoint's tokens live, in seconds.
const LIFE: f64 = 8.0;

/// Kafka takes tokens without a signature where no class is named that knows better.
const LISTENER: &str = "\
listeners=PLAINTEXT://127.0.0.1:@PORT@,SASL_PLAINTEXT://127.0.0.1:@SECOND_PORT@,CONTROLLER://127.0.0.1:@CONTROLLER_PORT@
advertised.listeners=PLAINTEXT://127.0.0.1:@PORT@,SASL_PLAINTEXT://127.0.0.1:@SECOND_PORT@
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=OAUTHBEARER
listener.name.sasl_plaintext.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";
listener.name.sasl_plaintext.oauthbearer.connections.max.reauth.ms=3600000
";

fn jwt(life: f64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64();
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({ "sub": "engine", "iat": now, "exp": now + life });
    format!("{}.{}.", part(json!({ "alg": "none" })), part(claims))
}

fn root() -> ConfigRoot {
    ConfigRoot::new(&[(
        "pipelines/p.toml",
        "[topics.\"in\"]\n[topics.\"out\"]\n[dlqs.d]\ntopic = \"d.dlq\"\n\
         [stages.pass]\nfrom = \"in\"\nto = \"out\"\ndlq = \"d\"\n",
    )])
}

fn start_kafka() -> PrivateKafka {
    let kafka = PrivateKafka::start_with(LISTENER, &[]);
    for topic in ["in", "out", "d.dlq"] {
        kafka.cluster().create_topic(topic, 2, &[]);
    }
    kafka
}

const MECHANISM: [(&str, &str); 2] =
    [("BIPLANE_KAFKA_SECURITY_PROTOCOL", "sasl_plaintext"), ("BIPLANE_KAFKA_SASL_MECHANISMS", "OAUTHBEARER")];

/// Writes `count` records past the listener under test and waits until the engine has passed on `all`.
fn flow(kafka: &PrivateKafka, count: usize, all: usize) {
    let records: Vec<_> = (0..count).map(|n| Message::json(n.to_string(), &json!({ "n": n }))).collect();
    kafka.cluster().produce("in", &records);
    assert_eq!(kafka.cluster().wait_for_records("out", all, LIMIT).len(), all);
}

#[test]
fn records_flow_before_and_after_tokens_of_an_endpoint_are_refreshed() {
    let kafka = start_kafka();
    let endpoint = Stub::start(|path, stream| match path {
        "/token" => {
            let answer = json!({ "access_token": jwt(LIFE), "token_type": "Bearer", "expires_in": LIFE });
            reply(stream, "200 OK", &answer.to_string());
        }
        _ => reply(stream, "404 Not Found", ""),
    });
    let url = format!("{}/token", endpoint.url());
    let brokers = kafka.second_brokers();
    let variables = [
        &MECHANISM[..],
        &[
            ("BIPLANE_KAFKA_SASL_OAUTHBEARER_METHOD", "oidc"),
            ("BIPLANE_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", &url),
            ("BIPLANE_KAFKA_SASL_OAUTHBEARER_CLIENT_ID", "engine"),
            ("BIPLANE_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "hunter2"),
        ],
    ]
    .concat();
    let root = root();
    let engine = Engine::start(&root, &brokers, &variables);
    flow(&kafka, 100, 100);

    let asked = endpoint.asked();
    wait_until("three more tokens", LIMIT, || endpoint.asked() >= asked + 3);
    flow(&kafka, 100, 200);
    wait_until("offsets are committed", LIMIT, || {
        kafka.cluster().committed("biplane.pass", "in").values().map(|(offset, _)| offset).sum::<i64>() == 200
    });
    let log = engine.log();
    assert!(!log.contains("no OAUTHBEARER token") && !log.contains("hunter2"), "{log}");
    assert_eq!(engine.metric("biplane_stage_rebalances_total", &[]), 1.0, "membership outlives tokens");

    let variables =
        [&variables[..], &[("BIPLANE_KAFKA_BROKERS", &*brokers), ("BIPLANE_LISTEN", engine.address())]]
            .concat();
    let listed = Engine::command(root.path(), &["stages", "list", "--format", "json"], &variables);
    assert!(listed.status.success(), "look-ups get tokens too: {listed:?}");
    let plan = Engine::command(root.path(), &["topics", "plan"], &variables);
    assert!(matches!(plan.status.code(), Some(0 | 1)), "topics are planned with tokens too: {plan:?}");
}

#[test]
fn a_token_file_is_taken_and_an_engine_without_a_token_says_so_until_there_is_one() {
    let kafka = start_kafka();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let path = file.to_str().expect("a path in UTF-8");
    let variables = [&MECHANISM[..], &[("BIPLANE_KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", path)]].concat();
    let root = root();
    let mut engine = Engine::launch(&root, &kafka.second_brokers(), &variables);
    wait_until("it says what is missing", LIMIT, || {
        engine.log().contains("there is no OAUTHBEARER token: cannot read")
    });
    std::fs::write(&file, jwt(3_600.0)).expect("a token");
    engine.wait_ready();
    flow(&kafka, 10, 10);
}

#[test]
fn unsecured_tokens_serve_every_command() {
    let kafka = start_kafka();
    let brokers = kafka.second_brokers();
    let variables = [
        &MECHANISM[..],
        &[
            ("BIPLANE_KAFKA_ENABLE_SASL_OAUTHBEARER_UNSECURE_JWT", "true"),
            ("BIPLANE_KAFKA_SASL_OAUTHBEARER_CONFIG", "principal=engine lifeSeconds=4"),
            ("BIPLANE_KAFKA_BROKERS", &brokers),
        ],
    ]
    .concat();
    let root = root();
    let plan = Engine::command(root.path(), &["topics", "plan"], &variables);
    let said = String::from_utf8_lossy(&plan.stderr);
    assert!(matches!(plan.status.code(), Some(0 | 1)), "{said}");
    let _engine = Engine::start(&root, &brokers, &variables);
    flow(&kafka, 10, 10);
}
