//! The layers hold: a module imports only what the table allows, and a library that one module owns is
//! named nowhere else. The table is the one of ARCHITECTURE.md; tests inside modules are held to it too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Each module with the modules whose names may follow `crate::` in it. Its own name is always allowed.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("diag", &["base"]),
    ("telemetry", &["base"]),
    ("record", &["base"]),
    ("expr", &["base", "diag", "record"]),
    ("calendar", &["base", "diag"]),
    ("spec", &["base", "diag"]),
    ("steps", &["base", "diag", "telemetry", "record", "expr", "spec"]),
    ("catalog", &["base", "diag", "telemetry", "record", "expr", "calendar", "spec", "steps"]),
    ("broker", &["base", "telemetry", "record", "steps::ports"]),
    ("store", &["base", "telemetry", "record", "steps::ports"]),
    (
        "events",
        &["base", "diag", "telemetry", "record", "expr", "spec", "steps", "catalog", "broker", "store"],
    ),
    (
        "jobs",
        &["base", "diag", "telemetry", "record", "expr", "calendar", "spec", "steps", "catalog", "store"],
    ),
    (
        "engine",
        &[
            "base",
            "diag",
            "telemetry",
            "record",
            "expr",
            "calendar",
            "spec",
            "steps",
            "catalog",
            "broker",
            "store",
            "events",
            "jobs",
        ],
    ),
    (
        "http",
        &[
            "base",
            "diag",
            "telemetry",
            "record",
            "expr",
            "calendar",
            "spec",
            "steps",
            "catalog",
            "broker",
            "store",
            "events",
            "jobs",
            "engine",
        ],
    ),
    (
        "cli",
        &[
            "base",
            "diag",
            "telemetry",
            "record",
            "expr",
            "calendar",
            "spec",
            "steps",
            "catalog",
            "broker",
            "store",
            "events",
            "jobs",
            "engine",
            "http",
        ],
    ),
];

/// Libraries that one module owns: the crate's name in code and its owner.
const OWNED: &[(&str, &str)] = &[
    ("rdkafka", "broker"),
    ("minijinja", "expr"),
    ("sqlx", "store"),
    ("opentelemetry", "telemetry"),
    ("opentelemetry_http", "telemetry"),
    ("opentelemetry_otlp", "telemetry"),
    ("opentelemetry_sdk", "telemetry"),
];

/// Files that belong to no layer: they only join the modules.
const JOINTS: &[&str] = &["lib.rs", "main.rs"];

#[test]
fn no_module_imports_what_the_table_forbids() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 10, "the walk found only {} files", files.len());
    let findings: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let name = path.strip_prefix(&source).expect("a path under src").to_string_lossy().into_owned();
            let text = fs::read_to_string(path).expect("a source file");
            violations(&name, &text)
        })
        .collect();
    assert!(findings.is_empty(), "layers are broken:\n{}", findings.join("\n"));
}

#[test]
fn the_table_has_no_cycle_and_names_only_itself() {
    let allowed = allowed();
    for (index, (module, imports)) in LAYERS.iter().enumerate() {
        for import in *imports {
            let root = import.split("::").next().expect("a first part");
            let above = LAYERS.iter().position(|(name, _)| *name == root);
            assert!(above.is_some_and(|above| above < index), "`{module}` may not import `{import}`");
        }
        assert!(allowed.contains_key(module));
    }
}

#[test]
fn a_planted_import_is_caught() {
    let planted = [
        ("base/units.rs", "use crate::record::RawRecord;", "base"),
        ("record/item.rs", "use crate::{\n    base::Failure,\n    catalog::Stage,\n};", "catalog"),
        ("broker/consumer.rs", "use crate::steps::StepPlan;", "steps::StepPlan"),
        ("events/runner.rs", "fn f() { crate::engine::stop(); }", "engine"),
        ("steps/http.rs", "    pub(crate) use crate::broker as b;", "broker"),
        ("engine/run.rs", "use rdkafka::ClientConfig;", "rdkafka"),
        ("events/runner.rs", "fn f(_: minijinja::Value) {}", "minijinja"),
        ("surprise/mod.rs", "fn f() {}", "surprise"),
        ("main.rs", "use rdkafka::ClientConfig;", "rdkafka"),
        ("events/spans.rs", "use opentelemetry::trace::Span;", "opentelemetry"),
    ];
    for (file, text, named) in planted {
        let findings = violations(file, text);
        assert_eq!(findings.len(), 1, "{file}: {text}: {findings:?}");
        assert!(findings[0].contains(&format!("`{named}`")), "{findings:?} does not name `{named}`");
    }
}

