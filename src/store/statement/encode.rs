//! From JSON to the text that the input function of a type reads. Pure.

use serde_json::Value as Json;

use crate::base::Failure;

/// What a value is to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Takes {
    /// A list.
    pub(super) list: bool,
    /// JSON, or a list of it.
    pub(super) json: bool,
}

/// The text of a value; `None`: null.
pub(super) fn text(value: &Json, takes: Takes, name: &str) -> Result<Option<String>, Failure> {
    let text = match value {
        Json::Null => return Ok(None),
        Json::Array(items) if takes.list => array(items, takes, name)?,
        value if takes.json && !takes.list => value.to_string(),
        value => plain(value, name)?,
    };
    // Postgres keeps none, and would refuse the whole message.
    if text.contains('\0') {
        return Err(misfit(name, "holds a NUL, which Postgres does not keep"));
    }
    Ok(Some(text))
}

fn plain(value: &Json, name: &str) -> Result<String, Failure> {
    match value {
        Json::String(text) => Ok(text.clone()),
        Json::Bool(_) | Json::Number(_) => Ok(value.to_string()),
        Json::Array(_) => Err(misfit(name, "is a list, and the statement takes none there")),
        Json::Object(_) => Err(misfit(name, "is an object, and the statement takes no JSON there")),
        Json::Null => Err(misfit(name, "is null")),
    }
}

/// `{"a","b",NULL}`.
fn array(items: &[Json], takes: Takes, name: &str) -> Result<String, Failure> {
    let mut text = String::from("{");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        match item {
            Json::Null => text.push_str("NULL"),
            // A list of lists; what is JSON is one element each.
            Json::Array(items) if !takes.json => text.push_str(&array(items, takes, name)?),
            item => {
                let element = if takes.json { item.to_string() } else { plain(item, name)? };
                text.push('"');
                for c in element.chars() {
                    if matches!(c, '"' | '\\') {
                        text.push('\\');
                    }
                    text.push(c);
                }
                text.push('"');
            }
        }
    }
    text.push('}');
    Ok(text)
}

fn misfit(name: &str, why: &str) -> Failure {
    Failure::permanent("sql-bind", format!("the value of `:{name}` {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLAIN: Takes = Takes { list: false, json: false };
    const LIST: Takes = Takes { list: true, json: false };
    const JSON: Takes = Takes { list: false, json: true };

    fn of(value: &Json, takes: Takes) -> Option<String> {
        text(value, takes, "x").unwrap()
    }

    #[test]
    fn a_value_is_written_as_its_type_reads_it() {
        assert_eq!(of(&json!(null), PLAIN), None);
        assert_eq!(of(&json!("a\"b"), PLAIN).as_deref(), Some("a\"b"));
        assert_eq!(of(&json!(1.5), PLAIN).as_deref(), Some("1.5"));
        assert_eq!(of(&json!("{1,2}"), LIST).as_deref(), Some("{1,2}"));
        assert_eq!(of(&json!(["a", null, "b\"\\,}"]), LIST).as_deref(), Some(r#"{"a",NULL,"b\"\\,}"}"#));
        assert_eq!(of(&json!([[1, 2], [3, 4]]), LIST).as_deref(), Some(r#"{{"1","2"},{"3","4"}}"#));
        assert_eq!(of(&json!("text"), JSON).as_deref(), Some("\"text\""));
        assert_eq!(of(&json!({"a": [1]}), JSON).as_deref(), Some("{\"a\":[1]}"));
        let lists = Takes { list: true, json: true };
        assert_eq!(of(&json!([{"a": 1}, [2]]), lists).as_deref(), Some(r#"{"{\"a\":1}","[2]"}"#));
    }

    #[test]
    fn what_no_type_takes_is_told_by_its_name_and_not_shown() {
        for value in [json!({"a": "canary"}), json!(["canary"]), json!("canary\0")] {
            let failure = text(&value, PLAIN, "who").unwrap_err();
            assert_eq!(failure.code, "sql-bind");
            assert!(failure.message.contains(":who") && !failure.message.contains("canary"), "{failure}");
        }
    }
}
