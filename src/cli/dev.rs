//! `biplane dev`: everything in one process, Kafka in memory unless brokers are named, a private Postgres
//! where there are durable jobs and no database is named; edits of the config root are taken over as they
//! are saved.
//!
//! Leaves nothing behind but `.biplane/` in the working directory: the shipped example where the
//! config root is empty and `--sample` asks for one, the log while a table moves on the terminal, and the
//! private Postgres' data.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::arguments::{Format, GlobalArguments};
use super::dev_kafka::DevKafka;
use super::dev_postgres::DevPostgres;
use super::exit::{CliError, CliResult, Exit};
use super::live::Screen;
use super::outage::{self, Closing};
use super::sample_jobs::SampleJob;
use super::samples::{self, Sample};
use super::screening::{Played, Screening};
use super::serving::{Serving, Started};
use super::{api, database, example, live, output, reloading, replays, root, sample_jobs, serving};
use crate::broker::{ClientSettings, DeliverySink, OutHeaders, Outgoing, Producer, SendError};
use crate::catalog::Catalog;
use crate::engine::{EngineSettings, OnError, Reloader, TaskError, View, WINDOW, Warn, load_tree};
use crate::jobs::Retention;
use crate::store::DatabaseSettings;
use crate::telemetry::LogOptions;

const DATA_FOLDER: &str = ".biplane";

/// Ctrl-C ends within two seconds; this much of it is the stages'.
const DRAIN: Duration = Duration::from_secs(1);

/// The wait between two samples, so that one sees them pass.
const PACE: Duration = Duration::from_millis(100);

pub(super) fn run(global: &GlobalArguments, sample: bool, postgres_bin: Option<&Path>) -> CliResult {
    set_up_logs(sample && live::in_place())?;
    let config = config_root(&global.config, sample)?;
    let tree = load_tree(&config)?;
    let screening = if sample { Screening::listen()?.map(Arc::new) } else { None };
    let outside = Played { url: screening.as_ref().map(|screening| screening.url().to_owned()) };
    let Some(catalog) = root::check(&tree, global.environment(), &outside, Format::Text)? else {
        return Ok(Exit::Findings);
    };
    let samples = if sample { samples::read(&config)? } else { Vec::new() };
    let jobs = if sample { sample_jobs::read(&config)? } else { Vec::new() };
    let kafka = Arc::new(DevKafka::start(global)?);
    kafka.bring_up(&catalog)?;
    let postgres = private_postgres(global, &catalog, postgres_bin)?;
    let named = postgres.as_ref().map(|postgres| global.with_database(postgres.url()));
    let global = named.as_ref().unwrap_or(global);
    // Without a database stages run as ever, and the engine says what does not.
    let database =
        global.database_url().map(|_| database::of_engine(global, &catalog)).transpose()?.flatten();
    if database.is_some() && database::needed_by(&catalog).is_some() {
        database::bring_up(global)?;
    }
    let settings = EngineSettings {
        client: kafka.client().clone(),
        namespace: global.namespace.clone(),
        engine_id: global.engine_id().map(str::to_owned),
        window: WINDOW,
        traces: serving::traces()?,
        public_url: global.public_url()?.map(str::to_owned),
        programs: global.programs()?,
        database: database.clone(),
        retention: Retention::default(),
    };
    let serving = Serving {
        access: api::access(global, postgres.is_some())?,
        settings,
        catalog: Arc::clone(&catalog),
        listen: global.listen.clone(),
        drain: Some(DRAIN),
        hangup: None,
    };
    let screen = Screen::new(sample);
    let end = serving.run(|started| {
        say_where(&started, &config, (&kafka, postgres.as_ref()), &samples)?;
        if sample {
            show_table(&started, screen.clone());
            feed(&started, kafka.client().clone(), Arc::clone(&catalog), samples)?;
            if let Some(database) = database {
                feed_jobs(&started, database, jobs, screen.clone());
            }
        }
        if let Some(screening) = screening {
            let closing =
                closing((&config, postgres.as_ref().map(DevPostgres::url)), global, &kafka, catalog);
            play(&started, screening, screen.clone(), closing);
        }
        if kafka.in_memory() {
            watch_memory(&started, screen.clone());
        }
        let reloader = reloader(&started, config, (global.environment(), outside), &kafka, screen);
        reloading::follow(&started, reloader, tree.digest());
        Ok(())
    });
    drop(postgres);
    // It ends with the process: clients that are still closing would only log that it is gone.
    std::mem::forget(kafka);
    end
}

