//! Biplane: declarative pipelines on Kafka and durable jobs on Postgres.
//!
//! The modules in reading order; each may import only those above it (see `ARCHITECTURE.md`).

pub mod base;
pub mod broker;
pub mod calendar;
pub mod catalog;
pub mod cli;
pub mod diag;
pub mod engine;
pub mod events;
pub mod expr;
pub mod http;
pub mod jobs;
pub mod record;
pub mod spec;
pub mod steps;
pub mod store;
pub mod telemetry;
