//! `validate`: the value must satisfy a JSON Schema.
//!
//! Schemas are compiled once a check and shared. References are resolved among the files under
//! `schemas/` and nowhere else. A valid record costs one walk; errors are collected only for the others.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value as Json;

use super::locate::{locate, offset};
use super::plan::ConfigFiles;
use super::{Flow, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::diag::{Diagnostic, Diagnostics, Span, codes, nearest};
use crate::expr::{Root, RootSet};
use crate::record::Item;
use crate::spec::{NodeValue, Spanned, TableReader};

const FOLDER: &str = "schemas";
const BASE: &str = "biplane:///schemas/";
/// How often a pattern may step back before it counts as not matching.
const BACKTRACKS: usize = 100_000;
/// How many errors of one record are told in full.
const MAX_ERRORS: usize = 3;

/// A compiled schema.
pub struct Schema {
    file: Arc<str>,
    validator: Validator,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.file)
    }
}

impl Schema {
    /// The file, relative to `schemas/`.
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// Whether `value` satisfies it.
    ///
    /// # Errors
    /// A permanent failure `schema` that says where the value and which keyword of the schema disagree.
    pub fn check(&self, value: &Json) -> Result<(), Failure> {
        if self.validator.is_valid(value) { Ok(()) } else { Err(self.explain(value)) }
    }

    #[cold]
    fn explain(&self, value: &Json) -> Failure {
        let mut told = Vec::new();
        let mut more = 0;
        for error in self.validator.iter_errors(value) {
            if told.len() == MAX_ERRORS {
                more += 1;
                continue;
            }
            let place = match error.instance_path().as_str() {
                "" => "the value",
                path => path,
            };
            let text: String = error.masked().to_string().chars().take(200).collect();
            told.push(format!("{place}: {text} (schema {})", error.schema_path()));
        }
        let mut message = told.join("; ");
        if more > 0 {
            message.push_str(&format!("; and {more} more"));
        }
        Failure::permanent("schema", format!("{}: {message}", self.file))
    }
}

/// File, and whether formats are asserted.
type SchemaId = (String, bool);

/// The schemas of one config root, compiled when they are first named.
#[derive(Default)]
pub struct Schemas {
    /// All files under `schemas/` that are JSON, for references among them.
    documents: OnceLock<Arc<Documents>>,
    compiled: RefCell<HashMap<SchemaId, Result<Arc<Schema>, SchemaError>>>,
    /// Files that were reported, whoever names them.
    reported: RefCell<BTreeSet<String>>,
}

/// Why there is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The file does not exist.
    #[error("there is no file schemas/{0}")]
    Missing(String),
    /// A file is no JSON Schema: this one, or one that it refers to.
    #[error("schemas/{file}: {why}")]
    Invalid {
        /// Which, relative to `schemas/`.
        file: String,
        /// Why.
        why: String,
        /// Which bytes of it.
        place: Range<usize>,
    },
}

impl Schemas {
    /// The compiled schema in `file`, relative to `schemas/`; `formats` asserts `format`.
    ///
    /// # Errors
    /// Where the file is missing or no schema.
    pub fn get(
        &self,
        files: &dyn ConfigFiles,
        file: &str,
        formats: bool,
    ) -> Result<Arc<Schema>, SchemaError> {
        let key = (file.to_owned(), formats);
        if let Some(known) = self.compiled.borrow().get(&key) {
            return known.clone();
        }
        let compiled = self.compile(files, file, formats).map(Arc::new);
        self.compiled.borrow_mut().insert(key, compiled.clone());
        compiled
    }

    /// As [`Schemas::get`], for a file that is named at a place in a config file; reports what is wrong.
    pub fn find(
        &self,
        files: &dyn ConfigFiles,
        name: &Spanned<String>,
        formats: bool,
        diagnostics: &Diagnostics,
    ) -> Option<Arc<Schema>> {
        let error = match self.get(files, &name.value, formats) {
            Ok(schema) => return Some(schema),
            Err(error) => error,
        };
        diagnostics.push(match error {
            SchemaError::Missing(_) => {
                let near = nearest(&name.value, files.under(FOLDER))
                    .map(|near| format!("a schema with a similar name exists: `{near}`"))
                    .unwrap_or_else(|| format!("add the file {FOLDER}/{}", name.value));
                Diagnostic::new(&codes::SCHEMA_MISSING, format!("there is no schema `{}`", name.value))
                    .at(name.span, format!("no file {FOLDER}/{}", name.value))
                    .help(near)
            }
            SchemaError::Invalid { file, why, place } => {
                let finding = broken(&file);
                match files.source(&format!("{FOLDER}/{file}")) {
                    // One broken file is one finding, whoever names it.
                    Some(_) if !self.reported.borrow_mut().insert(file) => return None,
                    Some(source) => finding.at(Span::new(source, place), why).also(name.span, "used here"),
                    None => finding.at(name.span, why),
                }
            }
        });
        None
    }

