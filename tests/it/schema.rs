//! The JSON Schema of config files: it is the committed one, takes what `check` takes and refuses what
//! `check` refuses for its shape. `BIPLANE_UPDATE_EXPECTED=1` writes the committed file anew.

use std::fs;
use std::path::{Path, PathBuf};

use biplane::catalog::json_schema;
use jsonschema::Validator;
use serde_json::Value as Json;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The TOML files below a folder's `pipelines`.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(root.join("pipelines"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

fn roots(kind: &str) -> Vec<PathBuf> {
    let folder = package().join("tests/configs").join(kind);
    let mut roots: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    roots.sort();
    roots
}

/// As editors turn TOML into JSON: a datetime is its text.
fn to_json(value: toml::Value) -> Json {
    match value {
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(to_json).collect(),
        toml::Value::Table(table) => {
            Json::Object(table.into_iter().map(|(key, value)| (key, to_json(value))).collect())
        }
        other => serde_json::to_value(other).unwrap(),
    }
}

fn validator() -> Validator {
    jsonschema::validator_for(&json_schema()).expect("a JSON Schema")
}

/// What the schema says against a file; `None`: it is no TOML.
fn problems(validator: &Validator, file: &Path) -> Option<Vec<String>> {
    let text = String::from_utf8(fs::read(file).unwrap()).ok()?;
    let document = to_json(toml::Value::Table(toml::from_str(&text).ok()?));
    let place = |error: jsonschema::ValidationError<'_>| {
        format!("{}: {}: {error}", file.display(), error.instance_path())
    };
    Some(validator.iter_errors(&document).map(place).collect())
}

#[test]
fn the_committed_schema_is_the_one_of_the_readers() {
    let path = package().join("schemas/biplane.schema.json");
    let text = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    if std::env::var_os("BIPLANE_UPDATE_EXPECTED").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "write it anew: biplane schema > schemas/biplane.schema.json");
    let output = crate::support::Engine::command(package(), &["schema"], &[]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
}

#[test]
fn what_checks_clean_satisfies_the_schema() {
    let validator = validator();
    let mut count = 0;
    for root in roots("ok").into_iter().chain([package().to_owned()]) {
        for file in files(&root) {
            assert_eq!(problems(&validator, &file), Some(Vec::new()));
            count += 1;
        }
    }
    assert!(count >= 7, "{count} files");
}

#[test]
fn the_shipped_files_name_the_schema() {
    for file in files(package()) {
        let text = fs::read_to_string(&file).unwrap();
        let first = text.lines().next().unwrap_or_default();
        assert_eq!(first, "#:schema ../schemas/biplane.schema.json", "{}", file.display());
    }
}

/// What a schema can see: keys, types, words and bounds.
const SHAPE: [&str; 14] = [
    "env::reference",
    "key::missing",
    "key::unknown",
    "name::invalid",
    "section::unknown",
    "step::no-type",
    "step::several-types",
    "step::unknown",
    "toml::key-after-steps",
    "toml::unquoted-dots",
    "value::empty",
    "value::range",
    "value::type",
    "value::word",
];

#[test]
fn what_is_wrong_in_shape_breaks_the_schema_and_what_is_wrong_otherwise_does_not() {
    let validator = validator();
    let mut wrong = Vec::new();
    for root in roots("err") {
        let code = root.file_name().unwrap().to_str().unwrap().replace("__", "::");
        let found: Vec<_> = files(&root).iter().filter_map(|file| problems(&validator, file)).collect();
        let broken = found.iter().any(|problems| !problems.is_empty());
        let readable = found.len() == files(&root).len();
        if readable && broken != SHAPE.contains(&code.as_str()) {
            wrong.push(format!("{code}: {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each key of a whole file, once misspelt: `check` and the schema agree that there is no such key.
#[test]
fn a_misspelt_key_breaks_the_schema_wherever_the_readers_refuse_it() {
    use biplane::engine::load_tree;

    for (tour, file, least) in [("language-tour", "ingest", 30), ("jobs-tour", "case", 30)] {
        let (root, file) = (package().join("tests/configs/ok").join(tour), format!("pipelines/{file}.toml"));
        let refused = refused_by_both(&load_tree(&root).unwrap(), &file);
        assert!(refused > least, "{tour}: {refused}");
    }
}

/// How many of the keys of a file, once misspelt, both refuse.
fn refused_by_both(tree: &biplane::catalog::Tree, file: &str) -> usize {
    use biplane::catalog::{CheckOptions, Nothing, check};

    let validator = validator();
    let text = std::str::from_utf8(tree.get(file).unwrap()).unwrap();
    let mut refused = 0;
    for (index, line) in text.lines().enumerate() {
        let Some((key, rest)) = line.split_once('=').filter(|(key, _)| !key.trim().is_empty()) else {
            continue;
        };
        let misspelt = format!("{}q ={rest}", key.trim_end());
        let changed: Vec<_> =
            text.lines().enumerate().map(|(at, line)| if at == index { &misspelt } else { line }).collect();
        let changed = changed.join("\n");
        let mut tree = tree.clone();
        tree.insert(file, changed.as_bytes());
        let options = CheckOptions { environment: None, require_env: false, outside: &Nothing };
        let unknown = ["key::unknown", "step::unknown", "key::missing", "step::no-type"];
        let checked = check(&tree, &options);
        let by_check = checked.findings.iter().any(|finding| unknown.contains(&finding.code.name));
        let document = to_json(toml::Value::Table(toml::from_str(&changed).unwrap()));
        assert_eq!(!validator.is_valid(&document), by_check, "{misspelt}: {:?}", checked.findings);
        refused += usize::from(by_check);
    }
    refused
}
