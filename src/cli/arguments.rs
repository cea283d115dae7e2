//! The command line's definitions, from which help, completions and man pages come alike.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::audit::AuditCommand;
use super::exit::{CliError, CliResult};
use super::jobs;
use super::offsets::OffsetsCommand;
use super::operating::{self, OperateArguments, SnoozeArguments};
use super::replays::arguments::ReplaysCommand;
use super::selecting::{RangeArguments, SelectArguments};
use super::tailing::TailArguments;
use super::tokens::TokensCommand;
use crate::base::{ByteSize, parse_duration};
use crate::catalog::ALLOW_EXEC;
use crate::engine::WINDOW;
use crate::steps::ExecRoot;
use crate::store::Schema;

/// Declarative pipelines on Kafka: TOML in, records through topics, retried, dead-lettered, measured.
#[derive(Debug, Parser)]
#[command(name = "biplane", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 clean, 1 findings, 2 usage, 3 could not complete.")]
pub struct Arguments {
    /// Settings that every command takes.
    #[command(flatten)]
    pub global: GlobalArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the config is and where the engine connects.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArguments {
    /// The config root
    #[arg(long, global = true, env = "BIPLANE_CONFIG", hide_env_values = true, value_name = "DIR")]
    #[arg(default_value = ".")]
    pub config: PathBuf,
    /// Kafka brokers, `host:port` separated by commas
    #[arg(long, global = true, env = "BIPLANE_KAFKA_BROKERS", hide_env_values = true)]
    brokers: Option<String>,
    /// The address of the HTTP server
    #[arg(long, global = true, env = "BIPLANE_LISTEN", hide_env_values = true, value_name = "ADDRESS")]
    #[arg(default_value = "127.0.0.1:8686")]
    pub listen: String,
    /// Names by which the HTTP server may be asked beside addresses and `localhost`, separated by commas
    #[arg(long, global = true, env = "BIPLANE_ALLOWED_HOSTS", hide_env_values = true, value_name = "NAMES")]
    allowed_hosts: Option<String>,
    /// Origins whose pages may ask the HTTP server, such as `https://desk.example`, separated by commas
    #[arg(
        long,
        global = true,
        env = "BIPLANE_ALLOWED_ORIGINS",
        hide_env_values = true,
        value_name = "ORIGINS"
    )]
    allowed_origins: Option<String>,
    /// Where others reach the HTTP server, for callbacks; else its own address
    #[arg(long, global = true, env = "BIPLANE_PUBLIC_URL", hide_env_values = true, value_name = "URL")]
    public_url: Option<String>,
    /// Prefix of consumer groups and of the engine's own topics
    #[arg(long, global = true, env = "BIPLANE_NAMESPACE", hide_env_values = true, value_name = "NAME")]
    #[arg(default_value = "biplane", value_parser = name)]
    pub namespace: String,
    /// Names this engine for static group membership, e.g. a pod's name
    #[arg(long, global = true, env = "BIPLANE_ENGINE_ID", hide_env_values = true, value_name = "NAME")]
    engine_id: Option<String>,
    /// Picks environments/NAME.toml
    #[arg(long, global = true, env = "BIPLANE_ENVIRONMENT", hide_env_values = true, value_name = "NAME")]
    environment: Option<String>,
    /// The Postgres database; only read from the environment where it holds a password
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// The same database past a pooler, for what needs a session of its own
    #[arg(
        long,
        global = true,
        env = "BIPLANE_DATABASE_DIRECT_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_direct_url: Option<String>,
    /// The Postgres schema that holds the engine's tables
    #[arg(long, global = true, env = "BIPLANE_DATABASE_SCHEMA", hide_env_values = true, value_name = "NAME")]
    #[arg(default_value = "biplane", value_parser = Schema::new)]
    pub database_schema: Schema,
    /// Let `exec` steps start programs, for `run` and `dev`
    #[arg(long, global = true, env = ALLOW_EXEC, hide_env_values = true)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    allow_exec: bool,
}

impl GlobalArguments {
    /// Where programs of `exec` steps lie; `None`: none may be started.
    ///
    /// # Errors
    /// Where there is no config root.
    pub fn programs(&self) -> CliResult<Option<Arc<ExecRoot>>> {
        Ok(self.allow_exec.then(|| ExecRoot::new(&self.config)).transpose()?.map(Arc::new))
    }

    /// The brokers, if any are named.
    pub fn brokers(&self) -> Option<&str> {
        not_empty(&self.brokers)
    }

    /// The brokers, for commands that cannot do without.
    ///
    /// # Errors
    /// [`CliError::Usage`] where none are named.
    pub fn require_brokers(&self) -> CliResult<&str> {
        self.brokers().ok_or_else(|| {
            CliError::usage("no brokers: set BIPLANE_KAFKA_BROKERS or --brokers to `host:port`")
        })
    }

