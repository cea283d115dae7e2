//! From the bytes of a column to JSON, of the types that most tables are made of. Pure.
//!
//! Postgres sends the answers of prepared statements in the form in which it keeps them.

use std::fmt::Write as _;

use chrono::{Duration, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat};
use serde_json::{Number, Value as Json};
use sqlx::TypeInfo;
use sqlx::postgres::{PgTypeInfo, PgTypeKind};

use crate::base::Failure;

/// The most dimensions that a list has in Postgres.
const MAX_DIMENSIONS: usize = 6;

/// Types whose bytes are text.
const TEXTS: [&str; 7] = ["TEXT", "VARCHAR", "CHAR", "NAME", "UNKNOWN", "\"CHAR\"", "CITEXT"];
/// The others that are read.
const KNOWN: [&str; 17] = [
    "BOOL",
    "INT2",
    "INT4",
    "INT8",
    "OID",
    "FLOAT4",
    "FLOAT8",
    "NUMERIC",
    "UUID",
    "JSON",
    "JSONB",
    "TIMESTAMPTZ",
    "TIMESTAMP",
    "DATE",
    "TIME",
    "BYTEA",
    "VOID",
];

/// Whether values of a type can be read.
pub(super) fn is_known(of: &PgTypeInfo) -> bool {
    match of.kind() {
        PgTypeKind::Domain(base) => is_known(base),
        PgTypeKind::Array(element) => is_known(element),
        PgTypeKind::Enum(_) => true,
        PgTypeKind::Simple | PgTypeKind::Pseudo => {
            let name = of.name().to_ascii_uppercase();
            TEXTS.contains(&&*name) || KNOWN.contains(&&*name)
        }
        PgTypeKind::Composite(_) | PgTypeKind::Range(_) => false,
    }
}

/// What is said of a column whose values cannot be read.
pub(super) fn unknown(column: &str, of: &PgTypeInfo) -> Failure {
    let of = of.name().to_ascii_lowercase();
    let message = format!(
        "column `{column}` is of type `{of}`, which is not read: cast it in the statement, such as to text"
    );
    Failure::permanent("sql-type", message)
}

/// The value of bytes; `None`: they are none of that type, or the type is not read.
pub(super) fn value(of: &PgTypeInfo, bytes: &[u8]) -> Option<Json> {
    match of.kind() {
        PgTypeKind::Domain(base) => value(base, bytes),
        PgTypeKind::Array(element) => array(element, bytes),
        PgTypeKind::Enum(_) => text(bytes),
        PgTypeKind::Simple | PgTypeKind::Pseudo => plain(&of.name().to_ascii_uppercase(), bytes),
        PgTypeKind::Composite(_) | PgTypeKind::Range(_) => None,
    }
}

fn plain(name: &str, bytes: &[u8]) -> Option<Json> {
    Some(match name {
        "BOOL" => Json::Bool(*bytes.first()? != 0),
        "INT2" => i16::from_be_bytes(bytes.try_into().ok()?).into(),
        "INT4" => i32::from_be_bytes(bytes.try_into().ok()?).into(),
        "INT8" => whole(bytes)?.into(),
        "OID" => u32::from_be_bytes(bytes.try_into().ok()?).into(),
        "FLOAT4" => {
            let number = f32::from_be_bytes(bytes.try_into().ok()?);
            // By its text, so that 0.1 does not grow digits.
            number_or_text(&number.to_string())
        }
        "FLOAT8" => number_or_text(&f64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        "NUMERIC" => number_or_text(&numeric(bytes)?),
        "UUID" => uuid::Uuid::from_slice(bytes).ok()?.to_string().into(),
        "JSON" => serde_json::from_slice(bytes).ok()?,
        "JSONB" => serde_json::from_slice(bytes.strip_prefix(&[1])?).ok()?,
        "TIMESTAMPTZ" => {
            instant(whole(bytes)?, |time| time.and_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true))?
        }
        "TIMESTAMP" => instant(whole(bytes)?, |time| time.format("%Y-%m-%dT%H:%M:%S%.f").to_string())?,
        "DATE" => date(i32::from_be_bytes(bytes.try_into().ok()?))?,
        "TIME" => {
            let midnight = NaiveTime::MIN.overflowing_add_signed(Duration::microseconds(whole(bytes)?)).0;
            midnight.format("%H:%M:%S%.f").to_string().into()
        }
        "BYTEA" => {
            let mut text = String::from("\\x");
            for byte in bytes {
                let _ = write!(text, "{byte:02x}");
            }
            text.into()
        }
        "VOID" => Json::Null,
        name if TEXTS.contains(&name) => text(bytes)?,
        _ => return None,
    })
}

fn text(bytes: &[u8]) -> Option<Json> {
    Some(std::str::from_utf8(bytes).ok()?.into())
}

fn whole(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.try_into().ok()?))
}

/// A number as far as a double holds it; what is none, such as `NaN`, is text.
fn number_or_text(text: &str) -> Json {
    let number = text.parse::<Number>();
    number.map_or_else(|_| text.into(), Json::Number)
}

/// Microseconds since the year 2000.
fn instant(micros: i64, shown: impl Fn(NaiveDateTime) -> String) -> Option<Json> {
    Some(match micros {
        i64::MAX => "infinity".into(),
        i64::MIN => "-infinity".into(),
        micros => {
            shown(epoch()?.and_time(NaiveTime::MIN).checked_add_signed(Duration::microseconds(micros))?)
                .into()
        }
    })
}

