//! `biplane stages list|show`: what the brokers know of each stage's group, merged with what a
//! running engine says of itself.
//!
//! Lag comes from the brokers where they are named, so it covers every engine of the group; state,
//! in-flight and failures come from the engine at `BIPLANE_LISTEN`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::arguments::{Format, GlobalArguments};
use super::exit::{CliError, CliResult, Exit};
use super::members::Members;
use super::offsets::told as offsets_told;
use super::progress::Progress;
use super::scan::{self, Part};
use super::{asking, connect, holding, live, members, output, root};
use crate::base::now_millis;
use crate::broker::{ClientSettings, Consumer, TopicPartition};
use crate::catalog::{Catalog, Stage};
use crate::engine::EngineStatus;
use crate::engine::control::{self, Pause};
use crate::engine::offsets::{self, Which};
use crate::events::{BreakerStatus, DedupeStatus, ParkedStatus, PartitionStatus, StageStatus};
use crate::telemetry::StageCounts;

/// One stage as it is listed.
#[derive(Debug, Serialize, PartialEq)]
struct Listed {
    stage: String,
    /// `None` where no engine that runs it answers and nobody has paused it.
    state: Option<String>,
    reason: Option<String>,
    in_flight: Option<usize>,
    in_flight_bytes: Option<usize>,
    lanes: Option<usize>,
    waiting: Option<usize>,
    lag_records: Option<i64>,
    lag_seconds: Option<f64>,
    /// What the engine that answers has parked.
    parked: Option<ParkedStatus>,
    breakers: Vec<BreakerStatus>,
    dedupe: Option<DedupeStatus>,
    failures: BTreeMap<String, u64>,
    counts: Option<StageCounts>,
    partitions: Vec<PartitionStatus>,
    /// Where one stage is shown and the brokers tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Members>,
}

impl Listed {
    /// A pause stands whether an engine runs the stage or not; one that does says so itself.
    fn heed(&mut self, pause: Option<Pause>) {
        if let (Some(pause), None) = (pause, &self.state) {
            (self.state, self.reason) = (Some("paused".to_owned()), Some(pause.text()));
        }
    }
}

pub(super) fn list(global: &GlobalArguments, format: Format) -> CliResult {
    let Some(stages) = gather(global, None, format)? else { return Ok(Exit::Findings) };
    match format {
        Format::Json => output::json(&stages)?,
        Format::Text => {
            let header = [
                "stage",
                "state",
                "in-flight",
                "lag",
                "lag-seconds",
                "in",
                "out",
                "dead-lettered",
                "failures",
            ];
            output::print_table(&header, stages.iter().map(row).collect(), "no stages")?;
        }
    }
    Ok(Exit::Clean)
}

pub(super) fn show(global: &GlobalArguments, name: &str, format: Format) -> CliResult {
    let Some(mut stages) = gather(global, Some(name), format)? else { return Ok(Exit::Findings) };
    let Some(at) = stages.iter().position(|stage| stage.stage == name) else {
        return Err(holding::unknown(name, stages.iter().map(|stage| &*stage.stage)));
    };
    let mut stage = stages.swap_remove(at);
    if global.brokers().is_some() {
        stage.group = members::of(&connect::client(global)?, &format!("{}.{name}", global.namespace))?;
    }
    match format {
        Format::Json => output::json(&stage)?,
        Format::Text => output::print(&details(&stage))?,
    }
    Ok(Exit::Clean)
}

/// All stages, or `only` one; `None` where the config does not check, which was shown.
fn gather(global: &GlobalArguments, only: Option<&str>, format: Format) -> CliResult<Option<Vec<Listed>>> {
    let engine = asking::status(&global.listen)?.filter(|engine| engine.namespace == global.namespace);
    if global.brokers().is_none() {
        let Some(engine) = engine else {
            return Err(CliError::usage(format!(
                "no engine of the namespace `{}` answers at {} and no brokers are named: set \
                 BIPLANE_KAFKA_BROKERS",
                global.namespace, global.listen
            )));
        };
        return Ok(Some(engine.stages.into_iter().map(|status| merge(None, Some(status))).collect()));
    }
    let Some(catalog) = root::load_for(global, format)? else { return Ok(None) };
    if let Some(only) = only {
        holding::stage_of(&catalog, only)?;
    }
    if engine.is_none() {
        output::note(&format!("no engine answers at {}: only pauses are known of states", global.listen));
    }
    from_brokers(&connect::client(global)?, &global.namespace, &catalog, engine, only).map(Some)
}