/// A server for what a config needs of a database, unless one is named. Where this machine has none and
/// none can be fetched, what does without goes on without.
fn private_postgres(
    global: &GlobalArguments,
    catalog: &Catalog,
    bin: Option<&Path>,
) -> CliResult<Option<DevPostgres>> {
    if global.database_url().is_some() || database::needed_by(catalog).is_none() {
        return Ok(None);
    }
    match DevPostgres::start(&data_folder()?, bin) {
        Ok(postgres) => Ok(Some(postgres)),
        Err(error) if bin.is_none() => {
            output::note(&format!("warning: no private PostgreSQL: {error:#}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn watch_memory(started: &Started<'_>, screen: Screen) {
    let engine = Arc::clone(started.engine);
    let again = OnError::Restart(Duration::from_secs(1));
    let hear: Warn = Arc::new(move |text| screen.say(&format!("warning: {text}\n")));
    started
        .supervisor
        .spawn("memory", again, move |cancel| Arc::clone(&engine).watch_memory(Arc::clone(&hear), cancel));
}

fn reloader(
    started: &Started<'_>,
    root: PathBuf,
    (environment, outside): (Option<&str>, Played),
    kafka: &Arc<DevKafka>,
    screen: Screen,
) -> Reloader {
    let kafka = Arc::clone(kafka);
    Reloader {
        engine: Arc::clone(started.engine),
        root,
        environment: environment.map(str::to_owned),
        outside: Box::new(outside),
        make_topics: Box::new(move |catalog| kafka.bring_up(catalog).map_err(|error| error.to_string())),
        asked: Arc::default(),
        report: Box::new(move |outcome| reloading::say(&screen, outcome)),
    }
}

/// Answers for the service that the example asks, and tells what comes of its outage.
fn play(started: &Started<'_>, screening: Arc<Screening>, screen: Screen, closing: Closing) {
    let again = OnError::Restart(Duration::from_secs(1));
    let answering = Arc::clone(&screening);
    started.supervisor.spawn("screening", again, move |cancel| Arc::clone(&answering).answer(cancel));
    let (engine, closing) = (Arc::clone(started.engine), Arc::new(closing));
    started.supervisor.spawn("outage", again, move |cancel| {
        let view = Arc::clone(&engine) as Arc<dyn View>;
        outage::tell(Arc::clone(&screening), view, screen.clone(), Arc::clone(&closing), cancel)
    });
}

fn closing(
    (config, postgres): (&Path, Option<&str>),
    global: &GlobalArguments,
    kafka: &Arc<DevKafka>,
    catalog: Arc<Catalog>,
) -> Closing {
    let brokers = &kafka.client().brokers;
    let mut variables = format!("BIPLANE_CONFIG='{}' BIPLANE_KAFKA_BROKERS={brokers}", config.display());
    if global.namespace != "biplane" {
        variables.push_str(&format!(" BIPLANE_NAMESPACE={}", global.namespace));
    }
    if let Some(url) = postgres {
        variables.push_str(&format!(" DATABASE_URL='{url}'"));
    }
    let (kafka, namespace) = (Arc::clone(kafka), global.namespace.clone());
    let replay = move || {
        kafka.expect_replays(&catalog)?;
        replays::send_again(kafka.client(), &namespace, &catalog, (outage::DLQ, outage::UNSCREENED))
    };
    Closing { replay: Box::new(move || replay().map_err(|error: CliError| error.to_string())), variables }
}

fn set_up_logs(to_file: bool) -> CliResult<()> {
    let options = LogOptions::from_variables(|name| std::env::var(name).ok())
        .map_err(|error| CliError::usage(error.to_string()))?;
    let file = to_file.then(|| -> anyhow::Result<fs::File> {
        let path = data_folder()?.join("dev.log");
        fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))
    });
    options.install(file.transpose()?).map_err(|error| CliError::usage(error.to_string()))
}

/// The data folder, made where it is missing, with a note to git not to look.
fn data_folder() -> anyhow::Result<PathBuf> {
    let folder = PathBuf::from(DATA_FOLDER);
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join(".gitignore"), "*\n"))
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    Ok(folder)
}

/// The config root to run: the one that was named, or the shipped example where `--sample` meets a
/// folder without pipelines.
fn config_root(named: &Path, sample: bool) -> CliResult<PathBuf> {
    if !sample || named.join("pipelines").is_dir() {
        return Ok(named.to_owned());
    }
    let folder = data_folder()?.join("example");
    example::write(&folder).with_context(|| format!("cannot write the example to {}", folder.display()))?;
    output::note(&format!("no pipelines in {}: running the shipped example", named.display()));
    Ok(folder)
}

