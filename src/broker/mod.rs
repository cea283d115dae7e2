//! Kafka: the only module that names the client library.
//!
//! [`Consumer`] and [`Producer`] serve the stages, [`Admin`] topics and groups, [`MockKafka`]
//! development and tests. Nothing here knows of stages, policies or catalogs:
//! callers say what to fetch, send and commit, and get typed outcomes back.

mod admin;
mod commit;
mod consumer;
mod context;
mod error;
mod groups;
mod message;
mod mock;
mod oauth;
mod producer;
mod properties;
mod settings;
#[cfg(test)]
mod tests;
mod transactions;

pub use admin::{Admin, TopicRequest, TopicSetting, TopicSettings, TopicShape};
pub use commit::{Commit, Committed};
pub use consumer::{Consumer, ConsumerOptions, Polled, Rebalance, StartAt, TopicPartition};
pub use error::{BrokerError, ConsumeError, SendError};
pub use groups::{Group, Member};
pub use message::{Fetched, OutHeaders, Outgoing};
pub use mock::{MOCK_PARTITION_BYTES, MockError, MockKafka, MockRequest};
pub use producer::{Compression, DeliverySink, Producer, ProducerOptions, Sink, TOKEN_LIMIT, TopicRoute};
pub use properties::{PROPERTIES, Property, Role};
pub use settings::ClientSettings;
pub use transactions::{Membership, TransactionOptions, TransactionState, Transactions};