fn from_brokers(
    client: &ClientSettings,
    namespace: &str,
    catalog: &Catalog,
    engine: Option<EngineStatus>,
    only: Option<&str>,
) -> CliResult<Vec<Listed>> {
    let mut running: BTreeMap<String, StageStatus> = engine
        .into_iter()
        .flat_map(|engine| engine.stages)
        .map(|status| (status.stage.clone(), status))
        .collect();
    let stages = catalog.stages().values().filter(|stage| only.is_none_or(|only| *only == *stage.name));
    let mut pauses = control::pauses(client, namespace).map_err(holding::told)?;
    let mut progress = Progress::new(stages.clone().count(), "asking the brokers");
    let mut listed = Vec::new();
    for stage in stages {
        let group = scan::looker(client, &format!("{namespace}.{}", stage.name))?;
        let facts = of_group(&group, stage)?;
        let mut found = merge(Some((stage, facts)), running.remove(&*stage.name));
        found.heed(pauses.remove(&*stage.name));
        listed.push(found);
        progress.step();
    }
    progress.finish();
    Ok(listed)
}

/// The group's offsets, the ends and the age of the oldest record that is not finished.
fn of_group(group: &Consumer, stage: &Stage) -> CliResult<Vec<PartitionStatus>> {
    let standings = offsets::standings(group, stage, &Which::default()).map_err(offsets_told)?;
    let facts: Vec<_> = standings
        .into_iter()
        .map(|standing| {
            let from = standing.committed.unwrap_or(standing.begin).max(standing.begin);
            let partition = TopicPartition::new(standing.topic, standing.partition);
            (partition, standing.committed, from, standing.end)
        })
        .collect();
    let behind: Vec<_> = facts
        .iter()
        .filter(|(_, _, from, end)| from < end)
        .map(|(partition, _, from, end)| Part { partition: partition.clone(), from: *from, end: *end })
        .collect();
    let oldest = scan::firsts(group, &behind, |raw| raw.timestamp.unwrap_or_default())?;
    let age = |partition: &TopicPartition, lag: i64| match oldest.get(partition) {
        Some(timestamp) => Some(((now_millis() - timestamp).max(0)) as f64 / 1_000.0),
        None => (lag == 0).then_some(0.0),
    };
    Ok(facts
        .into_iter()
        .map(|(partition, committed, from, end)| PartitionStatus {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            position: None,
            committed,
            end: Some(end),
            lag_records: Some((end - from).max(0)),
            lag_seconds: age(&partition, (end - from).max(0)),
        })
        .collect())
}

/// The brokers' facts win where both say something: they cover the whole group.
fn merge(group: Option<(&Arc<Stage>, Vec<PartitionStatus>)>, running: Option<StageStatus>) -> Listed {
    let name = group.as_ref().map(|(stage, _)| stage.name.to_string());
    let stage = name.or_else(|| running.as_ref().map(|status| status.stage.clone())).unwrap_or_default();
    let running = running.unwrap_or_default();
    let answered = !running.stage.is_empty();
    let known = |count: usize| answered.then_some(count);
    let mut partitions = match group {
        Some((_, mut facts)) => {
            for fact in &mut facts {
                let same =
                    |own: &&PartitionStatus| own.topic == fact.topic && own.partition == fact.partition;
                let Some(own) = running.partitions.iter().find(same) else { continue };
                fact.position = own.position;
                // The engine knows what is finished and not committed yet.
                fact.lag_seconds = own.lag_seconds.or(fact.lag_seconds);
            }
            facts
        }
        None => running.partitions,
    };
    partitions.sort_by(|left, right| {
        (left.topic.as_str(), left.partition).cmp(&(right.topic.as_str(), right.partition))
    });
    let sum = |lags: Vec<Option<i64>>| lags.into_iter().sum::<Option<i64>>();
    Listed {
        stage,
        state: answered.then_some(running.state),
        reason: running.reason,
        in_flight: known(running.in_flight),
        in_flight_bytes: known(running.in_flight_bytes),
        lanes: known(running.lanes),
        waiting: known(running.waiting),
        lag_records: sum(partitions.iter().map(|partition| partition.lag_records).collect()),
        lag_seconds: partitions.iter().filter_map(|partition| partition.lag_seconds).reduce(f64::max),
        parked: answered.then_some(running.parked),
        breakers: running.breakers,
        dedupe: running.dedupe,
        failures: running.failures,
        counts: answered.then_some(running.counts),
        partitions,
        group: None,
    }
}

fn row(stage: &Listed) -> [String; 9] {
    let counted = |count: fn(&StageCounts) -> u64| shown(stage.counts.as_ref().map(count));
    [
        stage.stage.clone(),
        shown(stage.state.as_ref()),
        shown(stage.in_flight),
        shown(stage.lag_records),
        seconds(stage.lag_seconds),
        counted(|counts| counts.records_in),
        counted(|counts| counts.records_out),
        counted(|counts| counts.dead_lettered),
        live::by_code(&stage.failures),
    ]
}

