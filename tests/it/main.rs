//! The integration tests: one binary, a module a behaviour. `tests/run` gives them a real Kafka.

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod cli;
mod dev;
mod config;
mod harness;
