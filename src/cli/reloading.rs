//! Turns on that an engine follows the edits of its config root, and says what came of each.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use super::findings;
use super::live::Screen;
use super::serving::Started;
use crate::catalog::TreeDigest;
use crate::diag::{Severity, concise};
use crate::engine::{OnError, Reload, Reloader};

/// Follows the files until the engine ends; `seen` are those that run already.
pub(super) fn follow(started: &Started<'_>, reloader: Reloader, seen: TreeDigest) {
    let reloader = Arc::new(reloader);
    let again = OnError::Restart(Duration::from_secs(1));
    started.supervisor.spawn("reload", again, move |cancel| Arc::clone(&reloader).run(seen, cancel));
}

/// Shows one outcome between the lines of the table.
pub(super) fn say(screen: &Screen, outcome: &Reload) {
    let text = match outcome {
        Reload::Refused(checked) => {
            format!("{}\nnot reloaded: the config has errors, what ran goes on\n", findings::text(checked))
        }
        Reload::Failed(why) => format!("not reloaded: {why}; what ran goes on\n"),
        Reload::Done(changes) if changes.is_empty() => "reloaded: nothing that runs changed\n".to_owned(),
        Reload::Done(changes) => format!("reloaded: {changes}\n"),
    };
    screen.say(&text);
}

/// Logs one outcome; what the engine did stands in its own line.
pub(super) fn log(outcome: &Reload) {
    match outcome {
        Reload::Refused(checked) => {
            for finding in checked.findings.iter().filter(|finding| finding.severity() == Severity::Error) {
                error!("{}", concise(finding, &checked.sources));
            }
            error!("not reloaded: the config has errors, what ran goes on");
        }
        Reload::Failed(why) => error!("not reloaded: {why}; what ran goes on, and it is tried again"),
        Reload::Done(_) => info!("the engine runs the config that is there"),
    }
}