    /// The engine's name for static membership, if it has one.
    pub fn engine_id(&self) -> Option<&str> {
        not_empty(&self.engine_id)
    }

    /// Names by which the HTTP server may be asked.
    pub fn allowed_hosts(&self) -> &str {
        not_empty(&self.allowed_hosts).unwrap_or_default()
    }

    /// Origins whose pages may ask it.
    pub fn allowed_origins(&self) -> &str {
        not_empty(&self.allowed_origins).unwrap_or_default()
    }

    /// Where others reach the HTTP server, if that is said.
    ///
    /// # Errors
    /// [`CliError::Usage`] for what is no URL.
    pub fn public_url(&self) -> CliResult<Option<&str>> {
        let Some(url) = not_empty(&self.public_url) else { return Ok(None) };
        let parsed = reqwest::Url::parse(url).ok();
        let fits = |url: &reqwest::Url| {
            matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none()
        };
        match parsed.filter(fits) {
            Some(_) => Ok(Some(url)),
            None => {
                let message = format!(
                    "BIPLANE_PUBLIC_URL is `{url}`, which is no address such as `https://jobs.example.com`"
                );
                Err(CliError::usage(message))
            }
        }
    }

    /// The environment file's name, if one is picked.
    pub fn environment(&self) -> Option<&str> {
        not_empty(&self.environment)
    }

    /// The Postgres database, if one is named.
    pub fn database_url(&self) -> Option<&str> {
        not_empty(&self.database_url)
    }

    /// The Postgres database, for commands that cannot do without.
    ///
    /// # Errors
    /// [`CliError::Usage`] where none is named.
    pub fn require_database_url(&self) -> CliResult<&str> {
        self.database_url().ok_or_else(|| {
            CliError::usage("no database: set DATABASE_URL to `postgres://ROLE:PASSWORD@HOST:PORT/DATABASE`")
        })
    }

    /// The same, with this database.
    pub(super) fn with_database(&self, url: &str) -> Self {
        Self { database_url: Some(url.to_owned()), ..self.clone() }
    }