    /// Reports what is wrong with the schemas that nothing has named: whoever names one next would be
    /// surprised.
    pub fn check_rest(&self, files: &dyn ConfigFiles, diagnostics: &Diagnostics) {
        for path in files.under(FOLDER).into_iter().filter(|path| path.ends_with(".json")) {
            let Err(SchemaError::Invalid { file, why, place }) = self.get(files, path, false) else {
                continue;
            };
            let source = files.source(&format!("{FOLDER}/{file}"));
            if let Some(source) = source.filter(|_| self.reported.borrow_mut().insert(file.clone())) {
                diagnostics.push(broken(&file).at(Span::new(source, place), why));
            }
        }
    }

    fn compile(&self, files: &dyn ConfigFiles, file: &str, formats: bool) -> Result<Schema, SchemaError> {
        let bytes =
            files.file(&format!("{FOLDER}/{file}")).ok_or_else(|| SchemaError::Missing(file.to_owned()))?;
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let document = read_json(file, bytes)?;
        let documents = Arc::clone(self.documents.get_or_init(|| Arc::new(Documents::new(files))));
        let stumbled = Arc::default();
        let retriever = Shared { documents: Arc::clone(&documents), stumbled: Arc::clone(&stumbled) };
        let validator = jsonschema::options()
            .with_base_uri(format!("{BASE}{file}"))
            .with_retriever(retriever)
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACKS))
            .should_validate_formats(formats)
            .build(&document)
            .map_err(|error| {
                // A reference to a broken file is that file's fault.
                let behind = stumbled.get().and_then(|path: &String| documents.broken.get(path));
                behind.cloned().unwrap_or_else(|| SchemaError::Invalid {
                    file: file.to_owned(),
                    why: invalid(&error),
                    place: locate(text, error.instance_path().as_str()).unwrap_or_default(),
                })
            })?;
        Ok(Schema { file: Arc::from(file), validator })
    }
}

fn broken(file: &str) -> Diagnostic {
    Diagnostic::new(&codes::SCHEMA_INVALID, format!("{FOLDER}/{file} is no JSON Schema"))
        .help("mend the file; references lead to files under schemas/ and nowhere else")
}

fn read_json(file: &str, bytes: &[u8]) -> Result<Json, SchemaError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let at = offset(text, error.line(), error.column());
        SchemaError::Invalid { file: file.to_owned(), why: format!("not JSON: {error}"), place: at..at + 1 }
    })
}

fn invalid(error: &jsonschema::ValidationError<'_>) -> String {
    match error.instance_path().as_str() {
        "" => error.to_string(),
        path => format!("at {path}: {error}"),
    }
}

/// What references may reach: by path below `schemas/`, or by the `$id` of a file there.
struct Documents {
    by_path: BTreeMap<String, Json>,
    by_id: BTreeMap<String, String>,
    /// Why a file that is there is no JSON.
    broken: BTreeMap<String, SchemaError>,
}

struct Shared {
    documents: Arc<Documents>,
    /// The broken file that a reference led to.
    stumbled: Arc<OnceLock<String>>,
}

impl Documents {
    fn new(files: &dyn ConfigFiles) -> Self {
        let mut by_path = BTreeMap::new();
        let mut by_id = BTreeMap::new();
        let mut broken = BTreeMap::new();
        for path in files.under(FOLDER) {
            let bytes = files.file(&format!("{FOLDER}/{path}")).unwrap_or_default();
            let document = match read_json(path, bytes) {
                Ok(document) => document,
                Err(error) => {
                    broken.insert(path.to_owned(), error);
                    continue;
                }
            };
            let id = document.get("$id").or_else(|| document.get("id")).and_then(Json::as_str);
            if let Some(id) = id {
                by_id.insert(id.trim_end_matches('#').to_owned(), path.to_owned());
            }
            by_path.insert(path.to_owned(), document);
        }
        Self { by_path, by_id, broken }
    }
}

