//! Starting a replay, and going on with one.

use super::arguments::StartArguments;
use super::{telling, told};
use crate::base::now_millis;
use crate::broker::{ClientSettings, Consumer};
use crate::catalog::Catalog;
use crate::cli::arguments::{Format, GlobalArguments};
use crate::cli::consent::{self, Consent};
use crate::cli::dlqs::dlq;
use crate::cli::exit::{CliError, CliResult, Exit, read_or_not};
use crate::cli::holding::stage_of;
use crate::cli::progress::Progress;
use crate::cli::{connect, output, root, scan};
use crate::engine::replays::{self, Counts, Ended, Replays, Source, Spec, Target};
use crate::events::letters::Filters;

/// How often one record is sent again at most, where nothing else is said.
const MAX_REPLAYS: u32 = 3;

pub(super) fn start(global: &GlobalArguments, arguments: &StartArguments) -> CliResult {
    let client = connect::client(global)?;
    let Some(catalog) = root::load_for(global, arguments.format)? else { return Ok(Exit::Findings) };
    let spec = spec(global, arguments, &client, &catalog)?;
    let replays = Replays { client: &client, namespace: &global.namespace };
    if arguments.dry_run || !arguments.yes {
        let mut progress = Progress::new(span(&spec), "counting");
        let preview = replays.preview(&spec, &catalog, || progress.step()).map_err(told)?;
        progress.finish();
        if arguments.dry_run || arguments.format == Format::Text {
            read_or_not(telling::preview(&preview, arguments.format))?;
        }
        if arguments.dry_run || preview.counts.sent == 0 {
            return Ok(Exit::Clean);
        }
        let consent = Consent { dry_run: false, yes: false };
        if !consent::agreed(&consent, &format!("send {}?", telling::records(preview.counts.sent)))? {
            return Err(CliError::failed("nothing was sent"));
        }
    }
    output::note(&format!(
        "replay {id}: should this command end early, `biplane replays resume {id}` goes on",
        id = spec.id
    ));
    working(&spec, arguments.format, |tell| replays.start(&spec, &catalog, tell))
}

pub(super) fn resume(global: &GlobalArguments, id: &str, format: Format) -> CliResult {
    let client = connect::client(global)?;
    let Some(catalog) = root::load_for(global, format)? else { return Ok(Exit::Findings) };
    let replays = Replays { client: &client, namespace: &global.namespace };
    let spec = replays.find(id).map_err(told)?.spec;
    let by = consent::who();
    working(&spec, format, |tell| replays.resume(id, &catalog, &by, tell))
}

/// Sends the dead letters with one code to their stages again, as `replays start` does; how many that were.
pub(in crate::cli) fn send_again(
    client: &ClientSettings,
    namespace: &str,
    catalog: &Catalog,
    (name, code): (&str, &str),
) -> CliResult<u64> {
    let id = new_id();
    let topic = dlq(catalog, name)?.topic.physical.to_string();
    let filters = Filters { codes: vec![code.to_owned()], ..Filters::default() };
    let looker: Consumer = scan::looker(client, &Spec::group(namespace, &id))?;
    let ranges = replays::ranges(&looker, &topic, &filters).map_err(told)?;
    let spec = Spec {
        id,
        source: Source::Dlq(name.to_owned()),
        topic,
        filters,
        all: false,
        target: Target::Origin,
        rate: None,
        max_replays: MAX_REPLAYS,
        ranges,
        by: consent::who(),
        at: now_millis(),
    };
    let ended = Replays { client, namespace }.start(&spec, catalog, &mut |_| ()).map_err(told)?;
    Ok(ended.counts.sent)
}

/// Shows the progress of a run, and what became of it.
fn working(
    spec: &Spec,
    format: Format,
    run: impl FnOnce(&mut dyn FnMut(Counts)) -> Result<Ended, replays::ReplayError>,
) -> CliResult {
    let mut progress = Progress::new(span(spec), "replaying");
    let ended = run(&mut |counts| progress.reach(counts.read));
    progress.finish();
    telling::ended(spec, &ended.map_err(told)?, format)
}

fn span(spec: &Spec) -> usize {
    let offsets: i64 = spec.ranges.iter().map(|range| range.end - range.from).sum();
    usize::try_from(offsets).unwrap_or_default()
}

fn spec(
    global: &GlobalArguments,
    arguments: &StartArguments,
    client: &ClientSettings,
    catalog: &Catalog,
) -> CliResult<Spec> {
    let id = new_id();
    let (source, topic) = source(arguments, catalog)?;
    let target = target(arguments, &topic, catalog)?;
    let filters = arguments.select.filters(&arguments.range);
    let looker: Consumer = scan::looker(client, &Spec::group(&global.namespace, &id))?;
    let ranges = replays::ranges(&looker, &topic, &filters).map_err(told)?;
    Ok(Spec {
        id,
        source,
        topic,
        filters,
        all: arguments.all,
        target,
        rate: arguments.rate.map(|rate| rate.per_second),
        max_replays: arguments.max_replays,
        ranges,
        by: consent::who(),
        at: now_millis(),
    })
}

/// When it began, and a little chance: readable, sorted, and its own.
fn new_id() -> String {
    let now = chrono::Utc::now().format("%Y%m%d-%H%M%S");
    format!("{now}-{:04x}", rand::random::<u16>())
}

/// The physical name of a topic that is named as in the files or as on the broker.
fn physical(catalog: &Catalog, name: &str) -> String {
    catalog.topics().get(name).map_or_else(|| name.to_owned(), |topic| topic.physical.to_string())
}

fn source(arguments: &StartArguments, catalog: &Catalog) -> CliResult<(Source, String)> {
    if let Some(name) = &arguments.dlq {
        let topic = dlq(catalog, name)?.topic.physical.to_string();
        return Ok((Source::Dlq(name.clone()), topic));
    }
    let topic = physical(catalog, arguments.topic.as_deref().unwrap_or_default());
    match catalog.dlqs().iter().find(|(_, dlq)| *dlq.topic.physical == *topic) {
        Some((name, _)) => {
            let message = format!("`{topic}` is the topic of a DLQ: say `--dlq {name}`");
            Err(CliError::usage(message))
        }
        None => Ok((Source::Topic(topic.clone()), topic)),
    }
}

fn target(arguments: &StartArguments, source: &str, catalog: &Catalog) -> CliResult<Target> {
    if let Some(stage) = &arguments.to_stage {
        return Ok(Target::Stage(stage_of(catalog, stage)?.name.to_string()));
    }
    if let Some(topic) = &arguments.to_topic {
        let topic = physical(catalog, topic);
        return match topic == source {
            true => Err(CliError::usage(format!("`{topic}` is what is read: name another --to-topic"))),
            false => Ok(Target::Topic(topic)),
        };
    }
    if arguments.dlq.is_some() {
        return Ok(Target::Origin);
    }
    let reads = |stage: &&std::sync::Arc<crate::catalog::Stage>| {
        stage.inputs.iter().any(|input| *input.physical == *source)
    };
    let readers: Vec<_> =
        catalog.stages().values().filter(reads).map(|stage| format!("`--to-stage {}`", stage.name)).collect();
    let readers =
        if readers.is_empty() { String::new() } else { format!(", such as {}", readers.join(" or ")) };
    Err(CliError::usage(format!(
        "records of a topic need a place to go: say --to-stage or --to-topic{readers}"
    )))
}