fn details(stage: &Listed) -> String {
    let mut text = format!("stage        {}\nstate        {}\n", stage.stage, shown(stage.state.as_ref()));
    if let Some(reason) = &stage.reason {
        text.push_str(&format!("reason       {reason}\n"));
    }
    text.push_str(&format!(
        "in flight    {} records, {} bytes\nlanes        {}, {} records waiting\nlag          {} records, {} s\n",
        shown(stage.in_flight),
        shown(stage.in_flight_bytes),
        shown(stage.lanes),
        shown(stage.waiting),
        shown(stage.lag_records),
        seconds(stage.lag_seconds),
    ));
    if let Some(counts) = &stage.counts {
        text.push_str(&format!(
            "counts       {} in, {} out, {} filtered, {} retried, {} dead-lettered, {} dropped\n",
            counts.records_in,
            counts.records_out,
            counts.filtered,
            counts.retried,
            counts.dead_lettered,
            counts.dropped
        ));
    }
    if let Some(parked) = stage.parked.as_ref().filter(|parked| **parked != ParkedStatus::default()) {
        text.push_str(&format!("parked       {}\n", parked_text(parked, now_millis())));
    }
    for breaker in &stage.breakers {
        let state = if breaker.open { "open" } else { "closed" };
        text.push_str(&format!(
            "breaker      step {}: {state}, opened {} times\n",
            breaker.step, breaker.opened
        ));
    }
    if let Some(dedupe) = &stage.dedupe {
        let DedupeStatus { marks, duplicates, forgotten, waiting, loading } = dedupe;
        text.push_str(&format!(
            "dedupe       {marks} marks{}, {duplicates} duplicates, {waiting} waiting, {forgotten} marks forgotten early\n",
            if *loading { " so far" } else { "" },
        ));
    }
    if !stage.failures.is_empty() {
        text.push_str(&format!("failures     {}\n", live::by_code(&stage.failures)));
    }
    let rows = stage.partitions.iter().map(|partition| {
        [
            partition.topic.clone(),
            partition.partition.to_string(),
            shown(partition.committed),
            shown(partition.end),
            shown(partition.lag_records),
            seconds(partition.lag_seconds),
        ]
    });
    let header = ["topic", "partition", "committed", "end", "lag", "lag-seconds"];
    text.push_str(&format!("\n{}\n", output::table(&header, rows)));
    if let Some(group) = &stage.group {
        text.push_str(&format!("\n{}", group.text()));
    }
    text
}

fn parked_text(parked: &ParkedStatus, now: i64) -> String {
    let mut text = format!("{} records, {} bytes", parked.records, parked.bytes);
    if let Some(due) = parked.next_due {
        text.push_str(&format!(", the next due in {:.1} s", (due - now).max(0) as f64 / 1_000.0));
    }
    if parked.full {
        text.push_str("; as much as `max_parked` allows: the inputs wait");
    }
    if parked.scanning > 0 {
        text.push_str(&format!("; {} partitions are still read, and their inputs wait", parked.scanning));
    }
    text
}

fn shown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parked_is_said_with_when_it_is_due_and_what_waits_for_it() {
        let parked =
            ParkedStatus { records: 20, bytes: 900, next_due: Some(13_500), ..ParkedStatus::default() };
        assert_eq!(parked_text(&parked, 10_000), "20 records, 900 bytes, the next due in 3.5 s");
        let parked = ParkedStatus { next_due: Some(1), full: true, scanning: 2, ..parked };
        let text = parked_text(&parked, 10_000);
        assert!(text.contains("due in 0.0 s; as much as") && text.contains("; 2 partitions"), "{text}");
        let status = StageStatus { stage: "s".to_owned(), parked, ..StageStatus::default() };
        assert!(details(&merge(None, Some(status))).contains("parked       20 records"));
        assert!(!details(&merge(None, Some(StageStatus::default()))).contains("parked"));
    }

    #[test]
    fn without_brokers_the_engine_alone_is_shown_and_unknown_lag_is_no_zero() {
        let partition = |partition, lag| PartitionStatus {
            topic: "t".to_owned(),
            partition,
            lag_records: lag,
            lag_seconds: lag.map(|lag: i64| lag as f64),
            ..PartitionStatus::default()
        };
        let status = StageStatus {
            stage: "s".to_owned(),
            state: "running".to_owned(),
            partitions: vec![partition(1, Some(3)), partition(0, Some(4))],
            ..StageStatus::default()
        };
        let listed = merge(None, Some(status.clone()));
        assert_eq!((listed.lag_records, listed.lag_seconds), (Some(7), Some(4.0)));
        assert_eq!(listed.partitions[0].partition, 0, "in order");
        let unknown = StageStatus { partitions: vec![partition(0, None), partition(1, Some(1))], ..status };
        assert_eq!(row(&merge(None, Some(unknown)))[3], "-");
        assert_eq!(merge(None, None).state, None);
    }
}