impl Retrieve for Shared {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Json, Box<dyn std::error::Error + Send + Sync>> {
        let text = uri.as_str();
        let path = match text.strip_prefix(BASE) {
            Some(path) => Some(path),
            None => self.documents.by_id.get(text.trim_end_matches('#')).map(String::as_str),
        };
        if let Some(path) = path.filter(|path| self.documents.broken.contains_key(*path)) {
            self.stumbled.get_or_init(|| path.to_owned());
        }
        path.and_then(|path| self.documents.by_path.get(path))
            .cloned()
            .ok_or_else(|| format!("a reference leads to `{text}`, which is no file under {FOLDER}/").into())
    }
}

#[derive(Debug, Clone)]
struct Validate(Arc<Schema>);

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    let (name, formats) = if let NodeValue::String(_) = table.node("validate")?.value {
        (table.name("validate"), false)
    } else {
        let mut inner = table.table("validate")?;
        let name = inner.required("schema", TableReader::name);
        let formats = inner.boolean("formats").is_some_and(|formats| formats.value);
        inner.finish();
        (name, formats)
    };
    let schema = context.schemas.find(context.files, &name?, formats, context.diagnostics)?;
    Some(Arc::new(Validate(schema)))
}

impl StepBody for Validate {
    fn kind(&self) -> &'static str {
        "validate"
    }

    fn reads(&self) -> RootSet {
        RootSet::EMPTY.with(Root::Value)
    }

    fn schema(&self) -> Option<&Arc<str>> {
        Some(self.0.file())
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Validate {
    fn run<'r>(&self, item: &mut Item<'r>, _: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        self.0.check(item.value()?)?;
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use crate::steps::testing::Bench;
    use serde_json::json;

    const ORDER: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "required": ["id"], "properties": {"id": {"type": "integer"}, "at": {"format": "date-time"},
        "lines": {"type": "array", "items": {"$ref": "line.json"}}}}"#;
    const LINE: &str = r#"{"type": "object", "properties": {"n": {"minimum": 1}}}"#;

    fn bench(step: &str) -> Bench {
        Bench::with_files(step, &[("schemas/order.json", ORDER), ("schemas/line.json", LINE)])
    }

    #[test]
    fn a_failure_names_the_place_in_the_value_and_in_the_schema() {
        let failure = bench("validate = \"order.json\"")
            .run(json!({"id": "x", "lines": [{"n": 1}, {"n": 0}]}))
            .unwrap_err();
        assert_eq!((&*failure.code, failure.class.as_str()), ("schema", "permanent"));
        for part in ["/id: ", "/properties/id/type", "/lines/1/n: ", "/minimum"] {
            assert!(failure.message.contains(part), "{part} in {}", failure.message);
        }
    }

    #[test]
    fn a_valid_value_passes_untouched_to_the_byte() {
        let left = bench("validate = \"order.json\"").run_bytes(br#"{ "id":1 }"#).unwrap();
        assert_eq!(left, [br#"{ "id":1 }"#.to_vec()]);
    }

    #[test]
    fn formats_are_asserted_only_on_request() {
        let value = json!({"id": 1, "at": "yesterday"});
        assert!(bench("validate = \"order.json\"").run(value.clone()).is_ok());
        let strict = bench("validate.schema = \"order.json\"\nvalidate.formats = true");
        assert_eq!(strict.run(value).unwrap_err().code, "schema");
    }

    #[test]
    fn missing_broken_and_outward_schemas_are_reported() {
        let findings =
            |file: &'static str| Bench::findings_with("validate = \"order.json\"", &[(file, ORDER)]);
        assert_eq!(findings("schemas/ordr.json"), ["schema::missing"]);
        assert_eq!(findings("schemas/order.json"), ["schema::invalid"], "line.json is not there");
        let outward = r#"{"$ref": "https://example.com/a.json"}"#;
        let broken = r#"{"type": "strin"}"#;
        for text in [outward, broken, "no json"] {
            let found = Bench::findings_with("validate = \"a.json\"", &[("schemas/a.json", text)]);
            assert_eq!(found, ["schema::invalid"]);
        }
    }

    #[test]
    fn old_drafts_are_known_by_their_schema_keyword() {
        let draft4 = r#"{"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3, "exclusiveMaximum": true}"#;
        let bench = Bench::with_files("validate = \"a.json\"", &[("schemas/a.json", draft4)]);
        assert!(bench.run(json!(2)).is_ok());
        assert!(bench.run(json!(3)).is_err());
    }
}
