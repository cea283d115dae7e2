//! Findings as a SARIF 2.1.0 log, which code scanning services read.

use serde_json::{Map, Value as Json, json};

use super::{Code, Diagnostic, Label, SourceMap, places};

/// The log of one run, with a rule for each code that was found; `prefix` leads from the repository to
/// the config root. Columns count characters.
pub fn to_sarif(findings: &[Diagnostic], sources: &SourceMap, prefix: &str) -> Json {
    let mut rules: Vec<&Code> = Vec::new();
    let results: Vec<Json> = findings
        .iter()
        .map(|finding| {
            let rule = rules.iter().position(|code| code.name == finding.code.name).unwrap_or_else(|| {
                rules.push(finding.code);
                rules.len() - 1
            });
            result(finding, rule, sources, prefix)
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "biplane",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.into_iter().map(rule).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{ "executionSuccessful": true }],
            "results": results,
        }],
    })
}

fn rule(code: &Code) -> Json {
    json!({
        "id": code.name,
        "shortDescription": { "text": code.title },
        "fullDescription": { "text": code.why },
        "help": { "text": code.page() },
        "defaultConfiguration": { "level": code.severity.as_str() },
    })
}

fn result(finding: &Diagnostic, rule: usize, sources: &SourceMap, prefix: &str) -> Json {
    let text = std::iter::once(&finding.message).chain(&finding.help);
    let text = text.map(String::as_str).collect::<Vec<_>>().join("\n");
    let mut result = Map::new();
    result.insert("ruleId".into(), finding.code.name.into());
    result.insert("ruleIndex".into(), rule.into());
    result.insert("level".into(), finding.severity().as_str().into());
    result.insert("message".into(), json!({ "text": text }));
    let place = |label: &Label| location(label, sources, prefix);
    result.insert("locations".into(), finding.primary.iter().map(place).collect());
    if !finding.related.is_empty() {
        result.insert("relatedLocations".into(), finding.related.iter().map(place).collect());
    }
    result.into()
}

fn location(label: &Label, sources: &SourceMap, prefix: &str) -> Json {
    let (path, start, end) = places::of(label.span, sources);
    let mut location = json!({ "physicalLocation": {
        "artifactLocation": { "uri": uri(&format!("{prefix}{path}")) },
        "region": {
            "startLine": start.line,
            "startColumn": start.column,
            "endLine": end.line,
            "endColumn": end.column,
        },
    }});
    if !label.text.is_empty() {
        location["message"] = json!({ "text": label.text });
    }
    location
}

/// A path as a relative reference: whatever is no plain character of a path is percent-encoded.
fn uri(path: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const PATH: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(path, PATH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Span, codes};

    #[test]
    fn findings_of_one_code_share_its_rule_and_paths_are_references() {
        let mut sources = SourceMap::default();
        let file = sources.add("pipelines/a b.toml", "é = 1\nb = 2\n");
        let finding = |at: std::ops::Range<usize>| {
            Diagnostic::new(&codes::KEY_UNKNOWN, "m").at(Span::new(file, at), "here").help("h")
        };
        let log = to_sarif(&[finding(0..2), finding(7..8)], &sources, "x/");
        let run = &log["runs"][0];
        assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), 1);
        assert_eq!(run["results"][1]["ruleIndex"], 0);
        assert_eq!(run["results"][0]["message"]["text"], "m\nh");
        let place = &run["results"][0]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "x/pipelines/a%20b.toml");
        assert_eq!(place["region"], json!({"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 2}));
    }
}
