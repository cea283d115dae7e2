//! The event plane: stage runners that read topics, run steps and write topics.

mod again;
mod assign;
pub mod beyond;
mod breaker;
mod budget;
mod carried;
mod commits;
mod dead_letters;
mod dedupe;
mod delivery;
mod effects;
mod handover;
mod hold;
mod in_database;
mod inbox;
mod inflight;
mod lag;
mod lanes;
pub mod letters;
mod limits;
mod lost;
mod metadata;
mod offsets;
mod outages;
mod pace;
mod parked;
mod partitions;
mod passed;
mod program;
mod rate;
mod reach;
mod recent;
mod refused;
mod reset;
mod rests;
mod runner;
mod settle;
mod sources;
mod spans;
mod stage;
mod starts;
mod status;
mod throttle;
mod tombstones;
mod transactional;
mod watchdog;

pub use budget::Budget;
pub use dedupe::marks_topic;
pub use delivery::{Producers, compression};
pub use hold::Holds;
pub use reset::{Reset, WasReset};
pub use settle::ID_HEADER;
pub use sources::{parking_topic, replay_topic};
pub use stage::{LEAVE_LIMIT, StageHandle, StageRuntime, StartError, prove, start};
pub use status::{BreakerStatus, DedupeStatus, ParkedStatus, PartitionStatus, StageStatus};

#[cfg(test)]
mod fate_tests;
#[cfg(test)]
mod program_tests;
#[cfg(test)]
mod tests;
