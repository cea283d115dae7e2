//! What steps gave, and how it is written down between two attempts.

use std::io::{self, Write};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

/// The most that one job's checkpoints hold together, in bytes of their text; what comes after is not kept.
pub const MAX_KEPT: usize = 4 << 20;

/// What stands beside each of several: a comma, or one of the brackets around them.
const BESIDE: usize = 2;

/// What a step gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The step's name.
    pub step: String,
    /// What tells the step and all before it from another list of steps.
    pub print: u64,
    /// The value behind it, where the step changed it.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// What stands under `steps.NAME`, where the step has a result.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
}

impl Checkpoint {
    /// How many bytes it takes among others, as text.
    pub(super) fn bytes(&self) -> usize {
        let mut count = Count(BESIDE);
        // Nothing of it can fail: its keys are texts, and so is where it goes.
        let _ = serde_json::to_writer(&mut count, self);
        count.0
    }
}

/// Checkpoints as text of at most [`MAX_KEPT`] bytes: the first ones, since each rests on those before it.
pub fn write(checkpoints: &[Checkpoint]) -> String {
    let mut text = String::from("[");
    for checkpoint in checkpoints {
        let Ok(one) = serde_json::to_string(checkpoint) else { break };
        if text.len() + one.len() + BESIDE > MAX_KEPT {
            break;
        }
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&one);
    }
    text.push(']');
    text
}

/// What [`write`] wrote; nothing where that was another version's, which is done anew.
pub fn read(text: &str) -> Vec<Checkpoint> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Counts what is written.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A null that was written is no absence.
fn said<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checkpoint(value: Option<Json>, result: Option<Json>) -> Checkpoint {
        Checkpoint { step: "ask".to_owned(), print: u64::MAX, value, result }
    }

    #[test]
    fn what_was_written_is_read_to_the_byte() {
        let all = [
            checkpoint(Some(json!(null)), None),
            checkpoint(None, Some(json!({"a": "x\0y", "n": 12_345_678_901_234_567_890_u64}))),
        ];
        assert_eq!(read(&write(&all)), all);
        assert!(write(&all).len() <= all.iter().map(Checkpoint::bytes).sum());
        assert_eq!((write(&[]), read("of another version")), ("[]".to_owned(), Vec::new()));
    }

    #[test]
    fn what_is_too_large_and_what_rests_on_it_is_left_out() {
        let small = checkpoint(None, Some(json!("x")));
        // A NUL takes six bytes once it is written.
        let large = checkpoint(Some(json!("\0".repeat(MAX_KEPT / 6))), None);
        let text = write(&[small.clone(), large, small.clone()]);
        assert_eq!(read(&text), [small]);
        let fits = checkpoint(Some(json!("x".repeat(MAX_KEPT - 100))), None);
        assert!(write(&[fits.clone(), fits.clone()]).len() <= MAX_KEPT);
        assert_eq!(read(&write(&[fits.clone(), fits.clone()])), [fits]);
    }
}
