//! `lookup`: a row of a table under `lookups/`, found by key.
//!
//! Tables are read by `check`, typed and indexed once, and shared by all steps that name them alike.
//! CSV has a header line; JSON is a list of objects; TOML is one array of tables.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::locate::offset;
use super::path::FieldPath;
use super::plan::ConfigFiles;
use super::{Flow, ItemScope, OpenError, PlanContext, Ports, ReadyStep, Runnable, StepBody, StepContext};
use crate::base::Failure;
use crate::diag::{Diagnostic, Diagnostics, Severity, SourceMap, Span, codes, nearest, words};
use crate::expr::{Expression, Root, RootSet};
use crate::record::Item;
use crate::spec::{Spanned, TableReader, parse};

const FOLDER: &str = "lookups";
/// The largest file; a larger table belongs behind an `http` step.
const MAX_FILE_BYTES: usize = 64 * 1024 * 1024;

/// Rows by key.
struct Table {
    file: String,
    rows: HashMap<String, Arc<Json>>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({}, {} rows)", self.file, self.rows.len())
    }
}

/// How the cells of a CSV column are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Cell {
    String,
    Integer,
    Float,
    Boolean,
}

type Types = Vec<(String, Cell)>;
/// File, key column and column types.
type TableId = (String, String, Types);

/// The lookup tables of one config root, read when they are first named.
#[derive(Default)]
pub struct Tables {
    read: RefCell<HashMap<TableId, Result<Arc<Table>, Problem>>>,
}

/// Why a file is no table, and the lines of it that show it, counted from 1.
#[derive(Debug, Clone)]
struct Problem {
    why: String,
    lines: Vec<u64>,
}

impl Problem {
    fn at(why: String, lines: &[Option<u64>]) -> Self {
        Self { why, lines: lines.iter().copied().flatten().collect() }
    }
}

impl From<String> for Problem {
    fn from(why: String) -> Self {
        Self { why, lines: Vec::new() }
    }
}

/// A row and the line that it begins in, where the file has one a row.
type Row = (Map<String, Json>, Option<u64>);

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.read.borrow().values()).finish()
    }
}

impl Tables {
    fn get(&self, bytes: &[u8], file: &str, key: &str, types: &Types) -> Result<Arc<Table>, Problem> {
        let id = (file.to_owned(), key.to_owned(), types.clone());
        if let Some(known) = self.read.borrow().get(&id) {
            return known.clone();
        }
        let table = Table::read(bytes, file, key, types).map(Arc::new);
        self.read.borrow_mut().insert(id, table.clone());
        table
    }
}

impl Table {
    fn read(bytes: &[u8], file: &str, key: &str, types: &Types) -> Result<Self, Problem> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20).into());
        }
        let rows = match file.rsplit_once('.').map(|(_, extension)| extension) {
            Some("csv") => csv_rows(bytes, types)?,
            Some("json") => json_rows(bytes)?,
            Some("toml") => toml_rows(bytes)?,
            _ => return Err("the file's name must end in .csv, .json or .toml".to_owned().into()),
        };
        let mut index: HashMap<String, Arc<Json>> = HashMap::with_capacity(rows.len());
        let mut lines: HashMap<String, u64> = HashMap::new();
        for (number, (row, line)) in rows.into_iter().enumerate() {
            let text = match row.get(key) {
                Some(Json::String(text)) => text.clone(),
                Some(Json::Null) | None => {
                    return Err(Problem::at(format!("row {} has no `{key}`", number + 1), &[line]));
                }
                Some(other) => other.to_string(),
            };
            if index.contains_key(&text) {
                let first = lines.get(&text).copied();
                return Err(Problem::at(format!("two rows have the {key} `{text}`"), &[first, line]));
            }
            lines.extend(line.map(|line| (text.clone(), line)));
            index.insert(text, Arc::new(Json::Object(row)));
        }
        Ok(Self { file: file.to_owned(), rows: index })
    }
}

