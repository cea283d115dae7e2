//! What all clients of one engine share: where the brokers are and how to reach them.
//!
//! Properties come from the environment through the allow-list of [`super::PROPERTIES`]; values are
//! never logged.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::error::BrokerError;
use super::oauth::{self, Tokens};
use super::properties::{PROPERTIES, Property, Role};

/// How to reach the brokers.
#[derive(Clone, Default)]
pub struct ClientSettings {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// Client properties by the client's names, all from the allow-list.
    pub properties: BTreeMap<String, String>,
    /// What the brokers see as the client's name.
    pub client_id: String,
    /// True for the in-process cluster, which answers fetches only when their wait is over.
    pub mock: bool,
    /// Where OAUTHBEARER tokens come from.
    pub(super) tokens: Option<Arc<Tokens>>,
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings")
            .field("brokers", &self.brokers)
            .field("properties", &self.properties.keys())
            .field("client_id", &self.client_id)
            .field("mock", &self.mock)
            .finish()
    }
}

const PREFIX: &str = "BIPLANE_KAFKA_";
const BROKERS: &str = "BIPLANE_KAFKA_BROKERS";

impl ClientSettings {
    /// Settings for `brokers`, with nothing else set.
    pub fn new(brokers: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            client_id: client_id.into(),
            properties: BTreeMap::new(),
            mock: false,
            tokens: None,
        }
    }

    /// The same settings with the properties that `variables` (a process's environment) name.
    ///
    /// # Errors
    /// [`BrokerError::Settings`] for a `BIPLANE_KAFKA_*` variable that is not on the allow-list, and for
    /// OAUTHBEARER without a whole source of tokens.
    pub fn with_variables(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, BrokerError> {
        for (variable, value) in variables {
            if !variable.starts_with(PREFIX) || variable == BROKERS {
                continue;
            }
            let property = find(&variable).ok_or_else(|| unknown(&variable))?;
            self.properties.insert(property.name.to_owned(), value);
        }
        self.tokens = oauth::read(&self.properties)?;
        Ok(self)
    }

    /// The client's configuration for `role`, before what the client itself insists on.
    pub(super) fn config(&self, role: Role) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Info)
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            .set("log.connection.close", "false");
        if self.mock && role == Role::Consumer {
            config.set("fetch.wait.max.ms", "10");
        }
        for (name, value) in self.properties.iter().filter(|(name, _)| !oauth::is_handled_here(name)) {
            let meant = PROPERTIES
                .iter()
                .find(|property| property.name == name)
                .is_some_and(|property| property.role == Role::Any || property.role == role);
            if meant {
                config.set(name, value);
            }
        }
        if !self.properties.keys().any(|name| name.starts_with("ssl.ca.")) {
            // The client's own OpenSSL looks where nobody keeps authorities; this finds the system's.
            config.set("ssl.ca.location", "probe");
        }
        config
    }
}

fn find(variable: &str) -> Option<&'static Property> {
    PROPERTIES.iter().find(|property| property.variable() == variable)
}

fn unknown(variable: &str) -> BrokerError {
    let near = PROPERTIES
        .iter()
        .map(|property| property.variable())
        .map(|known| (strsim::levenshtein(&known, variable), known))
        .min()
        .filter(|(distance, _)| *distance <= 4);
    let hint = near.map(|(_, known)| format!("; did you mean `{known}`?")).unwrap_or_default();
    BrokerError::Settings(format!("`{variable}` sets no Kafka property that may be set{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn variables_become_the_properties_they_name() {
        let settings = ClientSettings::new("b:9092", "test")
            .with_variables(variables(&[
                ("BIPLANE_KAFKA_BROKERS", "ignored"),
                ("BIPLANE_KAFKA_SASL_USERNAME", "me"),
                ("PATH", "/bin"),
            ]))
            .expect("allowed");
        assert_eq!(settings.properties.len(), 1);
        assert_eq!(settings.properties["sasl.username"], "me");
        assert_eq!(settings.config(Role::Any).get("sasl.username"), Some("me"));
    }

    #[test]
    fn a_property_off_the_list_is_refused_with_the_nearest_name() {
        let error = ClientSettings::default()
            .with_variables(variables(&[("BIPLANE_KAFKA_SASL_USERNAM", "me")]))
            .expect_err("refused")
            .to_string();
        assert!(error.contains("did you mean `BIPLANE_KAFKA_SASL_USERNAME`"), "{error}");
        assert!(ClientSettings::default().with_variables(variables(&[("BIPLANE_KAFKA_ACKS", "0")])).is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = ClientSettings::default()
            .with_variables(variables(&[("BIPLANE_KAFKA_SASL_PASSWORD", "hunter2")]))
            .expect("allowed");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn the_authorities_are_the_systems_unless_others_are_named() {
        assert_eq!(ClientSettings::default().config(Role::Any).get("ssl.ca.location"), Some("probe"));
        let named = |name: &str| {
            let mut settings = ClientSettings::default();
            settings.properties.insert(name.to_owned(), "mine".to_owned());
            settings.config(Role::Any).get("ssl.ca.location").map(str::to_owned)
        };
        assert_eq!(named("ssl.ca.location").as_deref(), Some("mine"));
        assert_eq!(named("ssl.ca.pem"), None);
    }

    #[test]
    fn the_client_is_built_with_all_that_the_documentation_promises() {
        let built =
            ClientConfig::new().create_native_config().and_then(|config| config.get("builtin.features"));
        let features = built.expect("the client says");
        let features: Vec<_> = features.split(',').collect();
        let promised =
            ["ssl", "sasl_plain", "sasl_scram", "sasl_oauthbearer", "gzip", "snappy", "lz4", "zstd"];
        let missing: Vec<_> = promised.iter().filter(|feature| !features.contains(feature)).collect();
        assert!(missing.is_empty(), "{missing:?} are not in {features:?}");
    }

    #[test]
    fn a_property_of_consumers_is_not_given_to_producers() {
        let mut settings = ClientSettings::default();
        settings.properties.insert("fetch.min.bytes".into(), "5".into());
        assert_eq!(settings.config(Role::Producer).get("fetch.min.bytes"), None);
        assert_eq!(settings.config(Role::Consumer).get("fetch.min.bytes"), Some("5"));
    }
}
