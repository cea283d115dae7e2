//! The integration tests: one binary, a module a behaviour. `tests/run` gives them a real Kafka.

#[path = "../support/mod.rs"]
mod support;

mod api;
mod architecture;
mod batch;
mod broker;
mod checks;
mod cli;
mod config;
mod control;
mod databases;
mod dev;
mod dlqs;
mod edits;
mod example;
mod explain;
mod faults;
mod formats;
mod harness;
mod job_faults;
mod job_steps;
mod jobs;
mod jobs_run;
mod kill_run;
mod kills;
mod oauth;
mod offsets;
mod once_run;
mod online;
mod panics;
mod parking;
mod poison;
mod rates;
mod rebalances;
mod replays;
mod schema;
mod sizes;
mod sql;
mod stages;
mod store;
mod tls;
mod topics;
mod traces;
mod working;
