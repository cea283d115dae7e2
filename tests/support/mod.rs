//! What integration tests stand on: real Kafka and Postgres, the built binary, waiting with a deadline.
//! Nothing here asserts behaviour of the engine; a helper that cannot do its work panics and says why.

// Each module of tests uses its own share of these helpers, and none is seen outside the test binary.
#![allow(dead_code, missing_docs, unreachable_pub, unused_imports)]

mod acls;
pub mod commands;
mod dev;
mod engine;
pub mod gate;
mod kafka;
pub mod otlp;
mod pgbouncer;
mod ports;
mod postgres;
mod private_cluster;
mod private_kafka;
mod random;
mod raw_produce;
mod relay;
mod secured_kafka;
pub mod stub;
pub mod tls;
mod wait;

pub use dev::Dev;
pub use engine::{ConfigRoot, Engine, Http, request, signal};
pub use kafka::{Cluster, Message, brokers, unique};
pub use pgbouncer::PgBouncer;
pub use postgres::{PrivatePostgres, TestDatabase, block_on, connect, database_url};
pub use private_cluster::PrivateCluster;
pub use private_kafka::PrivateKafka;
pub use random::Random;
pub use raw_produce::produce_with_header;
pub use relay::Relay;
pub use secured_kafka::SecuredKafka;
pub use wait::{breathe, holds_within, wait_for, wait_until};
