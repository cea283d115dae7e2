//! `biplane explain SECTION.NAME`: each setting of a definition with its value and where it came from.

use serde_json::{Value as Json, json};

use super::arguments::GlobalArguments;
use super::exit::{CliError, CliResult, Exit};
use super::{Format, findings, output};
use crate::catalog::{CheckOptions, Checked, Setting, Shown, explain};
use crate::diag::{Position, nearest, words};
use crate::engine::{Process, load_tree};
use crate::spec::{NAMED_SECTIONS, Origin};

/// Prints the settings; where the files do not check, their findings.
pub(super) fn run(global: &GlobalArguments, section: &str, name: &str, format: Format) -> CliResult {
    check_section(section)?;
    let tree = load_tree(&global.config)?;
    let options = CheckOptions { environment: global.environment(), require_env: false, outside: &Process };
    let explained = explain(&tree, &options, section, name);
    let checked = &explained.checked;
    let Some(settings) = &explained.settings else {
        if checked.catalog.is_none() {
            findings::print_plain(checked, Format::Text)?;
            return Ok(Exit::Findings);
        }
        return Err(unknown_name(checked, section, name));
    };
    match format {
        Format::Text => {
            let rows = settings
                .iter()
                .map(|setting| [setting.key.clone(), shown(&setting.value), from(setting, section, checked)]);
            output::print_table(&["setting", "value", "from"], rows.collect(), "there are no settings")?;
        }
        Format::Json => output::json(&as_json(settings, section, name, checked))?,
    }
    Ok(Exit::Clean)
}

fn check_section(section: &str) -> CliResult<()> {
    if NAMED_SECTIONS.contains(&section) {
        return Ok(());
    }
    let hint = match nearest(section, NAMED_SECTIONS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", words(NAMED_SECTIONS)),
    };
    Err(CliError::usage(format!("there is no section `{section}`; {hint}")))
}

fn unknown_name(checked: &Checked, section: &str, name: &str) -> CliError {
    let known = || {
        let here = checked.places.keys().filter(|(known, _)| known == section);
        here.map(|(_, name)| name.as_str())
    };
    let hint = match nearest(name, known()) {
        Some(near) => format!("did you mean `{section}.{near}`?"),
        None => format!("there are {}", words(known())),
    };
    CliError::usage(format!("there is no `{section}.{name}`; {hint}"))
}

/// The value for people: text as it is, lists and tables as JSON.
fn shown(value: &Shown) -> String {
    match value {
        Shown::Value(Json::String(text)) => text.clone(),
        Shown::Value(value) => value.to_string(),
        Shown::Secret => "(secret)".to_owned(),
        Shown::Unset => "(not set)".to_owned(),
        Shown::Said(words) => format!("({words})"),
    }
}

fn place(origin: Origin, checked: &Checked) -> (&str, Position) {
    let (Origin::Own(span) | Origin::Defaults(span)) = origin;
    (checked.sources.path(span.file), checked.sources.position(span.file, span.start))
}

fn from(setting: &Setting, section: &str, checked: &Checked) -> String {
    let Some(origin) = setting.origin else { return "built-in".to_owned() };
    let (file, at) = place(origin, checked);
    let mut text = match origin {
        Origin::Own(_) => format!("{file}:{}", at.line),
        Origin::Defaults(_) => format!("[defaults.{section}] {file}:{}", at.line),
    };
    if let Some(template) = &setting.template {
        text.push_str(&format!(" \"{template}\""));
    }
    text
}

fn as_json(settings: &[Setting], section: &str, name: &str, checked: &Checked) -> Json {
    let settings: Vec<Json> = settings
        .iter()
        .map(|setting| {
            let (value, note) = match &setting.value {
                Shown::Value(value) => (value.clone(), None),
                Shown::Secret => (Json::Null, Some("secret")),
                Shown::Unset => (Json::Null, Some("not set")),
                Shown::Said(words) => (Json::Null, Some(*words)),
            };
            let origin = match setting.origin {
                None => "built-in",
                Some(Origin::Own(_)) => "key",
                Some(Origin::Defaults(_)) => "defaults",
            };
            let place = setting.origin.map(|origin| place(origin, checked));
            json!({
                "key": setting.key,
                "value": value,
                "note": note,
                "origin": origin,
                "file": place.map(|(file, _)| file),
                "line": place.map(|(_, at)| at.line),
                "template": setting.template,
            })
        })
        .collect();
    json!({ "section": section, "name": name, "settings": settings })
}
