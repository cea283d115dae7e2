//! What `/metrics` shows of what was counted.

use std::time::Duration;

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

#[test]
fn every_metric_has_its_line_in_the_documentation() {
    let telemetry = Telemetry::new();
    let stage = telemetry.stage("s");
    stage.set_state("running");
    stage.set_lag("t", 0, 1, Some(1.0));
    stage.step("validate").took(Duration::from_micros(3));
    [StageMetrics::dropped, StageMetrics::retried, StageMetrics::dead_lettered]
        .iter()
        .for_each(|count| count(&stage, "code", 1));
    let page = include_str!("../../../docs/operating.md");
    let text = telemetry.render();
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
    assert!(names.len() > 20, "{text}");
    for name in names.iter().filter_map(|line| line.split(' ').next()) {
        // The text format keeps a counter's and an info's ending for the samples.
        let written = ["", "_total", "_info"].iter().any(|end| page.contains(&format!("| `{name}{end}` |")));
        assert!(written, "{name} is not in docs/operating.md");
    }
}