#[test]
fn what_the_table_allows_is_left_alone() {
    let fine = [
        ("broker/consumer.rs", "use crate::steps::ports::Ports;\nuse rdkafka::ClientConfig;"),
        ("broker/consumer.rs", "use crate::{base::Failure, steps::ports::{Ports, Sql}};"),
        (
            "base/units.rs",
            "//! Not `crate::cli`, says this comment.\n// nor crate::http\nuse crate::base::Failure;",
        ),
        ("main.rs", "fn main() { biplane::cli::run() }"),
        ("steps/log.rs", "const TEXT: &str = \"rdkafka is only a word here\";"),
    ];
    for (file, text) in fine {
        assert_eq!(violations(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

/// What one file breaks, a line a finding.
fn violations(file: &str, text: &str) -> Vec<String> {
    let code = without_comments(text);
    let mut findings = Vec::new();
    let module = file.split('/').next().expect("a first part");
    let module = module.strip_suffix(".rs").filter(|_| !file.contains('/')).unwrap_or(module);
    for (library, owner) in OWNED {
        if module != *owner && names_library(&code, library) {
            findings.push(format!("{file}: only `{owner}` may name `{library}`"));
        }
    }
    if JOINTS.contains(&file) {
        return findings;
    }
    let allowed = allowed();
    let Some(allowed) = allowed.get(module) else {
        findings.push(format!("{file}: `{module}` is in no layer; the table names all modules"));
        return findings;
    };
    let imports: BTreeSet<String> = imported(&code).into_iter().collect();
    for import in imports {
        let fits = allowed.iter().any(|allowed| {
            import == *allowed || import.strip_prefix(allowed).is_some_and(|rest| rest.starts_with("::"))
        });
        let own = import.split("::").next() == Some(module);
        // A bare macro or item at the crate's root has no module to judge.
        let known = LAYERS.iter().any(|(name, _)| import.split("::").next() == Some(name));
        if known && !fits && !own {
            let shown = if allowed.iter().any(|allowed| allowed.starts_with(&root_of(&import))) {
                import.clone()
            } else {
                import.split("::").next().unwrap_or_default().to_owned()
            };
            findings.push(format!("{file}: `{module}` may not import `{shown}`"));
        }
    }
    findings
}

fn root_of(import: &str) -> String {
    format!("{}::", import.split("::").next().unwrap_or_default())
}

fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    LAYERS.iter().copied().collect()
}

/// The paths that follow `crate::`, two parts deep, with groups in braces opened.
fn imported(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, matched) in code.match_indices("crate::") {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[start + matched.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_members(group).iter().flat_map(|member| two_parts(member))),
            None => found.extend(two_parts(rest)),
        }
    }
    found
}

/// The members of a brace group, up to its closing brace, split at commas of this level.
fn group_members(group: &str) -> Vec<String> {
    let (mut depth, mut members, mut current) = (0, Vec::new(), String::new());
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(character);
    }
    members.push(current);
    members.iter().map(|member| member.trim().to_owned()).filter(|member| !member.is_empty()).collect()
}

/// `a::b` of `a::b::C`, one for each member where the second part is a group.
fn two_parts(path: &str) -> Vec<String> {
    let first = identifier(path);
    if first.is_empty() {
        return Vec::new();
    }
    let Some(rest) = path[first.len()..].strip_prefix("::") else { return vec![first.to_owned()] };
    match rest.strip_prefix('{') {
        Some(group) => {
            group_members(group).iter().map(|member| format!("{first}::{}", identifier(member))).collect()
        }
        None => vec![format!("{first}::{}", identifier(rest))],
    }
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn names_library(code: &str, library: &str) -> bool {
    code.match_indices(library).any(|(start, matched)| {
        let before = code[..start].chars().next_back();
        let after = &code[start + matched.len()..];
        let whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        whole && (after.starts_with("::") || (after.starts_with(';') && code[..start].ends_with("use ")))
    })
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let trimmed = line.trim_start();
        if trimmed.starts_with("//") { "" } else { line.split(" // ").next().unwrap_or(line) }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn rust_files(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
