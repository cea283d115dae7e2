//! What `/metrics` shows of what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value as Json;

use super::*;
use crate::telemetry::MAX_CODES;

#[test]
fn codes_past_the_bound_count_under_other_and_nothing_is_lost() {
    let telemetry = Telemetry::new();
    let stage = telemetry.stage("s");
    for code in 0..100_000 {
        stage.dead_lettered(&format!("made-up-{code}"), 1);
    }
    stage.retried("made-up-1", 2);
    let text = telemetry.render();
    let series: Vec<_> =
        text.lines().filter(|line| line.starts_with("biplane_stage_records_dead_lettered_total{")).collect();
    assert_eq!(series.len(), MAX_CODES + 1);
    assert!(text.contains(r#"dead_lettered_total{stage="s",code="other"} 99936"#), "{text}");
    assert!(text.contains(r#"retried_total{stage="s",code="made-up-1"} 2"#), "{text}");
    assert_eq!(stage.counts().dead_lettered, 100_000);
    assert_eq!(stage.failures().values().sum::<u64>(), 100_002);
}

#[test]
fn a_stage_is_in_one_state_and_lag_leaves_with_its_partition() {
    let telemetry = Telemetry::new();
    let stage = telemetry.stage("s");
    stage.set_state("starting");
    stage.set_state("running");
    stage.set_lag("t", 3, 7, Some(1.5));
    let text = telemetry.render();
    assert!(text.contains(r#"biplane_stage_state{stage="s",state="running"} 1"#), "{text}");
    assert!(!text.contains("starting"), "{text}");
    assert!(text.contains(r#"lag_records{stage="s",topic="t",partition="3"} 7"#), "{text}");
    assert!(text.contains(r#"lag_seconds{stage="s",topic="t",partition="3"} 1.5"#), "{text}");
    stage.set_lag("t", 3, 7, None);
    assert!(!telemetry.render().contains("lag_seconds{"), "unknown is no number");
    stage.clear_lag("t", 3);
    assert!(!telemetry.render().contains(r#"topic="t""#));
}

#[test]
fn the_text_is_whole_and_histograms_add_up() {
    let telemetry = Telemetry::new();
    let stage = telemetry.stage("s");
    stage.latency_seconds(0.003);
    stage.latency_seconds(-1.0);
    stage.latency_seconds(1e9);
    let text = telemetry.render();
    assert!(text.contains(r#"biplane_stage_latency_seconds_bucket{le="0.005",stage="s"} 2"#), "{text}");
    assert!(text.contains(r#"biplane_stage_latency_seconds_bucket{le="+Inf",stage="s"} 3"#), "{text}");
    assert!(text.contains(r#"biplane_stage_latency_seconds_count{stage="s"} 3"#), "{text}");
    assert!(text.contains("biplane_build_info{version="), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

/// A text in which every metric has a sample.
fn full() -> String {
    let telemetry = Telemetry::new();
    let stage = telemetry.stage("s");
    stage.set_state("running");
    stage.set_lag("t", 0, 1, Some(1.0));
    stage.step("validate").took(Duration::from_micros(3));
    [StageMetrics::dropped, StageMetrics::retried, StageMetrics::dead_lettered]
        .iter()
        .for_each(|count| count(&stage, "code", 1));
    let safeguards = stage.safeguards();
    safeguards.set_open("ask", true);
    safeguards.opened("ask");
    safeguards.flooded();
    safeguards.rate_limited("stage", Duration::from_secs(1));
    telemetry.job("q", "k").started().ended("succeeded");
    telemetry.traces().dropped("queue-full", 1);
    stage.dedupe().duplicate();
    stage.dedupe().set_marks(1);
    stage.dedupe().forgotten(1);
    telemetry.render()
}

#[test]
fn every_metric_has_its_line_in_the_documentation() {
    let page = include_str!("../../../docs/operating.md");
    let text = full();
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
    assert!(names.len() > 20, "{text}");
    for name in names.iter().filter_map(|line| line.split(' ').next()) {
        // The text format keeps a counter's and an info's ending for the samples.
        let written = ["", "_total", "_info"].iter().any(|end| page.contains(&format!("| `{name}{end}` |")));
        assert!(written, "{name} is not in docs/operating.md");
    }
}

const DASHBOARD: &str = include_str!("../../../docs/observability/grafana.json");
const ALERTS: &str = include_str!("../../../docs/observability/alerts.yml");

/// The names that samples have in the text.
fn sampled(text: &str) -> BTreeSet<&str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

/// The metrics that expressions name.
fn asked<'a>(expressions: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let name = Regex::new(r"\b(?:biplane|process)_[a-z_]+").unwrap();
    expressions
        .into_iter()
        .flat_map(|expression| name.find_iter(expression).map(|found| found.as_str()))
        .collect()
}

/// The expressions of all panels.
fn panels(dashboard: &Json) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| target["expr"].as_str().unwrap()).collect()
}

#[test]
fn the_dashboard_shows_every_metric_and_asks_for_no_other() {
    let dashboard: Json = serde_json::from_str(DASHBOARD).unwrap();
    let text = full();
    let there = sampled(&text);
    let expressions = panels(&dashboard);
    let asked = asked(expressions.iter().copied());
    let unknown: Vec<_> = asked.difference(&there).collect();
    assert!(unknown.is_empty(), "no such metrics: {unknown:?}");
    // Of a histogram one of its three kinds of samples is enough.
    let whole = |name: &str| {
        ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).map(str::to_owned)
    };
    let shown: BTreeSet<String> =
        asked.iter().map(|name| whole(name).unwrap_or_else(|| (*name).to_owned())).collect();
    let missing: Vec<_> = there
        .iter()
        .filter(|name| !shown.contains(&whole(name).unwrap_or_else(|| (**name).to_owned())))
        .collect();
    assert!(missing.is_empty(), "without a panel: {missing:?}");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
}

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(default, rename = "for")]
    lasting: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[test]
fn alerts_ask_for_metrics_that_there_are_and_say_what_to_do() {
    let rules: Rules = serde_saphyr::from_str(ALERTS).unwrap();
    let rules: Vec<Rule> = rules.groups.into_iter().flat_map(|group| group.rules).collect();
    let text = full();
    let there = sampled(&text);
    let asked = asked(rules.iter().map(|rule| &*rule.expr));
    let unknown: Vec<_> = asked.difference(&there).collect();
    assert!(unknown.is_empty(), "no such metrics: {unknown:?}");
    for metric in [
        "biplane_stage_lag_records",
        "biplane_stage_records_dead_lettered_total",
        "biplane_breaker_open",
        "biplane_stage_state",
        "biplane_stage_records_in_total",
        "biplane_stage_parked_records",
    ] {
        assert!(asked.contains(metric), "nothing watches {metric}");
    }
    for rule in &rules {
        let Rule { alert, labels, annotations, lasting, .. } = rule;
        assert!(matches!(&*labels["severity"], "critical" | "warning"), "{alert}");
        assert!(
            annotations["summary"].contains("$labels.stage") && annotations.contains_key("description"),
            "{alert}"
        );
        assert!(lasting.as_ref().is_none_or(|time| time.ends_with('m')), "{alert}");
    }
}