    /// The way to the database past a pooler, if one is named.
    pub fn database_direct_url(&self) -> Option<&str> {
        not_empty(&self.database_direct_url)
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find all that is wrong with the config root, without a broker unless `--online`
    Check {
        /// Ask the broker as well whether the topics are as the files want them, and the databases what they say of
        /// the statements of `sql` steps
        #[arg(long)]
        online: bool,
        /// Check with the values of every environments/NAME.toml
        #[arg(long)]
        all_environments: bool,
        /// Take an env value that is not set for an error
        #[arg(long)]
        require_env: bool,
        /// Take warnings for errors
        #[arg(long)]
        deny_warnings: bool,
        /// How findings are written
        #[arg(long, value_enum, default_value_t)]
        format: CheckFormat,
    },
    /// Tell more about a code of `check` or about a definition; without one, list all codes
    Explain {
        /// A code, such as `topic::undefined`, or a definition, such as `stages.NAME`
        #[arg(value_name = "CODE|SECTION.NAME")]
        subject: Option<String>,
        /// How it is written
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print the JSON Schema of config files, for editors
    Schema,
    /// Run the engine: the stages and the HTTP server
    Run {
        /// How many records all stages together may have in flight
        #[arg(long, env = "BIPLANE_WINDOW_RECORDS", hide_env_values = true, value_name = "NUMBER")]
        #[arg(default_value_t = WINDOW.records, value_parser = records)]
        window_records: usize,
        /// How many bytes of records all stages together may have in flight, such as `512MiB`
        #[arg(long, env = "BIPLANE_WINDOW_BYTES", hide_env_values = true, value_name = "SIZE")]
        #[arg(default_value_t = WINDOW.bytes, value_parser = size)]
        window_bytes: ByteSize,
        /// How long payloads of jobs that have ended are kept, such as `30d`
        #[arg(long, env = "BIPLANE_KEEP_PAYLOADS", hide_env_values = true, value_name = "DURATION")]
        #[arg(default_value = "30d", value_parser = days)]
        keep_payloads: i32,
        /// How long outcomes of jobs are kept, such as `30d`
        #[arg(long, env = "BIPLANE_KEEP_OUTCOMES", hide_env_values = true, value_name = "DURATION")]
        #[arg(default_value = "30d", value_parser = days)]
        keep_outcomes: i32,
        /// Apply the migrations that are missing first, as `biplane migrate` does
        #[arg(long)]
        migrate: bool,
        /// Leave edits of the config root to the next start instead of taking them over
        #[arg(long)]
        no_reload: bool,
    },
    /// Run everything in one process, with Kafka in memory unless brokers are named
    ///
    /// On brokers that are named it makes the topics that are missing and says how those that exist
    /// differ from the files, without changing them.
    Dev {
        /// Feed the sample records and show what becomes of them
        #[arg(long)]
        sample: bool,
        /// The folder of `initdb` and `postgres`, where durable jobs need a server and DATABASE_URL names none
        #[arg(long, env = "BIPLANE_POSTGRES_BIN", hide_env_values = true, value_name = "DIR")]
        postgres_bin: Option<PathBuf>,
    },
    /// Make the database's tables what this version needs; forward only
    Migrate {
        /// One of `[databases.…]`, for the stages that are exactly-once there: makes the table that says how far
        /// they are, and nothing else
        #[arg(long, value_name = "NAME")]
        database: Option<String>,
        /// Say what would be applied, apply nothing
        #[arg(long)]
        dry_run: bool,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// The database: whether it is reached, as whom, and whether its tables fit
    #[command(subcommand)]
    Databases(DatabasesCommand),
    /// Durable jobs: one in, and where they stand
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// The queues of durable jobs: how much lies where, and letting one stand still
    #[command(subcommand)]
    Queues(QueuesCommand),
    /// What operators did to jobs, queues and tokens
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Who may ask an engine over HTTP
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// The engines that run durable jobs
    #[command(subcommand)]
    Workers(WorkersCommand),
    /// What the files want of topics against what the broker has
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// What the stages do: state, in-flight, lag in records and seconds, failures by code
    #[command(subcommand)]
    Stages(StagesCommand),
    /// What lies in the DLQs, grouped by stage and code, one record in full, and discarding some
    #[command(subcommand)]
    Dlqs(DlqsCommand),
    /// Send dead letters, or records of a topic, again
    #[command(subcommand)]
    Replays(ReplaysCommand),
    /// Where a stage stands in its inputs, and setting it elsewhere
    #[command(subcommand)]
    Offsets(OffsetsCommand),
    /// Print shell completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page, or write one page a command into a folder
    Man {
        /// Write `biplane.1`, `biplane-check.1`, … here
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

/// `biplane topics …`
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Show what would be created, grown and configured; changes nothing
    Plan {
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Create, grow and configure topics; never deletes or shrinks one
    Apply {
        /// Show the changes and their counts, make none
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// How to write the changes
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// `biplane databases …`
#[derive(Debug, Subcommand)]
pub enum DatabasesCommand {
    /// Connect and tell role, version, route, rights and migrations; changes nothing
    Check {
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// `biplane jobs …`
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// Enqueue one job and print its id; where another holds its unique key, that one's
    Enqueue {
        /// Which
        #[command(flatten)]
        wanted: EnqueueArguments,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Jobs in the order in which they come up, those that are over only where a state asks for them
    List {
        /// Which
        #[command(flatten)]
        filter: ListArguments,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Where a job stands, with its args, its last error and its outcome
    Show {
        /// Its id
        id: i64,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Let jobs run now; those that were given up begin anew with all their attempts
    Retry(OperateArguments),
    /// End jobs; whoever runs one is asked to end it, and loses it ten seconds later
    Cancel(OperateArguments),
    /// Put jobs that wait off, with no attempt spent
    Snooze {
        /// When they are due
        #[command(flatten)]
        when: SnoozeArguments,
        /// Which
        #[command(flatten)]
        jobs: OperateArguments,
    },
    /// Give failed jobs up for good
    Discard(OperateArguments),
    /// Give jobs that wait another priority
    Prioritise {
        /// From 1, which goes first, to 9
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i16).range(1..=9))]
        priority: i16,
        /// Which
        #[command(flatten)]
        jobs: OperateArguments,
    },
    /// Follow jobs as they end, or one job through its states until it is over
    Tail(TailArguments),
}

/// Which jobs `jobs list` shows.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Of this state alone
    #[arg(long, value_parser = STATES)]
    pub state: Option<String>,
    /// Of this queue
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Of this kind
    #[arg(long, value_name = "NAME")]
    pub kind: Option<String>,
    /// With this unique key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Whose args contain these, such as `{"tenant_id": 7}`
    #[arg(long, value_name = "JSON", value_parser = operating::json_text)]
    pub where_args: Option<String>,
    /// At most this many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    pub limit: i64,
    /// How far back outcomes are looked for, such as `2h`
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub since: Duration,
}

/// The states of jobs, as they are written everywhere.
pub(super) const STATES: [&str; 9] = [
    "scheduled",
    "queued",
    "running",
    "retrying",
    "waiting",
    "failed",
    "succeeded",
    "cancelled",
    "discarded",
];

/// What `jobs enqueue` puts in.
#[derive(Debug, Args)]
pub struct EnqueueArguments {
    /// The name of its `[jobs.NAME]`
    pub kind: String,
    /// Its args; `-` reads them from standard input
    #[arg(long, value_name = "JSON", default_value = "{}", allow_hyphen_values = true)]
    pub args: String,
    /// Not before this time, such as `2026-05-01T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = jobs::time)]
    pub run_at: Option<DateTime<Utc>>,
    /// Cancel it unless it has started by this time
    #[arg(long, value_name = "TIME", value_parser = jobs::time)]
    pub expires_at: Option<DateTime<Utc>>,
    /// From 1, which goes first, to 9
    #[arg(long, value_name = "NUMBER")]
    pub priority: Option<i32>,
    /// How many attempts it has
    #[arg(long, value_name = "NUMBER")]
    pub max_attempts: Option<i32>,
    /// Only while no other job of its kind holds this key
    #[arg(long, value_name = "KEY")]
    pub unique_key: Option<String>,
    /// Wait until it is over, at most so long; one that does not succeed ends with 1
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "1h")]
    #[arg(value_parser = duration)]
    pub wait: Option<Duration>,
}

/// `biplane queues …`
#[derive(Debug, Subcommand)]
pub enum QueuesCommand {
    /// All queues, one a line; counts each job
    List {
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Let no engine start jobs of a queue until it is resumed; what runs is finished
    Pause {
        /// The queue
        name: String,
        /// Why, for those who look at it
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Let engines start jobs of a queue again
    Resume {
        /// The queue
        name: String,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// `biplane workers …`
#[derive(Debug, Subcommand)]
pub enum WorkersCommand {
    /// All engines that are registered, one a line, with what they hold
    List {
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// `biplane stages …`
#[derive(Debug, Subcommand)]
pub enum StagesCommand {
    /// All stages, one a line
    List {
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Let a stage stand still in every engine until it is resumed; what runs is finished
    Pause {
        /// The stage
        name: String,
        /// Why, for those who look at it
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// End the pause of a stage; one that has halted goes on as well
    Resume {
        /// The stage
        name: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// One stage with its partitions and the members of its consumer group
    Show {
        /// The stage
        name: String,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// `biplane dlqs …`
#[derive(Debug, Subcommand)]
pub enum DlqsCommand {
    /// Dead letters, counted by DLQ, stage and code
    List {
        /// Which are counted
        #[command(flatten)]
        select: SelectArguments,
        /// Those as well that were replayed or discarded
        #[arg(long)]
        all: bool,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// One dead letter in full: the newest, or the one at a partition and offset of the DLQ's topic
    Show {
        /// The DLQ
        name: String,
        /// Of which the newest is shown
        #[command(flatten)]
        select: SelectArguments,
        /// The partition of the DLQ's topic
        #[arg(long)]
        partition: Option<i32>,
        /// The offset in that partition
        #[arg(long, requires = "partition")]
        offset: Option<i64>,
        /// Those as well that were replayed or discarded
        #[arg(long)]
        all: bool,
        /// How to write it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Settle dead letters that are not to be sent again; counts first and asks
    ///
    /// They stay in the topic, and `--all` still shows them.
    Discard {
        /// The DLQ
        name: String,
        /// Which are discarded
        #[command(flatten)]
        select: Box<SelectArguments>,
        /// Where they lie
        #[command(flatten)]
        range: RangeArguments,
        /// Show what would be discarded, discard nothing
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

/// How a listing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For scripts
    Json,
}

/// How `check` writes its findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CheckFormat {
    /// For people, with the lines they stand in
    #[default]
    Text,
    /// One line a finding: `file:line:column: severity[code]: message`
    Concise,
    /// For scripts
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Workflow commands, which GitHub shows at the lines of a pull request
    Github,
    /// JUnit XML, for test reports
    Junit,
}

fn not_empty(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}

/// A name as topics and groups bear it.
pub(super) fn name(text: &str) -> Result<String, String> {
    let starts = text.starts_with(|first: char| first.is_ascii_lowercase());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if starts && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("a name starts with a lowercase letter and goes on with a-z, 0-9, `.`, `_` and `-`".to_owned())
    }
}

fn records(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "expected a number above zero".to_owned())
}

fn size(text: &str) -> Result<ByteSize, String> {
    match ByteSize::parse(text) {
        Ok(ByteSize(0)) => Err("must be more than nothing".to_owned()),
        size => size.map_err(|error| error.to_string()),
    }
}

/// Whole days, since what is kept is dropped by the day.
fn days(text: &str) -> Result<i32, String> {
    let seconds = duration(text)?.as_secs();
    match i32::try_from(seconds.div_ceil(DAY)) {
        Ok(days) if seconds >= DAY => Ok(days),
        _ => Err("expected at least a day, such as `7d`".to_owned()),
    }
}

const DAY: u64 = 24 * 3600;

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}
