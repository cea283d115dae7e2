//! Asking before something is done that cannot be taken back, and who it is that does it.

use std::io::{self, IsTerminal, Write};

use super::exit::{CliError, CliResult};

/// How a command goes about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Consent {
    /// Show only what would be done.
    pub(super) dry_run: bool,
    /// Do not ask.
    pub(super) yes: bool,
}

/// Whether it may be done: `--yes`, or somebody says so.
pub(super) fn agreed(consent: &Consent, question: &str) -> CliResult<bool> {
    if consent.yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::usage(
            "nobody to ask: say --yes to go on, --dry-run to see what would be done",
        ));
    }
    write!(anstream::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The user and the machine that a command runs as, for those who look at it later.
pub(super) fn who() -> String {
    let user = ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let host = std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned());
    let host = host.filter(|name| !name.is_empty()).or_else(|| std::env::var("HOSTNAME").ok());
    match (user.filter(|user| !user.is_empty()), host) {
        (Some(user), Some(host)) => format!("{user}@{host}"),
        (Some(name), None) | (None, Some(name)) => name,
        (None, None) => "unknown".to_owned(),
    }
}