fn csv_rows(bytes: &[u8], types: &Types) -> Result<Vec<Row>, Problem> {
    let mut reader = csv::Reader::from_reader(bytes);
    let columns: Vec<String> =
        reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect();
    if let Some((column, _)) = types.iter().find(|(column, _)| !columns.contains(column)) {
        let known = words(columns.iter().map(String::as_str));
        return Err(Problem::at(format!("there is no column `{column}`; columns are {known}"), &[Some(1)]));
    }
    let cell = |column: &str| {
        types.iter().find(|(typed, _)| typed == column).map_or(Cell::String, |(_, cell)| *cell)
    };
    let kinds: Vec<Cell> = columns.iter().map(|column| cell(column)).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record
            .map_err(|error| Problem::at(error.to_string(), &[error.position().map(csv::Position::line)]))?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut row = Map::with_capacity(columns.len());
        for ((column, kind), text) in columns.iter().zip(&kinds).zip(&record) {
            let value = kind.parse(text).ok_or_else(|| {
                let why = format!("line {line}: `{text}` in column `{column}` is no {}", kind.word());
                Problem::at(why, &[Some(line)])
            })?;
            row.insert(column.clone(), value);
        }
        rows.push((row, Some(line)));
    }
    Ok(rows)
}

fn json_rows(bytes: &[u8]) -> Result<Vec<Row>, Problem> {
    let rows: Vec<Json> =
        serde_json::from_slice(bytes).map_err(|error| format!("no list of objects: {error}"))?;
    rows.into_iter().map(object).collect()
}

/// Read as all TOML of a config root is, so that dates become text.
fn toml_rows(bytes: &[u8]) -> Result<Vec<Row>, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())?;
    let diagnostics = Diagnostics::default();
    let mut sources = SourceMap::default();
    let id = sources.add("", text);
    let (document, _) = parse(text, id, &diagnostics);
    let findings = diagnostics.into_sorted(&sources);
    if let Some(error) = findings.iter().find(|finding| finding.severity() == Severity::Error) {
        let start = error.primary.as_ref().map_or(0, |label| label.span.start);
        let line = sources.position(id, start).line as u64;
        return Err(Problem::at(error.message.clone(), &[Some(line)]));
    }
    match document.entries.as_slice() {
        [only] if only.node.as_array().is_some() => {
            only.node.as_array().into_iter().flatten().map(|row| object(row.to_json())).collect()
        }
        _ => Err("the file must hold one array of tables and nothing else".to_owned().into()),
    }
}

fn object(row: Json) -> Result<Row, Problem> {
    match row {
        Json::Object(map) => Ok((map, None)),
        other => {
            let shown = other.to_string().chars().take(40).collect::<String>();
            Err(format!("a row is no object: {shown}").into())
        }
    }
}

impl Cell {
    const WORDS: [(&'static str, Self); 4] = [
        ("string", Self::String),
        ("integer", Self::Integer),
        ("float", Self::Float),
        ("boolean", Self::Boolean),
    ];

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, cell)| *cell == self).map_or("string", |(word, _)| word)
    }

    /// An empty cell is null unless the column is text.
    fn parse(self, text: &str) -> Option<Json> {
        match self {
            Self::String => Some(Json::from(text)),
            _ if text.trim().is_empty() => Some(Json::Null),
            Self::Integer => text.trim().parse::<i64>().ok().map(Json::from),
            Self::Float => {
                text.trim().parse::<f64>().ok().filter(|number| number.is_finite()).map(Json::from)
            }
            Self::Boolean => text.trim().parse::<bool>().ok().map(Json::from),
        }
    }
}

/// What happens where no row has the key.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Missing {
    Null,
    Error,
    Drop,
}

#[derive(Debug, Clone)]
struct Lookup {
    table: Arc<Table>,
    by: Expression,
    into: Option<FieldPath>,
    missing: Missing,
}

