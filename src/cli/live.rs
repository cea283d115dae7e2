//! The table that moves while `dev --sample` runs: in place on a terminal, plain lines elsewhere; and
//! what else there is to say meanwhile, which comes above the table.
//!
//! Shows what [`View::status`] says and what it is given, nothing of its own.

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::exit::CliResult;
use super::output;
use crate::engine::{TaskError, View};
use crate::events::StageStatus;

const EVERY: Duration = Duration::from_millis(250);

const HEADER: [&str; 8] =
    ["stage", "state", "in", "out", "filtered", "retried", "dead-lettered", "failures by code"];

/// Whether the table can move in place.
pub(super) fn in_place() -> bool {
    std::io::stdout().is_terminal()
}

/// Standard output while the engine runs: shared by the table and by those who say something.
#[derive(Clone)]
pub(super) struct Screen {
    /// Where the table moves in place.
    table: Option<MultiProgress>,
}

impl Screen {
    /// `with_table`: a table moves in place, where standard output is a terminal.
    pub(super) fn new(with_table: bool) -> Self {
        let moving = with_table && in_place();
        Self { table: moving.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout())) }
    }

    /// Writes whole lines; a reader that went away is no error, for the engine runs on.
    pub(super) fn say(&self, text: &str) {
        let Some(table) = &self.table else {
            let _ = output::print(text);
            return;
        };
        let coloured = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        let plain = anstream::adapter::strip_str(text);
        let _ = table.println(if coloured { text.to_owned() } else { plain.to_string() }.trim_end());
    }
}

/// Shows the stages until `cancel`, then once more for the record.
pub(super) async fn show(
    screen: Screen,
    view: Arc<dyn View>,
    cancel: CancellationToken,
) -> Result<(), TaskError> {
    let mut shown = Shown::new(&screen);
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
        // A reader that went away ends the table, not the engine.
        if shown.update(&view.status().stages).is_err() {
            return Ok(());
        }
    }
    shown.finish();
    Ok(())
}

enum Shown {
    /// One bar a line: each is cut to the terminal's width and drawn over its former self.
    InPlace(MultiProgress, Vec<ProgressBar>),
    Lines(HashMap<String, String>),
}

impl Shown {
    fn new(screen: &Screen) -> Self {
        match &screen.table {
            Some(table) => Self::InPlace(table.clone(), Vec::new()),
            None => Self::Lines(HashMap::new()),
        }
    }

    fn update(&mut self, stages: &[StageStatus]) -> CliResult<()> {
        match self {
            Self::InPlace(screen, bars) => {
                let table = output::table(&HEADER, stages.iter().map(cells));
                let lines: Vec<_> = table.lines().collect();
                while bars.len() < lines.len() {
                    bars.push(screen.add(bar()));
                }
                // A stage that was removed takes its line with it.
                bars.drain(lines.len()..).for_each(|bar| screen.remove(&bar));
                for (bar, line) in bars.iter().zip(lines) {
                    bar.set_message(line.to_owned());
                    bar.tick();
                }
            }
            Self::Lines(shown) => {
                for stage in stages {
                    let text = plain(stage);
                    if shown.get(&*stage.stage) != Some(&text) {
                        output::line(&text)?;
                        shown.insert(stage.stage.clone(), text);
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&self) {
        if let Self::InPlace(_, bars) = self {
            bars.iter().for_each(ProgressBar::abandon);
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    ProgressStyle::with_template("{wide_msg}").map_or(bar.clone(), |style| bar.with_style(style))
}

fn cells(stage: &StageStatus) -> [String; 8] {
    let counts = &stage.counts;
    [
        stage.stage.clone(),
        stage.state.clone(),
        counts.records_in.to_string(),
        counts.records_out.to_string(),
        counts.filtered.to_string(),
        counts.retried.to_string(),
        counts.dead_lettered.to_string(),
        by_code(&stage.failures),
    ]
}

fn plain(stage: &StageStatus) -> String {
    let cells = cells(stage);
    let pairs = HEADER.iter().zip(&cells).skip(2).take(5);
    let counts: String = pairs.map(|(name, count)| format!(" {name}={count}")).collect();
    let failures = if cells[7].is_empty() { String::new() } else { format!(" ({})", cells[7]) };
    format!("{} {}{counts}{failures}", cells[0], cells[1])
}

/// `schema 2, json 1`, the most frequent first.
pub(super) fn by_code(failures: &BTreeMap<String, u64>) -> String {
    let mut codes: Vec<_> = failures.iter().collect();
    codes.sort_by(|left, right| right.1.cmp(left.1).then(left.0.cmp(right.0)));
    codes.iter().map(|(code, count)| format!("{code} {count}")).collect::<Vec<_>>().join(", ")
}
