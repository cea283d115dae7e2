//! `biplane tokens create|list|revoke`: who may ask an engine over HTTP.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::arguments::{Format, GlobalArguments, duration, name};
use super::consent::{self, Consent};
use super::database::{failed, open, wait};
use super::exit::{CliError, CliResult, Exit};
use super::{jobs, output};
use crate::store::{Scope, StoreError, TokenRow};

/// `biplane tokens …`
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// Make a token and print it; it is shown this once
    Create(CreateArguments),
    /// All tokens, without their secrets
    List {
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Let a token open nothing any more
    Revoke {
        /// Its name or its number
        token: String,
        /// Say what would be done, do nothing
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// What a token is.
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// Its name, which the audit calls its bearer by
    #[arg(value_parser = name)]
    name: String,
    /// What it is good for: read, payload (args and results), operate, work (pull workers), admin; several are
    /// separated by commas
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', required = true)]
    scope: Vec<Scope>,
    /// When it ends, such as `90d`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires_in: Option<Duration>,
    /// Print the token and nothing else
    #[arg(long)]
    once: bool,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(global: &GlobalArguments, command: &TokensCommand) -> CliResult {
    match command {
        TokensCommand::Create(arguments) => create(global, arguments),
        TokensCommand::List { format } => list(global, *format),
        TokensCommand::Revoke { token, dry_run, yes, format } => {
            revoke(global, token, &Consent { dry_run: *dry_run, yes: *yes }, *format)
        }
    }
}

fn create(global: &GlobalArguments, arguments: &CreateArguments) -> CliResult {
    let seconds = arguments.expires_in.map(jobs::seconds);
    let made = wait(async {
        let database = open(global)?;
        let made = database.create_token(&arguments.name, &arguments.scope, seconds, &consent::who()).await;
        made.map_err(|error| match error {
            StoreError::Refused { code, .. } if code == "23505" => CliError::usage(format!(
                "there is a token `{}` already: revoke it first, or take another name",
                arguments.name
            )),
            other => failed(other),
        })
    })??;
    match arguments.format {
        Format::Json => output::json(&json!({
            "id": made.id.to_string(), "name": arguments.name, "token": made.text,
        }))?,
        Format::Text => {
            if !arguments.once {
                output::note(&format!("token `{}` is shown this once: keep it now", arguments.name));
            }
            output::line(&made.text)?;
        }
    }
    Ok(Exit::Clean)
}

fn list(global: &GlobalArguments, format: Format) -> CliResult {
    let tokens = wait(async { open(global)?.tokens().await.map_err(failed) })??;
    match format {
        Format::Json => output::json(&tokens)?,
        Format::Text => {
            let header = ["id", "name", "state", "scopes", "by", "age", "ends in"];
            output::print_table(&header, tokens.iter().map(line).collect(), "no tokens")?;
        }
    }
    Ok(Exit::Clean)
}

fn line(token: &TokenRow) -> [String; 7] {
    let days = |seconds: f64| format!("{:.1} d", seconds / 86_400.0);
    [
        token.id.clone(),
        token.name.clone(),
        token.state.clone(),
        token.scopes.join(","),
        token.created_by.clone(),
        days(token.age_seconds),
        token.left_seconds.map_or_else(|| "never".to_owned(), days),
    ]
}

fn revoke(global: &GlobalArguments, token: &str, consent: &Consent, format: Format) -> CliResult {
    wait(async {
        let database = open(global)?;
        let known = |row: &TokenRow| (row.name == token || row.id == token) && row.state != "revoked";
        if !database.tokens().await.map_err(failed)?.iter().any(known) {
            return Err(CliError::usage(format!(
                "there is no token `{token}` to revoke; `biplane tokens list` has all"
            )));
        }
        let mut revoked = false;
        if !consent.dry_run {
            if !consent::agreed(consent, &format!("revoke token `{token}`?"))? {
                return Err(CliError::failed("nothing was revoked"));
            }
            revoked = database.revoke_token(token, &consent::who()).await.map_err(failed)?;
        }
        match format {
            Format::Json => output::json(&json!({ "token": token, "revoked": revoked }))?,
            Format::Text => {
                let said = if revoked { "is revoked" } else { "would be revoked" };
                output::line(&format!("token `{token}` {said}"))?;
            }
        }
        Ok(Exit::Clean)
    })?
}
