//! `biplane offsets show|set`: where a stage stands in its inputs, and setting it elsewhere.
//!
//! What would be read again and what would be passed over is shown before anybody is asked.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::arguments::{Format, GlobalArguments};
use super::consent::{self, Consent};
use super::exit::{CliError, CliResult, Exit, read_or_not};
use super::holding::stage_of;
use super::selecting::moment;
use super::{connect, database, output, root, scan};
use crate::broker::ClientSettings;
use crate::catalog::{Catalog, Stage};
use crate::engine::offsets::{self, Aim, Move, OffsetsError, Standing, Which};
use crate::store::StepDatabases;

/// `biplane offsets …`
#[derive(Debug, Subcommand)]
pub enum OffsetsCommand {
    /// Where a stage's group stands in each partition that it reads
    Show {
        /// The stage
        stage: String,
        /// Which partitions
        #[command(flatten)]
        which: WhichArguments,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Let a stage go on elsewhere; counts first and asks
    ///
    /// Commits are replaced, and what they say beyond their offsets is cleared. Dead letters stay. Where
    /// engines run the stage, each moves the partitions that it reads, and what they have in flight of these
    /// is given up; what no engine has moved within 10 s stays where it is.
    Set {
        /// The stage
        stage: String,
        /// Where it goes on
        #[command(flatten)]
        aim: AimArguments,
        /// Which partitions
        #[command(flatten)]
        which: WhichArguments,
        /// What becomes of the records that are parked beside these partitions
        #[arg(long, value_enum, default_value_t)]
        parked: ParkedChoice,
        /// Show what would be done, do nothing
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

/// Which partitions of the stage's inputs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which")]
pub struct WhichArguments {
    /// The input, by its name in the files or on the broker; all of them otherwise
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// The partition; all of them otherwise
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
}

/// What becomes of parked records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ParkedChoice {
    /// They stay parked and are tried when they are due
    #[default]
    Keep,
    /// They are passed over, never to be tried
    Drop,
}

/// Exactly one of them.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct AimArguments {
    /// At the first record that is not older: RFC 3339, or so long ago (`2h`)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to_time: Option<i64>,
    /// At this offset of each partition that is meant
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// At the oldest record
    #[arg(long)]
    to_earliest: bool,
    /// Behind the newest record
    #[arg(long)]
    to_latest: bool,
}

pub(super) fn run(global: &GlobalArguments, command: OffsetsCommand) -> CliResult {
    match command {
        OffsetsCommand::Show { stage, which, format } => show(global, &stage, &which.into(), format),
        OffsetsCommand::Set { stage, aim, which, parked, dry_run, yes, format } => {
            let consent = Consent { dry_run, yes };
            set(global, &stage, &Wanted { aim: aim.aim(), which: which.into(), parked, consent, format })
        }
    }
}

struct Wanted {
    aim: Aim,
    which: Which,
    parked: ParkedChoice,
    consent: Consent,
    format: Format,
}

fn show(global: &GlobalArguments, name: &str, which: &Which, format: Format) -> CliResult {
    let client = connect::client(global)?;
    let Some(catalog) = root::load_for(global, format)? else { return Ok(Exit::Findings) };
    let stage = stage_of(&catalog, name)?;
    let group = offsets::group(&global.namespace, stage);
    let looker = scan::looker(&client, &group)?;
    let standings = offsets::standings(&looker, stage, which).map_err(told)?;
    let parked = offsets::parked(&looker, &global.namespace, stage, which).map_err(told)?;
    match format {
        Format::Json => output::json(&json!({
            "stage": name, "group": group, "partitions": standings, "parked": parked,
        }))?,
        Format::Text => {
            let header = ["topic", "partition", "committed", "begin", "end", "lag", "finished beyond"];
            let all = standings.iter().chain(&parked).map(standing).collect();
            output::print_table(&header, all, "no partitions")?;
        }
    }
    Ok(Exit::Clean)
}

fn set(global: &GlobalArguments, name: &str, wanted: &Wanted) -> CliResult {
    let client = connect::client(global)?;
    let Some(catalog) = root::load_for(global, wanted.format)? else { return Ok(Exit::Findings) };
    let stage = stage_of(&catalog, name)?;
    let group = offsets::group(&global.namespace, stage);
    let looker = scan::looker(&client, &group)?;
    let mut moves = offsets::plan(&looker, stage, &wanted.which, wanted.aim).map_err(told)?;
    let (again, skipped) =
        moves.iter().fold((0, 0), |(again, skipped), found| (again + found.again, skipped + found.skipped));
    let parked = offsets::parked(&looker, &global.namespace, stage, &wanted.which).map_err(told)?;
    let left: i64 = parked.iter().map(Standing::left).sum();
    let fate = match wanted.parked {
        _ if left == 0 => String::new(),
        ParkedChoice::Keep => format!(", {left} parked ones kept"),
        ParkedChoice::Drop => {
            moves.extend(offsets::plan_drop(&parked).map_err(told)?);
            format!(", {left} parked ones never tried")
        }
    };
    if wanted.format == Format::Text {
        let header = ["topic", "partition", "from", "to", "read again", "passed over"];
        read_or_not(output::print_table(
            &header,
            moves.iter().map(moved).collect(),
            "every partition stands there",
        ))?;
    }
    let done = !moves.is_empty() && !wanted.consent.dry_run;
    let mut by_engines = false;
    if done {
        by_engines = match offsets::free(&client, &group) {
            Err(OffsetsError::Running { .. }) => true,
            other => other.map_err(told).map(|()| false)?,
        };
        let question = format!(
            "set the offsets of {} partitions{} ({again} offsets read again, {skipped} passed over{fate})?",
            moves.len(),
            if by_engines { ", which engines read" } else { "" }
        );
        if !consent::agreed(&wanted.consent, &question)? {
            return Err(CliError::failed("nothing was set"));
        }
        let namespace = &global.namespace;
        match by_engines {
            true => drop(
                offsets::set_by_owners(&client, namespace, stage, &consent::who(), &moves).map_err(told)?,
            ),
            false => set_free(global, &client, &catalog, stage, &moves)?,
        }
    }
    match wanted.format {
        Format::Json => output::json(&json!({
            "stage": name, "group": group, "changes": moves, "again": again, "skipped": skipped,
            "parked": left, "parked_dropped": wanted.parked == ParkedChoice::Drop, "done": done,
            "by_engines": by_engines,
        }))?,
        Format::Text if done => {
            let how = if by_engines { " by the engines that run the stage" } else { "" };
            output::line(&format!("{} offsets set{how}", moves.len()))?;
        }
        Format::Text => {}
    }
    Ok(Exit::Clean)
}

/// Where nobody runs the stage.
fn set_free(
    global: &GlobalArguments,
    client: &ClientSettings,
    catalog: &Catalog,
    stage: &Stage,
    moves: &[Move],
) -> CliResult<()> {
    if stage.effects().next().is_some() {
        let databases = StepDatabases::new(database::of_engine(global, catalog)?);
        database::wait(offsets::set_in_database(&databases, &global.namespace, stage, moves))?
            .map_err(told)?;
    }
    offsets::set(client, &global.namespace, stage, moves).map_err(told)
}

impl AimArguments {
    fn aim(&self) -> Aim {
        match (self.to_time, self.to_offset) {
            (Some(millis), _) => Aim::Time(millis),
            (None, Some(offset)) => Aim::Offset(offset),
            (None, None) if self.to_earliest => Aim::Earliest,
            (None, None) => Aim::Latest,
        }
    }
}

impl From<WhichArguments> for Which {
    fn from(WhichArguments { topic, partition }: WhichArguments) -> Self {
        Self { topic, partition }
    }
}

fn standing(standing: &Standing) -> [String; 7] {
    [
        standing.topic.clone(),
        standing.partition.to_string(),
        known(standing.committed),
        standing.begin.to_string(),
        standing.end.to_string(),
        standing.lag.to_string(),
        standing.finished_beyond.to_string(),
    ]
}

fn moved(found: &Move) -> [String; 6] {
    [
        found.topic.clone(),
        found.partition.to_string(),
        known(found.from),
        found.to.to_string(),
        found.again.to_string(),
        found.skipped.to_string(),
    ]
}

fn known(offset: Option<i64>) -> String {
    offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string())
}

pub(super) fn told(error: OffsetsError) -> CliError {
    match error {
        OffsetsError::Nothing { .. } | OffsetsError::OutOfRange { .. } => CliError::usage(error.to_string()),
        other => CliError::failed(other.to_string()),
    }
}
