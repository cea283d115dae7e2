//! What operators have said, kept in one compacted topic that outlives all engines: which stages are
//! paused, which dead letters are settled, what replays there are, where partitions shall go on.
//!
//! Needs no database. Each entry is a record whose key is its kind and name and whose value is JSON;
//! the newest of a key counts, and a null ends it. What another version of Biplane wrote in another way
//! is left alone. This decides nothing about records: stages are only told.

mod follow;
mod pauses;
mod resets;
mod settled;
mod topic;

pub use pauses::{Pause, Resume, pause, pauses, resume};
pub use resets::{Done, reset};
pub use settled::{Settled, SettledState, SettledWriter, forget_behind};
pub use topic::{ControlError, Writer, read, topic};
