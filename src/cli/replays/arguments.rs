//! What the verbs of `biplane replays` take.

use clap::{ArgGroup, Args, Subcommand};

use crate::base::Rate;
use crate::cli::arguments::Format;
use crate::cli::selecting::{RangeArguments, SelectArguments};

/// `biplane replays …`
#[derive(Debug, Subcommand)]
pub enum ReplaysCommand {
    /// Send dead letters, or records of a topic, again
    ///
    /// Counts first and asks. Dead letters go to the stage that gave them up, and to no other that reads
    /// the same topic; they are not offered again once that is done.
    Start(Box<StartArguments>),
    /// All replays with their progress
    List {
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// One replay in full
    Show {
        /// The replay
        id: String,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Go on with a replay whose command has ended
    Resume {
        /// The replay
        id: String,
        /// How to write what became of it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// End a replay, wherever its command runs
    Cancel {
        /// The replay
        id: String,
    },
}

/// `biplane replays start …`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true))]
pub struct StartArguments {
    /// Dead letters of this DLQ
    #[arg(long, value_name = "NAME", group = "source")]
    pub(super) dlq: Option<String>,
    /// Records of this topic, by its name in the files or on the broker
    #[arg(long, value_name = "TOPIC", group = "source")]
    pub(super) topic: Option<String>,
    /// Send them to this stage alone
    #[arg(long, value_name = "STAGE", conflicts_with = "to_topic")]
    pub(super) to_stage: Option<String>,
    /// Send them to this topic as they were, by its name in the files or on the broker
    #[arg(long, value_name = "TOPIC")]
    pub(super) to_topic: Option<String>,
    #[command(flatten)]
    pub(super) select: SelectArguments,
    #[command(flatten)]
    pub(super) range: RangeArguments,
    /// Those as well that were replayed or discarded before
    #[arg(long)]
    pub(super) all: bool,
    /// Send at most so many, such as `500/s`
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(super) rate: Option<Rate>,
    /// Leave out what was sent again as often as this
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_replays: u32,
    /// Show what would be sent, and send nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not count first, and do not ask
    #[arg(long, short)]
    pub(super) yes: bool,
    /// How to write what becomes of it
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

fn rate(text: &str) -> Result<Rate, String> {
    Rate::parse(text).map_err(|error| error.to_string())
}
