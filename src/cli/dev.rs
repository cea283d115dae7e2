//! `biplane dev`: everything in one process, Kafka in memory unless brokers are named.
//!
//! Leaves nothing behind but `.biplane/` in the working directory: the shipped example where the
//! config root is empty and `--sample` asks for one, and the log while a table moves on the terminal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::arguments::GlobalArguments;
use super::exit::{CliError, CliResult, Exit};
use super::samples::{self, Sample};
use super::serving::{Serving, Started};
use super::{connect, example, live, output, root, topics};
use crate::broker::{ClientSettings, DeliverySink, MockKafka, OutHeaders, Outgoing, Producer, SendError};
use crate::catalog::Catalog;
use crate::engine::{EngineSettings, OnError, TaskError, View};
use crate::telemetry::LogOptions;

const DATA_FOLDER: &str = ".biplane";

/// Ctrl-C ends within two seconds; this much of it is the stages'.
const DRAIN: Duration = Duration::from_secs(1);

/// The wait between two samples, so that one sees them pass.
const PACE: Duration = Duration::from_millis(100);

/// The partitions of a topic whose files name no number.
const PARTITIONS: u32 = 4;

pub(super) fn run(global: &GlobalArguments, sample: bool) -> CliResult {
    set_up_logs(sample && live::in_place())?;
    let config = config_root(&global.config, sample)?;
    let Some(catalog) = root::load(&config, global.environment())? else { return Ok(Exit::Findings) };
    let samples = if sample { samples::read(&config)? } else { Vec::new() };
    let (client, mock) = brokers(global, &catalog)?;
    let settings = EngineSettings {
        client: client.clone(),
        namespace: global.namespace.clone(),
        engine_id: global.engine_id().map(str::to_owned),
    };
    let shown = Arc::clone(&catalog);
    let serving = Serving {
        settings,
        catalog: Arc::clone(&catalog),
        listen: global.listen.clone(),
        drain: Some(DRAIN),
    };
    let end = serving.run(|started| {
        say_where(&started, &config, &client, mock.is_some(), &samples)?;
        if sample {
            show_table(&started);
            feed(&started, client, shown, samples)?;
        }
        Ok(())
    });
    // It ends with the process: clients that are still closing would only log that it is gone.
    std::mem::forget(mock);
    end
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

/// The brokers that are named, with their topics brought up to the files, or a cluster in memory.
fn brokers(global: &GlobalArguments, catalog: &Catalog) -> CliResult<(ClientSettings, Option<MockKafka>)> {
    if global.brokers().is_some() {
        let client = connect::client(global)?;
        topics::bring_up(&client, catalog)?;
        return Ok((client, None));
    }
    let mock = MockKafka::start(1)?;
    let dlqs = catalog.dlqs().values().map(|dlq| &dlq.topic);
    let mut made = std::collections::HashSet::new();
    for topic in catalog.topics().values().chain(dlqs) {
        if made.insert(Arc::clone(&topic.physical)) {
            mock.create_topic(&topic.physical, topic.partitions.unwrap_or(PARTITIONS))?;
        }
    }
    Ok((mock.settings("biplane-dev"), Some(mock)))
}

fn say_where(
    started: &Started<'_>,
    config: &Path,
    client: &ClientSettings,
    in_memory: bool,
    samples: &[Sample],
) -> CliResult<()> {
    let kafka = if in_memory {
        format!("{} (in memory, keeps 5 MiB a partition, gone when this ends)", client.brokers)
    } else {
        client.brokers.clone()
    };
    let mut text = format!("config   {}\nkafka    {kafka}\n", config.display());
    for (name, path) in [("status", "/v1/status"), ("metrics", "/metrics"), ("ready", "/ready")] {
        text.push_str(&format!("{name:<8} http://{}{path}\n", started.address));
    }
    if !samples.is_empty() {
        if live::in_place() {
            text.push_str(&format!("log      {DATA_FOLDER}/dev.log\n"));
        }
        text.push_str(&format!("samples  {}\n", samples.len()));
    }
    text.push_str("stop     Ctrl-C\n\n");
    output::print(&text)
}

fn show_table(started: &Started<'_>) {
    let engine = Arc::clone(started.engine);
    let again = OnError::Restart(Duration::from_secs(1));
    started
        .supervisor
        .spawn("table", again, move |cancel| live::show(Arc::clone(&engine) as Arc<dyn View>, cancel));
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
