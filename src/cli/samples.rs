//! Sample records: what `dev --sample` feeds, read from `samples/TOPIC.jsonl` of a config root.
//!
//! A line is `{"key": …, "value": …}` for a good record, `{"key": …, "raw": "…"}` for bytes that are
//! no JSON, `"value": null` for a tombstone; `headers` maps names to texts.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use indexmap::IndexMap;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// One record to feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// The topic's name in the files.
    pub(super) topic: Arc<str>,
    pub(super) key: Option<String>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    /// The outer `None`: not written; the inner: null.
    #[serde(default, deserialize_with = "written")]
    value: Option<Option<Box<RawValue>>>,
    raw: Option<String>,
    #[serde(default)]
    headers: IndexMap<String, String>,
}

/// All samples below `root`, file by file in the order of their names; none where there is no folder.
pub(super) fn read(root: &Path) -> anyhow::Result<Vec<Sample>> {
    let folder = root.join("samples");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    let mut samples = Vec::new();
    for path in paths {
        let topic: Arc<str> = path.file_stem().unwrap_or_default().to_string_lossy().into();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = || format!("{}:{}", path.display(), index + 1);
            samples.push(parse(&topic, line).with_context(place)?);
        }
    }
    Ok(samples)
}

fn parse(topic: &Arc<str>, line: &str) -> anyhow::Result<Sample> {
    let line: Line = serde_json::from_str(line)?;
    let value = match (line.value, line.raw) {
        (Some(value), None) => value.map(|value| value.get().as_bytes().to_vec()),
        (None, Some(raw)) => Some(raw.into_bytes()),
        _ => bail!("a sample has either `value` or `raw`"),
    };
    Ok(Sample { topic: Arc::clone(topic), key: line.key, value, headers: line.headers.into_iter().collect() })
}

fn written<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Option<Box<RawValue>>>, D::Error> {
    let raw = Box::<RawValue>::deserialize(input)?;
    Ok(Some((raw.get() != "null").then_some(raw)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> anyhow::Result<Sample> {
        parse(&Arc::from("t"), line)
    }

    #[test]
    fn a_line_is_json_raw_bytes_or_a_tombstone() {
        let good = one(r#"{"key": "k", "value": {"b": 1, "a": 2}, "headers": {"h": "1"}}"#).unwrap();
        assert_eq!(good.value.as_deref(), Some(br#"{"b": 1, "a": 2}"#.as_slice()), "as it is written");
        assert_eq!(good.headers, [("h".to_owned(), "1".to_owned())]);
        assert_eq!(
            one(r#"{"key": null, "raw": "{oops"}"#).unwrap().value.as_deref(),
            Some(b"{oops".as_slice())
        );
        assert_eq!(one(r#"{"key": "k", "value": null}"#).unwrap().value, None);
        assert!(one(r#"{"key": "k"}"#).is_err());
        assert!(one(r#"{"key": "k", "value": 1, "raw": "1"}"#).is_err());
        assert!(one(r#"{"keys": "k", "value": 1}"#).is_err());
    }

    #[test]
    fn a_bad_line_is_named_by_file_and_number() {
        let root = tempfile::tempdir().unwrap();
        assert!(read(root.path()).unwrap().is_empty());
        fs::create_dir(root.path().join("samples")).unwrap();
        fs::write(root.path().join("samples/a.b.jsonl"), "{\"key\":\"k\",\"value\":1}\n\nnope\n").unwrap();
        let error = format!("{:#}", read(root.path()).unwrap_err());
        assert!(error.contains("a.b.jsonl:3: "), "{error}");
    }
}
