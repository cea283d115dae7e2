//! A second reader of what a commit says beyond its offset, written from the format's description, so
//! that the engine's own is not its only judge.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The finished offsets as inclusive runs; none where there is no metadata.
pub(super) fn finished(text: &str, base: i64) -> Vec<(i64, i64)> {
    let Some(text) = text.strip_prefix("b1.") else { return Vec::new() };
    let raw = URL_SAFE_NO_PAD.decode(text).expect("Base64");
    let (body, checksum) = raw.split_at(raw.len() - 4);
    assert_eq!(crc32c::crc32c(body).to_be_bytes(), checksum, "the checksum");
    assert_eq!(body[..8], base.to_be_bytes(), "the base");
    let mut rest = &body[9..];
    let length = varint(&mut rest) as usize;
    match body[8] {
        0 => runs(&rest[..length], base),
        _ => bitmap(&rest[..length], base),
    }
}

fn runs(mut set: &[u8], base: i64) -> Vec<(i64, i64)> {
    let (mut found, mut next) = (Vec::new(), base);
    while !set.is_empty() {
        let first = next + varint(&mut set) as i64;
        next = first + varint(&mut set) as i64;
        found.push((first, next - 1));
    }
    found
}

fn bitmap(set: &[u8], base: i64) -> Vec<(i64, i64)> {
    let bits = (0..set.len() * 8).filter(|bit| set[bit / 8] >> (bit % 8) & 1 == 1);
    bits.map(|bit| (base + bit as i64, base + bit as i64)).collect()
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
