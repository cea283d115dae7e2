//! The formats of `check`, each as a file of its own beside the tests, and each on the same findings.

use std::path::Path;

use crate::support::Engine;

/// What `check` writes about a config root below `tests/configs`, and its exit code. Tests run in the
/// folder of the package, so that paths lead from there.
fn check(root: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let root = format!("tests/configs/{root}");
    let arguments = [&["check", "--config", &root], arguments].concat();
    let output = Engine::command(Path::new("."), &arguments, &[]);
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

/// Two errors with a second place each, and one warning.
const ERRORS: &str = "err/name__duplicate";
const WARNING: &str = "err/retry__parked";

#[test]
fn every_format_shows_the_same_findings_and_ends_alike() {
    for format in ["text", "concise", "json", "sarif", "github", "junit"] {
        let (code, text) = check(ERRORS, &["--format", format]);
        assert_eq!(code, Some(1), "{format}");
        let version = format!("\"semanticVersion\": \"{}\"", env!("CARGO_PKG_VERSION"));
        insta::assert_snapshot!(
            format!("check_{format}"),
            text.replace(&version, "\"semanticVersion\": \"…\"")
        );
        let (code, warned) = check(WARNING, &["--format", format]);
        assert_eq!(code, Some(0), "{format}");
        assert!(
            warned.contains("retry::parked") || warned.contains("retry%3A%3Aparked"),
            "{format}: {warned}"
        );
        assert_eq!(check(WARNING, &["--format", format, "--deny-warnings"]).0, Some(1), "{format}");
        let (code, clean) = check("ok/smallest", &["--format", format]);
        assert_eq!(code, Some(0), "{format}: {clean}");
    }
}

#[test]
fn a_clean_root_says_nothing_where_a_line_is_a_finding() {
    for format in ["concise", "github"] {
        assert_eq!(check("ok/smallest", &["--format", format]), (Some(0), String::new()));
    }
}

#[test]
fn sarif_satisfies_the_schema_of_its_standard() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/sarif-2.1.0.schema.json");
    let schema = serde_json::from_slice(&std::fs::read(path).expect("the schema")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a JSON Schema");
    for root in [ERRORS, WARNING, "ok/smallest", "err/root__no-pipelines"] {
        let (_, text) = check(root, &["--format", "sarif"]);
        let log: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let errors: Vec<_> = validator.iter_errors(&log).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{root}");
        let broken = text.replace("\"version\": \"2.1.0\"", "\"version\": \"2.2.0\"");
        assert!(
            !validator.is_valid(&serde_json::from_str(&broken).expect("JSON")),
            "the schema says something"
        );
    }
}
