//! Commands of the binary that answer in JSON.

use serde_json::Value as Json;

use super::{ConfigRoot, Engine, brokers};

/// What a command left.
pub struct Answer {
    pub code: Option<i32>,
    /// Standard output; null where it is no JSON.
    pub json: Json,
    /// Standard error.
    pub errors: String,
}

/// Runs a command in a namespace on the shared brokers, to its end.
pub fn ask(root: &ConfigRoot, namespace: &str, arguments: &[&str]) -> Answer {
    ask_with(root, namespace, arguments, &[])
}

/// As [`ask`] with further variables.
pub fn ask_with(root: &ConfigRoot, namespace: &str, arguments: &[&str], more: &[(&str, &str)]) -> Answer {
    let brokers = brokers();
    let variables = [("BIPLANE_KAFKA_BROKERS", &*brokers), ("BIPLANE_NAMESPACE", namespace)];
    let arguments = [arguments, &["--format", "json"]].concat();
    let output = Engine::command(root.path(), &arguments, &[&variables, more].concat());
    Answer {
        code: output.status.code(),
        json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Answer {
    /// The JSON of a command that ended well.
    pub fn well(self) -> Json {
        assert_eq!(self.code, Some(0), "{}", self.errors);
        self.json
    }
}
