//! Writing to standard output and standard error.
//!
//! Colors only where a terminal is and `NO_COLOR` is not; a closed pipe becomes
//! [`CliError::ClosedPipe`] instead of a panic.

use std::io::Write;

use comfy_table::{Cell, ContentArrangement, Row, Table, presets};
use serde::Serialize;

use super::exit::{CliError, CliResult};

/// Writes `text` as it is.
pub(super) fn print(text: &str) -> CliResult<()> {
    let mut stream = anstream::stdout().lock();
    stream.write_all(text.as_bytes())?;
    stream.flush()?;
    Ok(())
}

/// Writes `text` and a line end.
pub(super) fn line(text: &str) -> CliResult<()> {
    print(&format!("{text}\n"))
}

/// Writes `value` as indented JSON.
pub(super) fn json(value: &impl Serialize) -> CliResult<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Writes a note to standard error; nobody reading it is no error.
pub(super) fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Writes an error to standard error the way `check` and clap do.
pub(super) fn error(error: &CliError) {
    let text = match error {
        CliError::ClosedPipe => return,
        CliError::Usage(message) => message.clone(),
        CliError::Failed(error) => format!("{error:#}"),
    };
    let style = anstyle::AnsiColor::Red.on_default().bold();
    note(&format!("{style}error{style:#}: {text}"));
}

/// A table with one header row and no lines drawn, so that `awk` reads it as people do.
pub(super) fn table<R: Into<Row>>(header: &[&str], rows: impl IntoIterator<Item = R>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| Cell::new(name.to_uppercase())));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Writes a table, or `empty` to standard error where there are no rows.
pub(super) fn print_table<R: Into<Row>>(header: &[&str], rows: Vec<R>, empty: &str) -> CliResult<()> {
    if rows.is_empty() {
        note(empty);
        return Ok(());
    }
    line(&table(header, rows))
}
