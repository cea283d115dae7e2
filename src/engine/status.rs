//! What the engine says about itself to operators, and whether it is ready for traffic.
//!
//! Pure: builds answers from facts that others gathered.

use serde::{Deserialize, Serialize};

use crate::events::StageStatus;

/// The answer of `/v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EngineStatus {
    /// The engine's name: `BIPLANE_ENGINE_ID`, else one made up at its start.
    pub engine: String,
    /// Its build.
    pub version: String,
    /// When it started, in milliseconds since the Unix epoch.
    pub started_at: i64,
    /// The prefix of its groups and topics.
    pub namespace: String,
    /// The digest of the config in force.
    pub catalog: String,
    /// How many configs were in force since the start; counts from 1.
    pub generation: u64,
    /// What the brokers answered last.
    pub broker: BrokerState,
    /// Its stages in the order of the files.
    pub stages: Vec<StageStatus>,
    /// Its durable jobs; `None`: it runs none.
    #[serde(default)]
    pub jobs: Option<JobsStatus>,
}

/// The durable jobs of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsStatus {
    /// `running`, or `away`: no worker is registered.
    pub state: String,
    /// Why they are away.
    pub reason: Option<String>,
    /// The kinds that it runs.
    pub kinds: Vec<String>,
    /// The queues that it claims from.
    pub queues: Vec<String>,
    /// The queues from which pull workers claim.
    #[serde(default)]
    pub pulled: Vec<String>,
}

/// Whether the brokers answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerState {
    /// Not asked yet.
    #[default]
    Unknown,
    /// They answered the last question.
    Reachable,
    /// They did not, and why.
    Unreachable(String),
}

/// The answer of `/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether all is well.
    pub ready: bool,
    /// What is not, one line each.
    pub reasons: Vec<String>,
}

impl Readiness {
    /// Judges the engine: the brokers answer, every stage runs, none waits for its partitions.
    pub fn judge(broker: &BrokerState, stages: &[StageStatus], draining: bool) -> Self {
        let mut reasons = Vec::new();
        if draining {
            reasons.push("the engine is draining".to_owned());
        }
        match broker {
            BrokerState::Reachable => {}
            BrokerState::Unknown => reasons.push("the brokers have not answered yet".to_owned()),
            BrokerState::Unreachable(why) => reasons.push(format!("the brokers do not answer: {why}")),
        }
        reasons.extend(stages.iter().filter_map(not_ready));
        Self { ready: reasons.is_empty(), reasons }
    }

    /// The same with further reasons against it.
    #[must_use]
    pub fn without(mut self, missing: Vec<String>) -> Self {
        self.reasons.extend(missing);
        self.ready = self.reasons.is_empty();
        self
    }
}

/// Why a stage keeps the engine from being ready. A paused stage is as someone or its outputs
/// want it, and a restart would not help, so it does not.
fn not_ready(stage: &StageStatus) -> Option<String> {
    let why = stage.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    match &*stage.state {
        "running" | "paused" => None,
        state => Some(format!("stage `{}` is {state}{why}", stage.stage)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(state: &str) -> StageStatus {
        StageStatus {
            stage: "s".to_owned(),
            state: state.to_owned(),
            reason: Some("why".to_owned()),
            ..StageStatus::default()
        }
    }

    #[test]
    fn ready_means_that_brokers_answer_and_every_stage_runs() {
        let judge = |broker: &BrokerState, state| Readiness::judge(broker, &[stage(state)], false);
        assert!(judge(&BrokerState::Reachable, "running").ready);
        assert!(judge(&BrokerState::Reachable, "paused").ready);
        assert!(!judge(&BrokerState::Unknown, "running").ready);
        assert!(!judge(&BrokerState::Reachable, "starting").ready);
        let halted = judge(&BrokerState::Unreachable("gone".to_owned()), "halted");
        assert_eq!(
            halted.reasons,
            ["the brokers do not answer: gone", "stage `s` is halted: why"].map(str::to_owned)
        );
        assert!(!Readiness::judge(&BrokerState::Reachable, &[], true).ready);
        let missing = judge(&BrokerState::Reachable, "running").without(vec!["gone".to_owned()]);
        assert_eq!((missing.ready, missing.reasons), (false, vec!["gone".to_owned()]));
    }
}
