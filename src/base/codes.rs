//! The codes that the engine itself gives failures. They label metrics and headers, so the list is short
//! and known; a `fail` step brings codes of its own, and none of these.

use super::{Class, CodePattern, Failure};

/// All of them but the statuses of HTTP, `http-100` to `http-599`, the ends of programs, `exec-exit-1` to
/// `exec-exit-255` and `exec-signal-1` to `exec-signal-64`, and the errors of SQL, `sql-` and a SQLSTATE in
/// lower case.
pub const ENGINE_CODES: [&str; 52] = [
    "args-invalid",
    "batch-answer",
    "batch-too-large",
    "body-too-large",
    "bytes",
    "callback-timeout",
    "checkpoint-too-large",
    "connection",
    "deadline",
    "enqueue-failed",
    "enqueue-refused",
    "enqueue-run-at",
    "enqueue-too-many",
    "exec-ended",
    "exec-error",
    "exec-output",
    "exec-output-too-large",
    "exec-spawn",
    "explode-too-large",
    "explode-too-many",
    "expression",
    "fuel",
    "header",
    "header-not-text",
    "internal",
    "job-unknown",
    "json",
    "key-not-text",
    "lookup-missing",
    "max-hops",
    "not-a-list",
    "not-an-object",
    "output-too-large",
    "panic",
    "record-too-large",
    "response-encoding",
    "response-json",
    "schema",
    "sql-answer",
    "sql-bind",
    "sql-busy",
    "sql-record",
    "sql-result-too-large",
    "sql-rows",
    "sql-type",
    "timeout",
    "tombstone",
    "undefined",
    "unmatched",
    "url",
    "utf8",
    "worker-lost",
];

/// Whether a failure may have this code: small letters, digits and hyphens, at most 64 of them, a letter first.
pub fn is_code(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Whether the engine gives failures this code.
pub fn is_engine_code(code: &str) -> bool {
    ENGINE_CODES.contains(&code) || is_sql_state(code) || statuses().any(|status| status == code)
}

/// Whether `pattern` is a class or matches one of the engine's codes or of `own`.
pub fn names_a_code<'a>(pattern: &CodePattern, own: impl IntoIterator<Item = &'a str>) -> bool {
    let matches = |code: &str| pattern.matches(&Failure::new(Class::Permanent, code.to_owned(), ""));
    matches!(pattern, CodePattern::Class(_))
        || ENGINE_CODES.into_iter().any(matches)
        || own.into_iter().any(matches)
        || statuses().any(|status| matches(&status))
        || matches!(pattern, CodePattern::Code(text) if may_be_sql_state(text))
}

/// There are too many to list, and a server's extensions bring more.
fn is_sql_state(code: &str) -> bool {
    code.strip_prefix("sql-").is_some_and(|state| state.len() == 5 && state.bytes().all(is_of_state))
}

/// Whether a pattern matches a SQLSTATE; `x` stands for a digit, which may be one of it.
fn may_be_sql_state(pattern: &str) -> bool {
    let begins = |state: &str| state.len() <= 5 && state.bytes().all(is_of_state);
    match pattern.strip_suffix('*') {
        Some(start) => start.strip_prefix("sql-").is_some_and(begins),
        None => is_sql_state(pattern),
    }
}

fn is_of_state(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn statuses() -> impl Iterator<Item = String> {
    let statuses = (100..600).map(|status| format!("http-{status}"));
    let ends = (1..256).map(|code| format!("exec-exit-{code}"));
    statuses.chain(ends).chain((1..65).map(|signal| format!("exec-signal-{signal}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The first literal behind each way to make a failure, outside of tests.
    fn codes_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("tests") {
                continue;
            } else if path.is_dir() {
                codes_in(&path, found);
            } else if !path.to_string_lossy().ends_with("tests.rs") && !path.ends_with("testing.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                for made in code.split("Failure::").skip(1) {
                    let Some((maker, rest)) = made.split_once('(') else { continue };
                    let rest = rest.trim_start();
                    let rest =
                        if maker == "new" { rest.split_once(',').map_or("", |(_, rest)| rest) } else { rest };
                    let makers = ["new", "permanent", "transient", "poison", "fatal"];
                    if let (true, Some(literal)) =
                        (makers.contains(&maker), rest.trim_start().strip_prefix('"'))
                    {
                        found.extend(literal.split('"').next().map(str::to_owned));
                    }
                }
            }
        }
    }

    #[test]
    fn the_list_holds_every_code_that_the_engine_gives_and_no_other() {
        let mut found = BTreeSet::new();
        codes_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert_eq!(found, ENGINE_CODES.map(str::to_owned).into());
    }

    #[test]
    fn classes_codes_patterns_and_own_codes_are_known_and_slips_are_not() {
        let known = |text: &str| names_a_code(&CodePattern::parse(text), ["no-tenant"]);
        for text in [
            "transient",
            "timeout",
            "http-429",
            "http-5xx",
            "http-*",
            "explode-*",
            "no-tenant",
            "sql-40p01",
            "sql-23*",
            "exec-exit-75",
        ] {
            assert!(known(text), "{text}");
        }
        for text in ["transcient", "http-999", "tenant", "http-6xx", "sql-401", "sql-234567*"] {
            assert!(!known(text), "{text}");
        }
        assert!(is_engine_code("http-404") && is_engine_code("sql-23505") && !is_engine_code("no-tenant"));
    }
}
