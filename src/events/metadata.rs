//! What a commit says beyond its offset, so that a restart redoes almost nothing: which later
//! records are finished, how many attempts the unfinished ones have spent, how many partitions the
//! topic had when the group began, and how many of its records are parked.
//!
//! A broker keeps at most 4,096 bytes of text a partition. The text is `b1.` and unpadded URL-safe
//! Base64 of: the base offset (8 bytes, big endian), a kind (0 runs, 1 bitmap), the length of the
//! set (varint), the set, the attempts (count, then offset delta and attempts, all varints), the number
//! of partitions where it is known or more follows (varint, else 0), what is parked where anything is (count
//! and offset, varints), and a CRC-32C of all before it. A kibibyte is kept for attempts, which is room for 340 to 500 records, and
//! what the set leaves of the rest is theirs too, up to 1,000 or 1,500. Whatever does not fit is left
//! out, highest offsets first: such records are done again, or start their count again. Whatever cannot
//! be trusted (another base, version or checksum) is ignored as a whole. Varints are LEB128.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

const PREFIX: &str = "b1.";
/// The limit on raw bytes, so that prefix and Base64 stay within 4,096 characters.
const MAX_RAW: usize = (4_096 - 3) / 4 * 3;
/// This part of it goes to attempts where there are so many, however much is finished.
const ATTEMPTS: usize = 1_024;
const CHECKSUM: usize = 4;
/// The base, the kind and the length of the set.
const HEAD: usize = 8 + 1 + 3;
/// The number of attempts that follow.
const COUNT: usize = 3;
/// The number of partitions.
const FOUNDED: usize = 5;
/// What is parked.
const PARKED: usize = 5 + 9;
/// All that is always there, or may be.
const FIXED: usize = CHECKSUM + HEAD + COUNT + FOUNDED + PARKED;

/// What is finished among so many offsets from the base on always fits, however it lies.
pub(super) const MAX_SPAN: i64 = ((MAX_RAW - FIXED - ATTEMPTS) * 8) as i64;

/// What lies beyond a committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Beyond {
    /// Finished offsets as inclusive runs, rising and apart.
    pub(super) finished: Vec<(i64, i64)>,
    /// Attempts that unfinished records have spent.
    pub(super) attempts: BTreeMap<i64, u32>,
    /// How many partitions the topic had when the group began, where that decides where one starts.
    pub(super) founded: Option<i32>,
    /// Which of its records are parked, where any is.
    pub(super) parked: Option<Outstanding>,
}

/// Records of one partition that are parked: done there, and to be done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outstanding {
    /// How many.
    pub(super) records: u32,
    /// None of them had a lower offset.
    pub(super) from: i64,
}

impl Beyond {
    /// Whether `offset` is finished.
    pub(super) fn is_finished(&self, offset: i64) -> bool {
        let index = self.finished.partition_point(|(_, last)| *last < offset);
        self.finished.get(index).is_some_and(|(first, _)| *first <= offset)
    }

    /// Nothing lies beyond any more: the offsets are another topic's. What is parked still is.
    pub(super) fn forget(&mut self) {
        self.finished.clear();
        self.attempts.clear();
    }

    /// The text to commit with offset `base`; empty where there is nothing to say.
    pub(super) fn encode(&self, base: i64) -> String {
        if *self == Self::default() {
            return String::new();
        }
        let all = MAX_RAW - FIXED;
        let room = all - attempts_size(&self.attempts, base).min(ATTEMPTS);
        let runs = encode_runs(&self.finished, base, room);
        let bitmap = encode_bitmap(&self.finished, base, room);
        let (kind, set) = match bitmap {
            Some(bitmap) if bitmap.len() < runs.bytes.len() || !runs.whole => (1, bitmap),
            _ => (0, runs.bytes),
        };
        let attempts = encode_attempts(&self.attempts, base, all - set.len());
        let mut raw = base.to_be_bytes().to_vec();
        raw.push(kind);
        put(&mut raw, set.len() as u64);
        raw.extend_from_slice(&set);
        raw.extend_from_slice(&attempts);
        if self.founded.is_some() || self.parked.is_some() {
            put(&mut raw, u64::from(self.founded.unwrap_or_default().unsigned_abs()));
        }
        if let Some(Outstanding { records, from }) = self.parked {
            put(&mut raw, u64::from(records));
            put(&mut raw, from.unsigned_abs());
        }
        raw.extend_from_slice(&crc32c::crc32c(&raw).to_be_bytes());
        format!("{PREFIX}{}", BASE64.encode(raw))
    }

