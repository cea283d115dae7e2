//! What a program writes: its result, its progress and what it says beside. Pure.

use serde_json::Value as Json;

use crate::base::{Class, Failure};

/// The longest line of a program that is logged, in characters.
const MAX_LINE: usize = 1_000;

/// What a line of standard output is.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// Of how far the program is: `{"progress": …}`.
    Progress(String),
    /// Part of the result.
    Other,
}

/// Tells progress from the rest.
pub(super) fn line(bytes: &[u8]) -> Line {
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Line::Other;
    }
    match serde_json::from_slice(bytes) {
        Ok(Json::Object(fields)) if fields.len() == 1 => match fields.get("progress") {
            Some(Json::String(text)) => Line::Progress(shortened(text)),
            Some(progress) => Line::Progress(shortened(&progress.to_string())),
            None => Line::Other,
        },
        _ => Line::Other,
    }
}

/// A line as it is shown to people.
pub(super) fn shortened(text: &str) -> String {
    text.trim_end().chars().take(MAX_LINE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The last JSON document of what was written: all of it, or its last line. Nothing at all is null.
pub(super) fn result(written: &[u8]) -> Result<Json, Failure> {
    let written = written.trim_ascii();
    if written.is_empty() {
        return Ok(Json::Null);
    }
    let last = written.rsplit(|byte| *byte == b'\n').next().unwrap_or(written);
    serde_json::from_slice(written).or_else(|_| serde_json::from_slice(last)).map_err(|error| {
        Failure::permanent("exec-output", format!("the program's last line is no JSON: {error}"))
    })
}

/// The failure of a program that ended otherwise than by 0; `said` is its last line of standard error.
pub(super) fn ended(exit: Option<i32>, signal: Option<i32>, said: &str) -> Failure {
    /// As `sysexits.h` has it: try again.
    const TEMPFAIL: i32 = 75;
    /// Signals by which somebody outside ends a program: HUP, INT, KILL, TERM.
    const FROM_OUTSIDE: [i32; 4] = [1, 2, 9, 15];
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    match (exit, signal) {
        (Some(code), _) => {
            let class = if code == TEMPFAIL { Class::Transient } else { Class::Permanent };
            Failure::new(class, format!("exec-exit-{code}"), format!("the program ended with {code}{said}"))
        }
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            let class = if FROM_OUTSIDE.contains(&signal) { Class::Transient } else { Class::Permanent };
            Failure::new(
                class,
                format!("exec-signal-{signal}"),
                format!("signal {signal} ended the program{said}"),
            )
        }
    }
}

/// What an answer in a line comes to: an object with `error` alone is a failure.
pub(super) fn answer(answer: Json) -> Result<Json, Failure> {
    let error = match &answer {
        Json::Object(fields) if fields.len() == 1 => fields.get("error"),
        _ => None,
    };
    let Some(error) = error else { return Ok(answer) };
    let retry = error.get("retry").and_then(Json::as_bool).unwrap_or_default();
    let told = error.as_str().or_else(|| error.get("message")?.as_str());
    let message = told.map_or_else(|| shortened(&error.to_string()), shortened);
    Err(Failure::new(if retry { Class::Transient } else { Class::Permanent }, "exec-error", message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_document_is_the_result_and_progress_is_none_of_it() {
        assert_eq!(result(b" \n"), Ok(Json::Null));
        assert_eq!(result(b"{\n \"a\": 1\n}\n"), Ok(json!({ "a": 1 })));
        assert_eq!(result(b"loading\n{\"a\": 1}\n[2]\n"), Ok(json!([2])));
        assert_eq!(result(b"{\"a\": 1}\ndone").unwrap_err().code, "exec-output");
        assert_eq!(line(b"{\"progress\": \"half\"}"), Line::Progress("half".to_owned()));
        assert_eq!(line(b"  {\"progress\": {\"of\": 3}}"), Line::Progress("{\"of\":3}".to_owned()));
        assert_eq!(
            [line(b"{\"progress\": 1, \"a\": 2}"), line(b"[1]"), line(b"{")],
            [Line::Other, Line::Other, Line::Other]
        );
    }

    #[test]
    fn an_end_is_told_by_its_code_and_only_some_are_worth_another_try() {
        let of = |exit, signal| {
            let failure = ended(exit, signal, "why\n");
            (failure.code.into_owned(), failure.class)
        };
        assert_eq!(of(Some(75), None), ("exec-exit-75".to_owned(), Class::Transient));
        assert_eq!(of(Some(1), None), ("exec-exit-1".to_owned(), Class::Permanent));
        assert_eq!(of(None, Some(9)), ("exec-signal-9".to_owned(), Class::Transient));
        assert_eq!(of(None, Some(11)), ("exec-signal-11".to_owned(), Class::Permanent));
    }

    #[test]
    fn an_answer_may_be_a_failure() {
        assert_eq!(answer(json!({ "error": 1, "a": 2 })), Ok(json!({ "error": 1, "a": 2 })));
        let failure = answer(json!({ "error": { "message": "busy", "retry": true } })).unwrap_err();
        assert_eq!((&*failure.message, failure.class), ("busy", Class::Transient));
        assert_eq!(answer(json!({ "error": "no" })).unwrap_err().class, Class::Permanent);
    }
}
