//! The client properties that a deployment may set through `BIPLANE_KAFKA_*`, and no others.
//!
//! What a delivery promise rests on (acknowledgements, idempotence, assignor, commits) is not on the
//! list, so that no environment can undo it.

/// Which clients a property is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// All of them.
    Any,
    /// Consumers only.
    Consumer,
    /// Producers only.
    Producer,
}

/// One property that may be set.
#[derive(Debug, Clone, Copy)]
pub struct Property {
    /// The client's name for it.
    pub name: &'static str,
    /// Whom it is given to.
    pub role: Role,
    /// True where its value must never be shown.
    pub secret: bool,
    /// What it does, in one line.
    pub summary: &'static str,
}

impl Property {
    /// The environment variable that sets it: `sasl.username` is `BIPLANE_KAFKA_SASL_USERNAME`.
    pub fn variable(&self) -> String {
        format!("BIPLANE_KAFKA_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

const fn any(name: &'static str, summary: &'static str) -> Property {
    Property { name, role: Role::Any, secret: false, summary }
}

const fn secret(name: &'static str, summary: &'static str) -> Property {
    Property { name, role: Role::Any, secret: true, summary }
}

const fn consumer(name: &'static str, summary: &'static str) -> Property {
    Property { name, role: Role::Consumer, secret: false, summary }
}

const fn producer(name: &'static str, summary: &'static str) -> Property {
    Property { name, role: Role::Producer, secret: false, summary }
}

/// Every property that may be set, in the order of the documentation.
pub const PROPERTIES: &[Property] = &[
    any("security.protocol", "`plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`"),
    any("sasl.mechanisms", "`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`"),
    any("sasl.username", "the user of PLAIN and SCRAM"),
    secret("sasl.password", "the password of PLAIN and SCRAM"),
    any("sasl.oauthbearer.method", "`oidc` gets tokens from a token endpoint; `default` does not"),
    any("sasl.oauthbearer.token.endpoint.url", "the token endpoint, `https://…`"),
    any("sasl.oauthbearer.client.id", "the client's id at the token endpoint"),
    secret("sasl.oauthbearer.client.secret", "the client's secret at the token endpoint"),
    any("sasl.oauthbearer.scope", "the scope that is asked for"),
    any("sasl.oauthbearer.token.file", "a file that holds a JWT and is read again at each refresh"),
    secret("sasl.oauthbearer.config", "what unsecured tokens say, such as `principal=me`, for tests"),
    any("enable.sasl.oauthbearer.unsecure.jwt", "`true` makes unsecured tokens, for tests"),
    any("ssl.ca.location", "the file or folder of the authorities that are trusted; default: the system's"),
    secret("ssl.ca.pem", "the authorities that are trusted, as PEM text"),
    any("ssl.certificate.location", "the client's certificate"),
    secret("ssl.certificate.pem", "the client's certificate, as PEM text"),
    any("ssl.key.location", "the client's private key"),
    secret("ssl.key.pem", "the client's private key, as PEM text"),
    secret("ssl.key.password", "the password of the private key"),
    any("ssl.endpoint.identification.algorithm", "`https` compares host names (default), `none` does not"),
    any("enable.ssl.certificate.verification", "`false` trusts any broker, for tests"),
    any("broker.address.family", "`any`, `v4` or `v6`"),
    any("client.rack", "the rack, so that the nearest replica is read"),
    any("socket.timeout.ms", "how long a request may take on the wire"),
    any("socket.connection.setup.timeout.ms", "how long a connection may take to be ready"),
    any("connections.max.idle.ms", "when an idle connection is closed"),
    any("reconnect.backoff.ms", "the first wait before reconnecting"),
    any("reconnect.backoff.max.ms", "the longest wait before reconnecting"),
    any("topic.metadata.refresh.interval.ms", "how soon a grown topic is noticed; default 30000"),
    any("metadata.max.age.ms", "when cached metadata is dropped"),
    any("debug", "the client's debug contexts, such as `broker,cgrp`"),
    consumer("fetch.wait.max.ms", "how long the broker waits for data before it answers"),
    consumer("fetch.min.bytes", "how much data the broker waits for"),
    consumer("fetch.max.bytes", "the most data of one answer"),
    consumer("max.partition.fetch.bytes", "the most data of a partition in one answer"),
    consumer(
        "queued.max.messages.kbytes",
        "the most KiB that a stage fetches ahead of its window; default 8192",
    ),
    consumer("queued.min.messages", "how many records a stage tries to have fetched ahead of each partition"),
    consumer("heartbeat.interval.ms", "how often a member says that it lives"),
    consumer("check.crcs", "`true` verifies the checksum of each batch"),
    producer("batch.num.messages", "the most records of one batch"),
    producer(
        "queue.buffering.max.kbytes",
        "the most KiB that wait to be sent or acknowledged, for each kind of batch; default 65536",
    ),
    producer(
        "queue.buffering.max.messages",
        "the most records that wait to be sent or acknowledged, for each kind of batch; default 100000",
    ),
    producer("retry.backoff.ms", "the first wait before a send is repeated"),
    producer("request.timeout.ms", "how long the broker may take to acknowledge"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_is_documented_with_its_variable() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kafka-properties.md"))
            .expect("the page is there");
        for property in PROPERTIES {
            let line = format!("| `{}` | `{}` |", property.variable(), property.name);
            assert!(page.contains(&line), "docs/kafka-properties.md lacks {line}");
        }
    }

    #[test]
    fn nothing_that_a_delivery_promise_rests_on_can_be_set() {
        for name in ["acks", "enable.idempotence", "enable.auto.commit", "auto.offset.reset", "group.id"] {
            assert!(PROPERTIES.iter().all(|property| property.name != name), "{name}");
        }
    }
}