/// Days since the year 2000.
fn date(days: i32) -> Option<Json> {
    Some(match days {
        i32::MAX => "infinity".into(),
        i32::MIN => "-infinity".into(),
        days => epoch()?.checked_add_signed(Duration::days(days.into()))?.to_string().into(),
    })
}

fn epoch() -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(2000, 1, 1)
}

/// Groups of four digits behind how many there are, the weight of the first, the sign and the scale.
fn numeric(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader(bytes);
    let (count, weight) = (reader.short()?, reader.short()?);
    let (sign, scale) = (reader.short()?, usize::try_from(reader.short()?).ok()?);
    match u16::from_ne_bytes(sign.to_ne_bytes()) {
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("infinity".to_owned()),
        0xF000 => return Some("-infinity".to_owned()),
        _ => {}
    }
    let groups = (0..count).map(|_| reader.short()).collect::<Option<Vec<_>>>()?;
    let group = |weight_of: i32| {
        let place = usize::try_from(i32::from(weight) - weight_of).ok();
        place.and_then(|place| groups.get(place).copied()).unwrap_or_default()
    };
    let mut text = String::from(if sign == 0 { "" } else { "-" });
    let mut before = String::new();
    for at in (0..=i32::from(weight).max(0)).rev() {
        let _ = write!(before, "{:04}", group(at));
    }
    let before = before.trim_start_matches('0');
    text.push_str(if before.is_empty() { "0" } else { before });
    if scale > 0 {
        let mut behind = String::new();
        for at in 1..=i32::try_from(scale.div_ceil(4)).ok()? {
            let _ = write!(behind, "{:04}", group(-at));
        }
        text.push('.');
        text.push_str(behind.get(..scale)?);
    }
    Some(text)
}

/// Its dimensions, and then its elements in a row.
fn array(element: &PgTypeInfo, bytes: &[u8]) -> Option<Json> {
    let mut reader = Reader(bytes);
    let dimensions = usize::try_from(reader.int()?).ok().filter(|count| *count <= MAX_DIMENSIONS)?;
    let _has_nulls = reader.int()?;
    let _element = reader.int()?;
    let mut lengths = Vec::with_capacity(dimensions);
    for _ in 0..dimensions {
        lengths.push(usize::try_from(reader.int()?).ok()?);
        let _first_index = reader.int()?;
    }
    if lengths.is_empty() { Some(Json::Array(Vec::new())) } else { nested(element, &lengths, &mut reader) }
}

fn nested(element: &PgTypeInfo, lengths: &[usize], reader: &mut Reader<'_>) -> Option<Json> {
    let Some((length, rest)) = lengths.split_first() else {
        return Some(match reader.int()? {
            -1 => Json::Null,
            length => value(element, reader.take(usize::try_from(length).ok()?)?)?,
        });
    };
    Some(Json::Array((0..*length).map(|_| nested(element, rest, reader)).collect::<Option<_>>()?))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn short(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_numeric(parts: [i16; 4], groups: &[i16]) -> Option<String> {
        let bytes: Vec<u8> = parts.iter().chain(groups).flat_map(|part| part.to_be_bytes()).collect();
        numeric(&bytes)
    }

    #[test]
    fn numbers_of_any_length_are_read_by_their_groups() {
        assert_eq!(of_numeric([0, 0, 0, 0], &[]).as_deref(), Some("0"));
        assert_eq!(of_numeric([2, 1, 0, 0], &[12, 345]).as_deref(), Some("120345"));
        assert_eq!(of_numeric([2, 0, 0x4000, 2], &[7, 500]).as_deref(), Some("-7.05"));
        assert_eq!(of_numeric([1, -2, 0, 8], &[1]).as_deref(), Some("0.00000001"));
        assert_eq!(of_numeric([1, 1, 0, 0], &[3]).as_deref(), Some("30000"));
        assert_eq!(
            of_numeric([0, 0, i16::from_ne_bytes(0xC000_u16.to_ne_bytes()), 0], &[]).as_deref(),
            Some("NaN")
        );
        assert_eq!(of_numeric([2, 0, 0, 0], &[1]), None, "a group is missing");
    }

    #[test]
    fn times_count_from_the_year_2000() {
        let shown = |micros| instant(micros, |time| time.to_string());
        assert_eq!(shown(0), Some("2000-01-01 00:00:00".into()));
        assert_eq!(shown(i64::MAX), Some("infinity".into()));
        assert_eq!(shown(i64::MAX - 1), None, "no calendar goes that far");
        assert_eq!([date(-1), date(i32::MIN)], [Some("1999-12-31".into()), Some("-infinity".into())]);
        assert_eq!(plain("TIME", &1_500_000_i64.to_be_bytes()), Some("00:00:01.500".into()));
    }

    #[test]
    fn bytes_that_are_none_of_the_type_are_no_value() {
        for name in KNOWN.into_iter().filter(|name| !["BYTEA", "VOID"].contains(name)) {
            assert_eq!(plain(name, &[]), None, "{name}");
        }
        assert_eq!(plain("TEXT", b"\xff"), None);
        assert_eq!(plain("INTERVAL", &[0; 16]), None);
        assert_eq!(plain("FLOAT8", &f64::NAN.to_be_bytes()), Some("NaN".into()));
    }
}
