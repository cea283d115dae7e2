//! Brokers that want TLS and a password, from `topics apply` to an output.

use std::time::Duration;

use crate::support::{ConfigRoot, Engine, Message, SecuredKafka, unique};

const CONFIG: &str = "[topics.in]\npartitions = 1\n[topics.out]\npartitions = 1\ncompression = \"zstd\"\n\
    [dlqs.d]\npartitions = 1\n\
    [stages.s]\nfrom = \"in\"\nto = \"out\"\ndlq = \"d\"\n[[stages.s.steps]]\nset.seen = true\n";

#[test]
fn an_engine_speaks_tls_and_gives_its_password_by_scram_and_by_plain() {
    let kafka = SecuredKafka::start();
    let authority = kafka.authority();
    let root = ConfigRoot::new(&[("pipelines/a.toml", CONFIG)]);
    for (count, mechanism) in ["SCRAM-SHA-512", "PLAIN"].into_iter().enumerate() {
        let variables = [
            ("BIPLANE_KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
            ("BIPLANE_KAFKA_SSL_CA_LOCATION", authority.to_str().expect("a path in UTF-8")),
            ("BIPLANE_KAFKA_SASL_MECHANISMS", mechanism),
            ("BIPLANE_KAFKA_SASL_USERNAME", "alice"),
            ("BIPLANE_KAFKA_SASL_PASSWORD", SecuredKafka::PASSWORD),
            ("BIPLANE_NAMESPACE", &*unique("tls")),
        ];
        let secured = kafka.secured();
        let arguments = ["topics", "apply", "--yes", "--brokers", &secured];
        let applied = Engine::command(root.path(), &arguments, &variables);
        assert!(applied.status.success(), "{mechanism}: {}", String::from_utf8_lossy(&applied.stderr));
        let mut engine = Engine::start(&root, &secured, &variables);
        kafka.cluster().produce("in", &[Message::new("k", format!("{{\"by\":\"{mechanism}\"}}"))]);
        // A second engine of another group reads what the first was given as well.
        let got = kafka.cluster().wait_for_records("out", [1, 3][count], Duration::from_secs(30));
        let seen = serde_json::json!({ "by": mechanism, "seen": true });
        assert!(got.iter().any(|message| message.value_json() == seen), "{got:?}");
        assert!(engine.terminate(Duration::from_secs(20)).success());
    }
}
