//! What became of the records that a replay has read, counted by kind.

use serde::{Deserialize, Serialize};

/// What became of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    /// It was sent.
    Sent,
    /// The filters do not mean it.
    Unselected,
    /// It was replayed or discarded before.
    Settled,
    /// It was sent again as often as is allowed.
    Limit,
    /// Parts of it were left out when it was dead-lettered.
    Truncated,
    /// Its stage is not in the files.
    StageGone,
    /// The expression reads its value, which cannot be decoded.
    Undecodable,
    /// The expression failed on it.
    Undecided,
    /// The target refused it for its size.
    TooLarge,
}

/// How many records each fate met. Sums are of the records below a cursor, so that they agree with it
/// after any end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records that were looked at.
    pub read: u64,
    /// Of these, those that were sent and acknowledged.
    pub sent: u64,
    /// Those that the filters do not mean.
    pub unselected: u64,
    /// Those that were replayed or discarded before.
    pub settled: u64,
    /// Those that were sent again as often as is allowed.
    pub limit: u64,
    /// Those of which parts were left out when they were dead-lettered.
    pub truncated: u64,
    /// Those whose stage is not in the files.
    pub stage_gone: u64,
    /// Those whose value the expression reads and nobody can decode.
    pub undecodable: u64,
    /// Those on which the expression failed.
    pub undecided: u64,
    /// Those that the target refused for their size.
    pub too_large: u64,
}

impl Counts {
    /// One more.
    pub fn add(&mut self, fate: Fate) {
        self.read += 1;
        *match fate {
            Fate::Sent => &mut self.sent,
            Fate::Unselected => &mut self.unselected,
            Fate::Settled => &mut self.settled,
            Fate::Limit => &mut self.limit,
            Fate::Truncated => &mut self.truncated,
            Fate::StageGone => &mut self.stage_gone,
            Fate::Undecodable => &mut self.undecodable,
            Fate::Undecided => &mut self.undecided,
            Fate::TooLarge => &mut self.too_large,
        } += 1;
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            read: self.read + other.read,
            sent: self.sent + other.sent,
            unselected: self.unselected + other.unselected,
            settled: self.settled + other.settled,
            limit: self.limit + other.limit,
            truncated: self.truncated + other.truncated,
            stage_gone: self.stage_gone + other.stage_gone,
            undecodable: self.undecodable + other.undecodable,
            undecided: self.undecided + other.undecided,
            too_large: self.too_large + other.too_large,
        }
    }

    /// How many were meant, sent or not.
    pub fn selected(&self) -> u64 {
        self.sent + self.left()
    }

    /// How many were meant and could not be sent.
    pub fn left(&self) -> u64 {
        self.limit + self.truncated + self.stage_gone + self.too_large
    }
}
