//! Findings for machines. The field names are an interface: others script against them.

use serde_json::{Map, Value as Json, json};

use super::{Diagnostic, Label, SourceMap, places};

/// One finding with the fields `code`, `severity`, `message`, `file`, `line`, `column`, `end_line`,
/// `end_column`, `label`, `help` and `spans`; the place's fields are null where there is none.
pub fn to_json(finding: &Diagnostic, sources: &SourceMap) -> Json {
    let mut object = Map::new();
    object.insert("code".into(), finding.code.name.into());
    object.insert("severity".into(), finding.severity().as_str().into());
    object.insert("message".into(), finding.message.clone().into());
    insert_place(&mut object, finding.primary.as_ref(), sources);
    object.insert("help".into(), json!(finding.help));
    let spans = finding.related.iter().map(|label| {
        let mut span = Map::new();
        insert_place(&mut span, Some(label), sources);
        Json::Object(span)
    });
    object.insert("spans".into(), spans.collect());
    Json::Object(object)
}

fn insert_place(object: &mut Map<String, Json>, label: Option<&Label>, sources: &SourceMap) {
    let place = label.map(|label| places::of(label.span, sources));
    let (file, start, end) = match place {
        Some((file, start, end)) => (Some(file), Some(start), Some(end)),
        None => (None, None, None),
    };
    object.insert("file".into(), file.into());
    object.insert("line".into(), start.map(|at| at.line).into());
    object.insert("column".into(), start.map(|at| at.column).into());
    object.insert("end_line".into(), end.map(|at| at.line).into());
    object.insert("end_column".into(), end.map(|at| at.column).into());
    object.insert("label".into(), label.map(|label| label.text.clone()).into());
}
