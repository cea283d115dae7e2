//! The step's table in TOML.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::step::{Asked, Shape, Sql};
use super::text::{Problem, Scanned, Why, scan};
use crate::diag::{Diagnostic, FileId, Span, codes, nearest};
use crate::expr::{Root, TemplateTree};
use crate::spec::{Entry, NodeValue, Spanned, TableReader};
use crate::steps::gather::Settings;
use crate::steps::path::FieldPath;
use crate::steps::ports::{Database, RECORD, SqlLimits};
use crate::steps::{PlanContext, StepBody};

/// Where files of statements lie.
const FOLDER: &str = "sql";
/// How long a statement may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many rows an answer may have where nothing is said, and at most.
const ROWS: usize = 1_000;
const MAX_ROWS: i64 = 100_000;
/// How large an answer may be where nothing is said.
const BYTES: usize = 1 << 20;
/// The most rows of a batch.
const MAX_BATCH: i64 = 1_000_000;
/// The bind that `batch` fills.
const BATCH: &str = "batch";

/// Statements that change nothing, as long as they call nothing that does.
const READING: [&str; 4] = ["select", "values", "table", "show"];
/// Statements that tell how many rows they changed; `with` may hold one.
const CHANGING: [&str; 5] = ["insert", "update", "delete", "merge", "with"];

pub(in crate::steps) fn read(
    table: &mut TableReader<'_>,
    context: &PlanContext<'_>,
) -> Option<Arc<dyn StepBody>> {
    let timeout = table.duration("timeout").map(|timeout| timeout.value);
    let mut inner = table.table("sql")?;
    let written = read_text(&mut inner, context);
    let database = read_database(&mut inner, context);
    let into = read_into(&mut inner, context);
    let shape = inner.word("result", &[("rows", Shape::Rows), ("row", Shape::Row)]);
    let rows = inner.integer("max_rows", 1..=MAX_ROWS);
    let bytes = inner.size("max_result_bytes");
    let repeat = inner.word("repeat", &[("until-zero", ())]).is_some();
    let (batch, shared) = read_batch(&mut inner)?;
    let repeatable = inner.boolean("repeatable");
    let binds = read_binds(&mut inner, context);
    let repeats = check_repeat(&mut inner, written.as_ref(), context);
    let own = match &shared {
        Some(_) => Some((RECORD, TemplateTree::Constant(Json::Null))),
        None => batch.map(|batch| (BATCH, TemplateTree::Constant(Json::from(batch.value)))),
    };
    let both = written.as_ref().zip(binds);
    let numbered = both.as_ref().and_then(|(written, binds)| {
        let given = binds.iter().any(|(known, _)| *known.value == *RECORD);
        written.scanned.text.names.iter().position(|name| **name == *RECORD && shared.is_some() && !given)
    });
    let values = both.map(|(written, binds)| fill(&inner.what, written, binds, own, context));
    inner.finish();
    let (mut written, values) = (written?, values??);
    let verb = &*written.scanned.verb;
    let reading = READING.contains(&verb);
    repeats.then_some(())?;
    written.scanned.text.batched = shared.is_some();
    Some(Arc::new(Sql {
        repeatable: repeatable.map_or(reading, |word| word.value),
        asked: Asked { database: database?, place: written.whole, text: Arc::new(written.scanned.text) },
        values,
        into: into?,
        shape: shape.map_or(Shape::Rows, |word| word.value),
        limits: SqlLimits {
            timeout: timeout.unwrap_or(TIMEOUT),
            rows: rows.map_or(ROWS, |rows| usize::try_from(rows.value).unwrap_or(ROWS)),
            bytes: bytes.map_or(BYTES, |size| size.value.as_usize()),
        },
        until_zero: repeat,
        batch: shared,
        numbered,
    }))
}

/// How many rows a repeated statement takes each time, or how records share one.
fn read_batch(table: &mut TableReader<'_>) -> Option<(Option<Spanned<i64>>, Option<Settings>)> {
    let Some(node) = table.node("batch") else { return Some((None, None)) };
    let NodeValue::Table(_) = node.value else { return Some((table.integer("batch", 1..=MAX_BATCH), None)) };
    let mut inner = table.table("batch")?;
    let shared = Settings::read(&mut inner);
    inner.finish();
    Some((None, Some(shared?)))
}

