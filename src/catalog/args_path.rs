//! Paths into a job's args. SQL follows them as well as the engine does, so they are no expressions: a key
//! is known when a job is enqueued, by whatever language.

use std::fmt;

use serde_json::Value as Json;

use super::scene::Scene;
use crate::diag::{Diagnostic, codes};
use crate::expr::RootSet;
use crate::spec::Spanned;

/// A path into args: `args.tenant_id` is `["tenant_id"]`, `args` alone is `[]`, which means all of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArgsPath(Vec<String>);

impl ArgsPath {
    /// The path that `text` says; `None`: it is none.
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().strip_prefix("args")?;
        let mut path = Vec::new();
        while !rest.is_empty() {
            let (name, behind) = if let Some(inner) = rest.strip_prefix("['") {
                inner.split_once("']")?
            } else if let Some(inner) = rest.strip_prefix("[\"") {
                inner.split_once("\"]")?
            } else {
                let name = rest.strip_prefix('.')?;
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
                name.split_at(end)
            };
            if name.is_empty() || name.contains(['\'', '"', '\\']) {
                return None;
            }
            path.push(name.to_owned());
            rest = behind;
        }
        Some(Self(path))
    }

    /// The names on the way, as `#>` of SQL takes them.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// What stands there; `None`: nothing does.
    pub fn find<'a>(&self, args: &'a Json) -> Option<&'a Json> {
        self.0.iter().try_fold(args, |value, name| match value {
            Json::Array(items) => items.get(name.parse::<usize>().ok()?),
            other => other.get(name),
        })
    }
}

impl fmt::Display for ArgsPath {
    /// As it is written: `args.tenant_id`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("args")?;
        for name in &self.0 {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
                write!(f, ".{name}")?;
            } else {
                write!(f, "['{name}']")?;
            }
        }
        Ok(())
    }
}

/// The path that a setting says; `None`: it is none, and that has been reported.
pub(super) fn resolve(scene: &Scene<'_>, text: &Spanned<String>, what: &str) -> Option<ArgsPath> {
    scene.planning(RootSet::ARGS, &[], |context| context.expression(text))?;
    let path = ArgsPath::parse(&text.value);
    if path.is_none() {
        scene.report(
            Diagnostic::new(&codes::ARGS_PATH, format!("`{}` of {what} is no path into args", text.value))
                .at(text.span, "SQL enqueues as well, and follows plain names alone")
                .help(
                    "name a field as it is, such as `args.tenant_id`; compute it before the job is enqueued",
                ),
        );
    }
    path
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_is_names_behind_dots_or_in_brackets_and_nothing_else() {
        let names = |text: &str| ArgsPath::parse(text).map(|path| path.names().join("/"));
        for (text, expected) in [
            ("args", ""),
            ("args.a", "a"),
            (" args.a.b_2 ", "a/b_2"),
            ("args['a-b'].c", "a-b/c"),
            ("args[\"x y\"]", "x y"),
        ] {
            assert_eq!(names(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "value.a", "argsa", "args.", "args.a ~ 'x'", "args.a | lower", "args[0]", "args['a"]
        {
            assert_eq!(names(text), None, "{text}");
        }
    }

    #[test]
    fn it_is_written_as_it_is_read_and_finds_what_stands_there() {
        let args = json!({"a-b": {"c": [7, 8]}, "d": null});
        for (text, found) in [
            ("args['a-b'].c", Some(json!([7, 8]))),
            ("args['a-b'].c['1']", Some(json!(8))),
            ("args.d", Some(json!(null))),
            ("args.d.e", None),
            ("args.nothing", None),
        ] {
            let path = ArgsPath::parse(text).unwrap();
            assert_eq!(path.to_string(), text);
            assert_eq!(path.find(&args), found.as_ref(), "{text}");
        }
    }
}