pub(super) fn read(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Arc<dyn StepBody>> {
    let mut inner = table.table("lookup")?;
    let file = inner.required("table", TableReader::name);
    let key = inner.required("key", TableReader::name);
    let by = inner.required("by", TableReader::text);
    let into = inner.text("into");
    let typed = inner.entry("types").map(|entry| entry.key_span);
    let types = inner.table("types").map(read_types);
    let words = [("null", Missing::Null), ("error", Missing::Error), ("drop", Missing::Drop)];
    let missing = inner.word("missing", &words).map_or(Missing::Null, |missing| missing.value);
    inner.finish();
    if let (Some(span), Some(file)) = (typed, file.as_ref().filter(|file| !file.value.ends_with(".csv"))) {
        let message = format!("`types` has no effect on {}", file.value);
        context.diagnostics.push(
            Diagnostic::new(&codes::STAGE_POINTLESS, message)
                .at(span, "only a CSV's cells are all text")
                .help("remove it; values in JSON and TOML have types of their own"),
        );
    }
    let by = by.and_then(|text| context.expression(&text));
    let into = match into {
        Some(text) => Some(FieldPath::read(&text, context.diagnostics)?),
        None => None,
    };
    let table = find(context, &file?, &key?, &types.unwrap_or_default())?;
    Some(Arc::new(Lookup { table, by: by?, into, missing }))
}

fn read_types(mut table: TableReader<'_>) -> Types {
    let columns: Vec<_> = table.table.entries.iter().map(|entry| entry.key.clone()).collect();
    let mut types: Types = columns
        .into_iter()
        .filter_map(|column| Some((column.clone(), table.word(&column, &Cell::WORDS)?.value)))
        .collect();
    types.sort();
    types
}

fn find(
    context: &PlanContext<'_>,
    file: &Spanned<String>,
    key: &Spanned<String>,
    types: &Types,
) -> Option<Arc<Table>> {
    let files: &dyn ConfigFiles = context.files;
    let Some(bytes) = files.file(&format!("{FOLDER}/{}", file.value)) else {
        let near = nearest(&file.value, files.under(FOLDER));
        context.diagnostics.push(
            Diagnostic::new(&codes::LOOKUP_MISSING, format!("there is no lookup table `{}`", file.value))
                .at(file.span, format!("no file {FOLDER}/{}", file.value))
                .help(match near {
                    Some(near) => format!("a table with a similar name exists: `{near}`"),
                    None => format!("add the file {FOLDER}/{}", file.value),
                }),
        );
        return None;
    };
    let found = context.tables.get(bytes, &file.value, &key.value, types);
    found.map_err(|problem| context.diagnostics.push(invalid(context.files, bytes, file, key, &problem))).ok()
}

/// The finding at the place that names the file, with the rows of the file where they are known.
fn invalid(
    files: &dyn ConfigFiles,
    bytes: &[u8],
    file: &Spanned<String>,
    key: &Spanned<String>,
    problem: &Problem,
) -> Diagnostic {
    let path = format!("{FOLDER}/{}", file.value);
    let mut finding = Diagnostic::new(&codes::LOOKUP_INVALID, format!("{path} cannot be used"))
        .at(file.span, problem.why.clone())
        .also(key.span, "the key column")
        .help("mend the file; each row has a key of its own, and each cell the type of its column");
    if let (Some(source), Ok(text)) = (files.source(&path), std::str::from_utf8(bytes)) {
        for line in &problem.lines {
            let start = offset(text, usize::try_from(*line).unwrap_or(usize::MAX), 1);
            let end = text[start..].find(['\r', '\n']).map_or(text.len(), |end| start + end);
            finding = finding.also(Span::new(source, start..end), "this row");
        }
    }
    finding
}

impl StepBody for Lookup {
    fn kind(&self) -> &'static str {
        "lookup"
    }

    fn reads(&self) -> RootSet {
        if self.into.is_some() { self.by.reads().with(Root::Value) } else { self.by.reads() }
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Ready(Box::new(self.clone())))
    }
}