/// A statement and where it stands.
struct Written {
    scanned: Scanned,
    /// All of it, or the name of its file.
    whole: Span,
    source: Source,
}

/// What a place in a statement is a place of.
enum Source {
    /// A string of the config.
    Text(Spanned<String>),
    /// A file that findings can point into.
    File(FileId),
    /// A file that they cannot.
    Elsewhere(Span),
}

impl Source {
    fn part(&self, place: Range<usize>) -> Span {
        match self {
            Self::Text(text) => text.part(place),
            Self::File(file) => Span::new(*file, place),
            Self::Elsewhere(span) => *span,
        }
    }
}

/// `text`, or what the file under `sql/` holds.
fn read_text(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Written> {
    let (text, file) = (table.text("text"), table.name("file"));
    match (text, file) {
        (Some(text), Some(file)) => {
            table.report(
                Diagnostic::new(&codes::KEY_CONFLICT, format!("{} has both `text` and `file`", table.what))
                    .at(file.span, "a statement in a file")
                    .also(text.span, "a statement")
                    .help("keep one of the two"),
            );
            None
        }
        (Some(text), None) => scanned(&text.value.clone(), text.span, Source::Text(text), context),
        (None, Some(file)) => {
            let path = format!("{FOLDER}/{}", file.value);
            let Some(bytes) = context.files.file(&path) else {
                report_missing(&file, context);
                return None;
            };
            let source = context.files.source(&path).map_or(Source::Elsewhere(file.span), Source::File);
            match std::str::from_utf8(bytes) {
                Ok(text) => scanned(text, file.span, source, context),
                Err(_) => {
                    context.diagnostics.push(
                        Diagnostic::new(&codes::FILE_NOT_UTF8, format!("{path} is not UTF-8"))
                            .at(file.span, "holds bytes that are no characters")
                            .help("save the file as UTF-8"),
                    );
                    None
                }
            }
        }
        (None, None) => {
            table.required("text", TableReader::text);
            None
        }
    }
}

fn report_missing(file: &Spanned<String>, context: &PlanContext<'_>) {
    let near = nearest(&file.value, context.files.under(FOLDER));
    context.diagnostics.push(
        Diagnostic::new(&codes::SQL_MISSING, format!("there is no statement `{}`", file.value))
            .at(file.span, format!("no file {FOLDER}/{}", file.value))
            .help(match near {
                Some(near) => format!("a file with a similar name exists: `{near}`"),
                None => format!("put it into the folder {FOLDER}/ of the config root"),
            }),
    );
}

fn scanned(text: &str, whole: Span, source: Source, context: &PlanContext<'_>) -> Option<Written> {
    match scan(text) {
        Ok(scanned) => Some(Written { scanned, whole, source }),
        Err(problem) => {
            context.diagnostics.push(unusable(&problem, &source));
            None
        }
    }
}

fn unusable(problem: &Problem, source: &Source) -> Diagnostic {
    let (label, help) = match problem.why {
        Why::Empty => ("nothing", "write one statement"),
        Why::Open => ("never ends", "close the string, the quoted name or the comment"),
        Why::Several => ("another statement", "a step carries out one: write a step for each"),
        Why::Numbered => ("names nothing", "write `:name`, and the value into `sql.bind`"),
        Why::Brace => ("a template?", "the text is fixed: write `:name`, and the template into `sql.bind`"),
        Why::Session => (
            "outlives the statement",
            "a step is one transaction on a connection that others use next: leave it out",
        ),
    };
    Diagnostic::new(&codes::SQL_STATEMENT, "this cannot be the statement of a step")
        .at(source.part(problem.place.clone()), label)
        .help(help)
}

/// The database that is named, if one is; the engine's own otherwise.
fn read_database(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Option<Arc<Database>>> {
    if table.entry("database").is_none() {
        return Some(None);
    }
    (context.database)(&table.name("database")?).map(Some)
}

fn read_into(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Option<FieldPath>> {
    if table.entry("into").is_none() {
        return Some(None);
    }
    FieldPath::read(&table.text("into")?, context.diagnostics).map(Some)
}

/// The values by their names, with the places of these.
type Binds = Vec<(Spanned<String>, TemplateTree)>;

fn read_binds(table: &mut TableReader<'_>, context: &PlanContext<'_>) -> Option<Binds> {
    if table.entry("bind").is_none() {
        return Some(Vec::new());
    }
    let mut inner = table.table("bind")?;
    let bind =
        |entry: &Entry| Some((Spanned::new(entry.key.clone(), entry.key_span), context.tree(&entry.node)?));
    // All of them are compiled before one that is wrong ends it.
    let binds: Vec<_> = inner.rest().into_iter().map(bind).collect();
    binds.into_iter().collect()
}

/// A value for each name of the statement; reports those that are missing and those that it does not name.
fn fill(
    what: &str,
    written: &Written,
    mut binds: Binds,
    own: Option<(&str, TemplateTree)>,
    context: &PlanContext<'_>,
) -> Option<Vec<TemplateTree>> {
    let report = |message: String, place: Span, label: &str, help: String| {
        context.diagnostics.push(Diagnostic::new(&codes::SQL_BIND, message).at(place, label).help(help));
    };
    let mut values = Vec::new();
    let names = &written.scanned.text.names;
    for (name, place) in names.iter().zip(&written.scanned.places) {
        let given = binds.iter().position(|(known, _)| *known.value == **name);
        let value = match (&own, given) {
            (Some((filled, value)), None) if **name == **filled => Some(value.clone()),
            (_, given) => given.map(|given| binds.remove(given).1),
        };
        if value.is_none() {
            let help = match nearest(name, binds.iter().map(|(known, _)| known.value.as_str())) {
                Some(near) => format!("a bind with a similar name is given: `{near}`"),
                None if **name == *BATCH => "write `sql.batch`, or give it under `sql.bind`".to_owned(),
                None => {
                    format!("give it: sql.bind.{name} = …; in a slice of an array put a space behind the `:`")
                }
            };
            let message = format!("{what} has no value for `:{name}`");
            report(message, written.source.part(place.clone()), "not given", help);
        }
        values.push(value);
    }
    for (name, _) in &binds {
        let message = format!("{what} gives `{}`, which the statement does not name", name.value);
        report(
            message,
            name.span,
            "never used",
            format!("write `:{}` into the statement, or remove it", name.value),
        );
    }
    if binds.is_empty() { values.into_iter().collect() } else { None }
}

/// Only what changes rows comes to an end, and only a job has the time.
fn check_repeat(table: &mut TableReader<'_>, written: Option<&Written>, context: &PlanContext<'_>) -> bool {
    let (repeat, batch) = (table.entry("repeat"), table.entry("batch"));
    let what = &table.what;
    let is_shared = |batch: &Entry| batch.node.as_table().is_some();
    let finding = match (repeat, batch) {
        // What a job has no use for is told where jobs are judged.
        (_, Some(batch)) if is_shared(batch) && (repeat.is_none() || context.roots.contains(Root::Job)) => {
            return true;
        }
        (None, Some(batch)) => Diagnostic::new(
            &codes::KEY_MISSING,
            format!("{what} has a `batch`, but no `repeat`"),
        )
        .at(batch.key_span, "how many rows each time?")
        .help(
            "add `sql.repeat = \"until-zero\"`, give the number under `sql.bind`, or write how records \
                       share the statement: { records = 500, linger = \"5ms\" }",
        ),
        (Some(repeat), _) if !context.roots.contains(Root::Job) => {
            Diagnostic::new(&codes::STEP_JOBS_ONLY, format!("`repeat` of {what} has a meaning only in a job"))
                .at(repeat.key_span, "a record cannot wait for that")
                .help("remove it, or move the step into a job")
        }
        (Some(repeat), batch) => {
            let Some(written) = written else { return true };
            if !CHANGING.contains(&&*written.scanned.verb) {
                Diagnostic::new(&codes::SQL_REPEAT, format!("{what} would be repeated without an end"))
                    .at(repeat.key_span, "until no row is changed")
                    .also(written.source.part(0..0), "changes no rows that it tells of")
                    .help("repeat an `insert`, `update`, `delete` or `merge`")
            } else if let Some(batch) =
                batch.filter(|_| !written.scanned.text.names.iter().any(|name| **name == *BATCH))
            {
                Diagnostic::new(
                    &codes::SQL_BIND,
                    format!("{what} gives `batch`, which the statement does not name"),
                )
                .at(batch.key_span, "never used")
                .help("write `limit :batch` into the statement, or remove it")
            } else {
                return true;
            }
        }
        (None, None) => return true,
    };
    table.report(finding);
    false
}
