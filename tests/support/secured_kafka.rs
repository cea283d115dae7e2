//! A private broker with a second listener that wants TLS and a password. Its certificate is made by the
//! Java that runs it and is its own authority.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::ports::free_port;
use super::{Cluster, PrivateKafka, acls};

const STORE_PASSWORD: &str = "store-password";

/// One Apache Kafka process that knows the user `alice`, who may do all that is not forbidden.
pub struct SecuredKafka {
    kafka: PrivateKafka,
    keys: TempDir,
    port: u16,
}

impl SecuredKafka {
    /// Makes the certificate and starts the broker. Panics where that fails.
    pub fn start() -> Self {
        let keys = tempfile::Builder::new().prefix("biplane-keys-").tempdir().expect("a folder");
        make_certificate(keys.path());
        let port = free_port();
        let user = format!("SCRAM-SHA-512=[name=alice,password={}]", Self::PASSWORD);
        let kafka = PrivateKafka::start_with(&properties(keys.path(), port), &["--add-scram", &user]);
        Self { kafka, keys, port }
    }

    /// The password of `alice`.
    pub const PASSWORD: &str = "alice-secret";

    /// The listener that wants TLS and a password.
    pub fn secured(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The authority to trust, as a PEM file.
    pub fn authority(&self) -> PathBuf {
        self.keys.path().join("authority.pem")
    }

    /// From now on `alice` may not write that topic.
    pub fn forbid_writing(&self, topic: &str) {
        acls::forbid_writing(&self.kafka.brokers(), topic, "alice");
    }

    /// She may again.
    pub fn allow_writing(&self, topic: &str) {
        acls::allow_writing(&self.kafka.brokers(), topic, "alice");
    }

    /// What an engine is told so that it speaks as `alice`.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("BIPLANE_KAFKA_SECURITY_PROTOCOL", "sasl_ssl".to_owned()),
            ("BIPLANE_KAFKA_SSL_CA_LOCATION", self.authority().display().to_string()),
            ("BIPLANE_KAFKA_SASL_MECHANISMS", "PLAIN".to_owned()),
            ("BIPLANE_KAFKA_SASL_USERNAME", "alice".to_owned()),
            ("BIPLANE_KAFKA_SASL_PASSWORD", Self::PASSWORD.to_owned()),
        ]
    }

    /// Access to its topics through the listener that wants nothing.
    pub fn cluster(&self) -> Cluster {
        self.kafka.cluster()
    }
}

fn properties(keys: &Path, port: u16) -> String {
    let keystore = keys.join("keys.p12");
    let module = "org.apache.kafka.common.security";
    format!(
        "listeners=PLAINTEXT://127.0.0.1:@PORT@,SECURED://127.0.0.1:{port},CONTROLLER://127.0.0.1:@CONTROLLER_PORT@\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:@PORT@,SECURED://127.0.0.1:{port}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL\n\
         listener.name.secured.ssl.keystore.type=PKCS12\n\
         listener.name.secured.ssl.keystore.location={}\n\
         listener.name.secured.ssl.keystore.password={STORE_PASSWORD}\n\
         listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN\n\
         listener.name.secured.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
         listener.name.secured.plain.sasl.jaas.config={module}.plain.PlainLoginModule required \
         user_alice=\"{}\";\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS\n\
         allow.everyone.if.no.acl.found=true\n",
        keystore.display(),
        SecuredKafka::PASSWORD,
    )
}

fn make_certificate(folder: &Path) {
    let keystore = folder.join("keys.p12");
    let keytool = |arguments: &[&str]| {
        let output = Command::new("keytool")
            .args(arguments)
            .args(["-alias", "broker", "-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-keystore"])
            .arg(&keystore)
            .output()
            .expect("keytool runs: it comes with Java");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    keytool(&[
        "-genkeypair",
        "-keyalg",
        "RSA",
        "-keysize",
        "2048",
        "-validity",
        "2",
        "-dname",
        "CN=127.0.0.1",
        "-ext",
        "san=ip:127.0.0.1",
        "-ext",
        "bc:c",
    ]);
    let authority = folder.join("authority.pem");
    keytool(&["-exportcert", "-rfc", "-file", authority.to_str().expect("a path in UTF-8")]);
}
