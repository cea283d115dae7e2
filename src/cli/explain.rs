//! `biplane explain`: the page of a code, the settings of a definition, or the list of all codes.

use super::arguments::GlobalArguments;
use super::exit::{CliError, CliResult, Exit};
use super::{Format, output, settings};
use crate::diag::codes::{all, find};
use crate::diag::nearest;

/// Prints what `subject` is about; without one, every code with its title.
pub(super) fn run(global: &GlobalArguments, subject: Option<&str>, format: Format) -> CliResult {
    let Some(code) = subject else {
        match format {
            Format::Text => {
                let rows = all().map(|code| [code.name, code.severity.as_str(), code.title]).collect();
                output::print_table(&["code", "severity", "title"], rows, "there are no codes")?;
            }
            Format::Json => output::json(&all().map(to_json).collect::<Vec<_>>())?,
        }
        return Ok(Exit::Clean);
    };
    if let Some((section, name)) = code.split_once('.').filter(|_| find(code).is_none()) {
        return settings::run(global, section, name, format);
    }
    let Some(found) = find(code) else {
        let hint = match nearest(code, all().map(|code| code.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`biplane explain` lists all codes".to_owned(),
        };
        return Err(CliError::usage(format!("there is no code `{code}`; {hint}")));
    };
    match format {
        Format::Text => output::print(&found.page())?,
        Format::Json => output::json(&to_json(found))?,
    }
    Ok(Exit::Clean)
}

fn to_json(code: &crate::diag::Code) -> serde_json::Value {
    serde_json::json!({
        "code": code.name,
        "severity": code.severity.as_str(),
        "title": code.title,
        "why": code.why,
        "wrong": code.mistake,
        "right": code.cure,
    })
}
