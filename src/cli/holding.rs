//! `biplane stages pause|resume`: says in the control topic what every engine then heeds within a second.
//!
//! Nothing in flight is thrown away by it, so nobody is asked.

use serde_json::json;

use super::arguments::{Format, GlobalArguments};
use super::exit::{CliError, CliResult, Exit};
use super::{connect, consent, output, root};
use crate::base::now_millis;
use crate::broker::ClientSettings;
use crate::catalog::{Catalog, Stage};
use crate::diag::nearest;
use crate::engine::control::{self, ControlError, Pause, Resume};

/// How the command goes about it.
pub(super) struct Way {
    pub(super) dry_run: bool,
    pub(super) format: Format,
}

pub(super) fn pause(global: &GlobalArguments, stage: &str, reason: Option<String>, way: &Way) -> CliResult {
    let Some(client) = client_for(global, stage, way)? else { return Ok(Exit::Findings) };
    let before = control::pauses(&client, &global.namespace).map_err(told)?.remove(stage);
    let pause = Pause { by: consent::who(), at: now_millis(), reason };
    if !way.dry_run {
        control::pause(&client, &global.namespace, stage, &pause).map_err(told)?;
    }
    match way.format {
        Format::Json => output::json(&json!({
            "stage": stage, "paused": true, "was_paused": before.is_some(), "done": !way.dry_run,
            "by": pause.by, "at": pause.at, "reason": pause.reason,
        }))?,
        Format::Text => {
            let again = before.map(|before| format!(" (it was {})", before.text())).unwrap_or_default();
            let said = if way.dry_run { "would be paused" } else { "is paused" };
            output::line(&format!("stage {stage} {said} in every engine{again}"))?;
        }
    }
    Ok(Exit::Clean)
}

pub(super) fn resume(global: &GlobalArguments, stage: &str, way: &Way) -> CliResult {
    let Some(client) = client_for(global, stage, way)? else { return Ok(Exit::Findings) };
    let before = control::pauses(&client, &global.namespace).map_err(told)?.remove(stage);
    if !way.dry_run {
        let resume = Resume { by: consent::who(), at: now_millis() };
        control::resume(&client, &global.namespace, stage, &resume).map_err(told)?;
    }
    match way.format {
        Format::Json => output::json(&json!({
            "stage": stage, "paused": false, "was_paused": before.is_some(), "done": !way.dry_run,
        }))?,
        Format::Text => {
            let was = match before {
                Some(before) => format!("it was {}", before.text()),
                None => "it was not paused; where it has halted it goes on".to_owned(),
            };
            let said = if way.dry_run { "would go on" } else { "goes on" };
            output::line(&format!("stage {stage} {said} in every engine ({was})"))?;
        }
    }
    Ok(Exit::Clean)
}

/// The client, once it is known that there is such a stage; `None`: the config does not check.
fn client_for(global: &GlobalArguments, stage: &str, way: &Way) -> CliResult<Option<ClientSettings>> {
    let client = connect::client(global)?;
    let Some(catalog) = root::load_for(global, way.format)? else { return Ok(None) };
    stage_of(&catalog, stage).map(|_| Some(client))
}

/// The stage of that name.
pub(super) fn stage_of<'c>(catalog: &'c Catalog, stage: &str) -> CliResult<&'c Stage> {
    if let Some(stage) = catalog.stages().get(stage) {
        return Ok(stage);
    }
    Err(unknown(stage, catalog.stages().keys().map(|name| &**name)))
}

/// None of `known` is the stage that was named.
pub(super) fn unknown<'n>(stage: &str, known: impl IntoIterator<Item = &'n str>) -> CliError {
    let hint = nearest(stage, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    CliError::usage(format!("there is no stage `{stage}`{hint}"))
}

pub(super) fn told(error: ControlError) -> CliError {
    CliError::failed(error.to_string())
}