impl ReadyStep for Lookup {
    fn run<'r>(&self, item: &mut Item<'r>, context: &StepContext<'_>) -> Result<Flow<'r>, Failure> {
        let scope = ItemScope::new(item, context.env);
        let key = self.by.text(&scope)?;
        let row = key.as_ref().and_then(|key| self.table.rows.get(&**key)).map(Arc::clone);
        let row = match (row, self.missing) {
            (Some(row), _) => row,
            (None, Missing::Null) => Arc::new(Json::Null),
            (None, Missing::Drop) => return Ok(Flow::Filtered),
            (None, Missing::Error) => {
                let key = key.as_deref().unwrap_or("null").chars().take(100).collect::<String>();
                let message = format!("{} has no row for `{key}`", self.table.file);
                return Err(Failure::permanent("lookup-missing", message));
            }
        };
        drop(key);
        if let Some(path) = &self.into {
            path.check(item.value()?)?;
            path.set(item.value_mut()?, (*row).clone())?;
        }
        item.set_result(context.name, row);
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use crate::steps::testing::Bench;
    use serde_json::json;

    const CSV: (&str, &str) =
        ("lookups/people.csv", "email,name,age\na@x.com,Ann,41\nb@x.com,\"Bob, Jr\",\n");

    fn bench(more: &str) -> Bench {
        let step = format!(
            "lookup.table = \"people.csv\"\nlookup.key = \"email\"\nlookup.by = \"value.from\"\n\
             lookup.into = \"person\"\nlookup.types = {{ age = \"integer\" }}\n{more}"
        );
        Bench::with_files(&step, &[CSV])
    }

    #[test]
    fn a_row_is_found_by_key_with_typed_columns() {
        let left = bench("").run(json!({"from": "a@x.com"})).unwrap();
        assert_eq!(left[0]["person"], json!({"email": "a@x.com", "name": "Ann", "age": 41}));
        let left = bench("").run(json!({"from": "b@x.com"})).unwrap();
        assert_eq!(left[0]["person"], json!({"email": "b@x.com", "name": "Bob, Jr", "age": null}));
    }

    #[test]
    fn a_missing_row_is_null_an_error_or_the_end_as_the_step_says() {
        let missing = json!({"from": "c@x.com"});
        assert_eq!(bench("").run(missing.clone()).unwrap()[0]["person"], json!(null));
        let failure = bench("lookup.missing = \"error\"").run(missing.clone()).unwrap_err();
        assert_eq!(failure.code, "lookup-missing");
        assert!(bench("lookup.missing = \"drop\"").run(missing).unwrap().is_empty());
    }

    #[test]
    fn json_and_toml_tables_work_alike() {
        for (file, text) in [
            ("t.json", r#"[{"id": 1, "v": {"deep": true}}]"#),
            ("t.toml", "[[row]]\nid = 1\nv = { deep = true }\n"),
        ] {
            let step =
                format!("lookup = {{ table = \"{file}\", key = \"id\", by = \"value\", into = \"v\" }}");
            let step = step.replace("\"value\"", "\"value.id\"");
            let bench = Bench::with_files(&step, &[(&format!("lookups/{file}"), text)]);
            assert_eq!(bench.run(json!({"id": 1})).unwrap()[0]["v"]["v"], json!({"deep": true}));
        }
    }

    #[test]
    fn dates_of_a_toml_table_are_text_and_its_mistakes_say_where() {
        let step = "lookup = { table = \"t.toml\", key = \"id\", by = \"value\", into = \"v\" }";
        let step = step.replace("\"value\"", "\"value.id\"");
        let text = "[[row]]\nid = 1\nday = 2026-01-31\nat = [2026-01-31T10:00:00Z]\n";
        let bench = Bench::with_files(&step, &[("lookups/t.toml", text)]);
        assert_eq!(
            bench.run(json!({"id": 1})).unwrap()[0]["v"],
            json!({"id": 1, "day": "2026-01-31", "at": ["2026-01-31T10:00:00Z"]})
        );
        assert_eq!(super::toml_rows(b"[[row]]\nid = \n").unwrap_err().lines, [2]);
    }

    #[test]
    fn types_of_what_has_its_own_are_reported() {
        let findings = |file: &str, text: &str| {
            let step = format!(
                "lookup = {{ table = \"{file}\", key = \"id\", by = \"key\", types = {{ id = \"integer\" }} }}"
            );
            Bench::findings_with(&step, &[(&format!("lookups/{file}"), text)])
        };
        assert_eq!(findings("t.csv", "id\n1\n"), Vec::<&str>::new());
        assert_eq!(findings("t.json", "[{\"id\": 1}]"), ["stage::pointless"]);
        assert_eq!(findings("t.toml", "[[row]]\nid = 1\n"), ["stage::pointless"]);
    }

    #[test]
    fn tables_that_cannot_be_used_are_reported() {
        let findings = |text: &str, types: &str| {
            let step = format!(
                "lookup = {{ table = \"t.csv\", key = \"id\", by = \"key\", types = {{ {types} }} }}"
            );
            Bench::findings_with(&step, &[("lookups/t.csv", text)])
        };
        assert_eq!(findings("id,n\n1,2\n", "n = \"integer\""), Vec::<&str>::new());
        assert_eq!(findings("id,n\n1,x\n", "n = \"integer\""), ["lookup::invalid"]);
        assert_eq!(findings("id\n1\n1\n", ""), ["lookup::invalid"]);
        assert_eq!(findings("other\n1\n", ""), ["lookup::invalid"]);
        assert_eq!(findings("id\n1\n", "m = \"integer\""), ["lookup::invalid"]);
        let missing = Bench::findings("lookup = { table = \"t.csv\", key = \"id\", by = \"key\" }");
        assert_eq!(missing, ["lookup::missing"]);
    }
}