fn say_where(
    started: &Started<'_>,
    config: &Path,
    (kafka, postgres): (&DevKafka, Option<&DevPostgres>),
    samples: &[Sample],
) -> CliResult<()> {
    let brokers = &kafka.client().brokers;
    let kafka = if kafka.in_memory() {
        format!("{brokers} (in memory, keeps 5 MiB a partition, gone when this ends)")
    } else {
        brokers.clone()
    };
    let mut text = format!("config   {}\nkafka    {kafka}\n", config.display());
    if let Some(postgres) = postgres {
        text.push_str(&format!("postgres {} ({})\n", postgres.url(), postgres.place()));
    }
    for (name, path) in [("status", "/v1/status"), ("metrics", "/metrics"), ("ready", "/ready")] {
        text.push_str(&format!("{name:<8} http://{}{path}\n", started.address));
    }
    if !samples.is_empty() {
        if live::in_place() {
            text.push_str(&format!("log      {DATA_FOLDER}/dev.log\n"));
        }
        text.push_str(&format!("samples  {}\n", samples.len()));
    }
    text.push_str("edits    are taken over as they are saved\nstop     Ctrl-C\n\n");
    output::print(&text)
}

fn show_table(started: &Started<'_>, screen: Screen) {
    let engine = Arc::clone(started.engine);
    let again = OnError::Restart(Duration::from_secs(1));
    started.supervisor.spawn("table", again, move |cancel| {
        live::show(screen.clone(), Arc::clone(&engine) as Arc<dyn View>, cancel)
    });
}

fn feed(
    started: &Started<'_>,
    client: ClientSettings,
    catalog: Arc<Catalog>,
    samples: Vec<Sample>,
) -> CliResult<()> {
    let strange = samples.iter().find(|sample| !catalog.topics().contains_key(&sample.topic));
    if let Some(sample) = strange {
        return Err(CliError::failed(format!(
            "samples/{0}.jsonl is for the topic `{0}`, which the config does not define",
            sample.topic
        )));
    }
    let producer = Producer::open(&client, Default::default())?;
    let samples = Arc::new(samples);
    started.supervisor.spawn("samples", OnError::Stop, move |cancel| {
        feed_all(Arc::clone(&producer), Arc::clone(&catalog), Arc::clone(&samples), cancel)
    });
    Ok(())
}

fn feed_jobs(started: &Started<'_>, database: DatabaseSettings, jobs: Vec<SampleJob>, screen: Screen) {
    let jobs = Arc::new(jobs);
    started.supervisor.spawn("sample-jobs", OnError::Stop, move |cancel| {
        sample_jobs::feed(database.clone(), Arc::clone(&jobs), screen.clone(), cancel)
    });
}

async fn feed_all(
    producer: Arc<Producer>,
    catalog: Arc<Catalog>,
    samples: Arc<Vec<Sample>>,
    cancel: CancellationToken,
) -> Result<(), TaskError> {
    let sink = producer.register(Arc::new(Unheard));
    for sample in samples.iter() {
        let Some(topic) = catalog.topics().get(&sample.topic) else { continue };
        send(&producer, &sink, &topic.physical, sample)?;
        if cancel.run_until_cancelled(tokio::time::sleep(PACE)).await.is_none() {
            break;
        }
    }
    producer.deregister(&sink);
    cancel.cancelled().await;
    Ok(())
}

fn send(
    producer: &Producer,
    sink: &crate::broker::Sink,
    topic: &str,
    sample: &Sample,
) -> Result<(), TaskError> {
    let mut headers = OutHeaders::new(sample.headers.len());
    for (name, value) in &sample.headers {
        headers.push(name, Some(value.as_bytes()));
    }
    let outgoing = Outgoing {
        topic,
        partition: None,
        key: sample.key.as_deref().map(str::as_bytes),
        value: sample.value.as_deref(),
        timestamp: None,
        headers,
    };
    producer.send(outgoing, sink, 0).map_err(|(error, _)| format!("a sample was refused: {error}").into())
}

/// The table shows what became of the samples; their acknowledgements tell nothing more.
struct Unheard;

impl DeliverySink for Unheard {
    fn delivered(&self, _: u64, result: Result<(), SendError>) {
        if let Err(error) = result {
            tracing::warn!(%error, "a sample was not written");
        }
    }
}
