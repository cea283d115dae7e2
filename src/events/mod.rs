//! The event plane: stage runners that read topics, run steps and write topics.

mod assign;
mod budget;
mod carried;
mod commits;
mod dead_letters;
mod delivery;
mod handover;
mod inbox;
mod inflight;
mod lag;
mod lanes;
mod limits;
mod lost;
mod metadata;
mod offsets;
mod pace;
mod partitions;
mod program;
mod refused;
mod rests;
mod runner;
mod settle;
mod stage;
mod starts;
mod status;
mod tombstones;

pub use budget::Budget;
pub use delivery::Producers;
pub use stage::{LEAVE_LIMIT, StageHandle, StageRuntime, StartError, prove, start};
pub use status::{PartitionStatus, StageStatus};

#[cfg(test)]
mod fate_tests;
#[cfg(test)]
mod program_tests;
#[cfg(test)]
mod tests;