    /// Reads what was committed with offset `base`; `None` where it cannot be trusted.
    pub(super) fn decode(text: &str, base: i64) -> Option<Self> {
        let raw = BASE64.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (body, checksum) = raw.split_last_chunk::<CHECKSUM>()?;
        if crc32c::crc32c(body).to_be_bytes() != *checksum {
            return None;
        }
        let (written, mut rest) = body.split_first_chunk::<8>()?;
        if i64::from_be_bytes(*written) != base {
            return None;
        }
        let (kind, tail) = rest.split_first()?;
        rest = tail;
        let length = usize::try_from(take(&mut rest)?).ok()?;
        let (set, mut rest) = rest.split_at_checked(length)?;
        let finished = match kind {
            0 => decode_runs(set, base)?,
            1 => decode_bitmap(set, base),
            _ => return None,
        };
        let mut attempts = BTreeMap::new();
        let mut offset = base;
        for _ in 0..take(&mut rest)? {
            offset = offset.checked_add_unsigned(take(&mut rest)?)?;
            attempts.insert(offset, u32::try_from(take(&mut rest)?).ok()?);
        }
        let founded = match rest.is_empty() {
            true => None,
            false => Some(i32::try_from(take(&mut rest)?).ok()?).filter(|count| *count > 0),
        };
        let parked = match rest.is_empty() {
            true => None,
            false => {
                let records = u32::try_from(take(&mut rest)?).ok()?;
                Some(Outstanding { records, from: i64::try_from(take(&mut rest)?).ok()? })
            }
        };
        rest.is_empty().then_some(Self { finished, attempts, founded, parked })
    }
}

struct Runs {
    bytes: Vec<u8>,
    whole: bool,
}

/// Alternating lengths from `base` on: unfinished, finished, unfinished, …
fn encode_runs(finished: &[(i64, i64)], base: i64, room: usize) -> Runs {
    let mut bytes = Vec::new();
    let mut next = base;
    for (first, last) in finished {
        let before = bytes.len();
        put(&mut bytes, first.abs_diff(next));
        put(&mut bytes, last.abs_diff(*first) + 1);
        if bytes.len() > room {
            bytes.truncate(before);
            return Runs { bytes, whole: false };
        }
        next = last + 1;
    }
    Runs { bytes, whole: true }
}

fn decode_runs(mut set: &[u8], base: i64) -> Option<Vec<(i64, i64)>> {
    let mut runs = Vec::new();
    let mut next = base;
    while !set.is_empty() {
        let first = next.checked_add_unsigned(take(&mut set)?)?;
        next = first.checked_add_unsigned(take(&mut set)?)?;
        if next <= first {
            return None;
        }
        runs.push((first, next - 1));
    }
    Some(runs)
}

/// One bit an offset from `base` on, lowest first; `None` where there is nothing finished.
fn encode_bitmap(finished: &[(i64, i64)], base: i64, room: usize) -> Option<Vec<u8>> {
    let last = finished.last()?.1.abs_diff(base) as usize;
    let mut bytes = vec![0u8; (last / 8 + 1).min(room)];
    for (first, last) in finished {
        for offset in *first..=*last {
            let bit = offset.abs_diff(base) as usize;
            match bytes.get_mut(bit / 8) {
                Some(byte) => *byte |= 1 << (bit % 8),
                None => return Some(bytes),
            }
        }
    }
    Some(bytes)
}

fn decode_bitmap(set: &[u8], base: i64) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for bit in (0..set.len() * 8).filter(|bit| set[bit / 8] >> (bit % 8) & 1 == 1) {
        let offset = base.saturating_add_unsigned(bit as u64);
        match runs.last_mut() {
            Some(run) if run.1 + 1 == offset => run.1 = offset,
            _ => runs.push((offset, offset)),
        }
    }
    runs
}

/// How many bytes all attempts take, without their number.
fn attempts_size(attempts: &BTreeMap<i64, u32>, base: i64) -> usize {
    let size = |value: u64| (64 - (value | 1).leading_zeros()).div_ceil(7) as usize;
    let before = std::iter::once(base).chain(attempts.keys().copied());
    let sizes = attempts.iter().zip(before);
    sizes.map(|((offset, spent), before)| size(offset.abs_diff(before)) + size(u64::from(*spent))).sum()
}

fn encode_attempts(attempts: &BTreeMap<i64, u32>, base: i64, room: usize) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count = 0u64;
    let mut previous = base;
    for (offset, spent) in attempts {
        let before = entries.len();
        put(&mut entries, offset.abs_diff(previous));
        put(&mut entries, u64::from(*spent));
        if entries.len() > room {
            entries.truncate(before);
            break;
        }
        previous = *offset;
        count += 1;
    }
    let mut bytes = Vec::new();
    put(&mut bytes, count);
    bytes.extend_from_slice(&entries);
    bytes
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[path = "tests/metadata.rs"]
mod tests;
