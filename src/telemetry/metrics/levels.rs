//! How a stage stands now: what is in flight, lanes, waits and its state.

use parking_lot::Mutex;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{StageLabels, StateLabels};
use super::{StageMetrics, add, saturated};
use crate::telemetry::names;

/// The series of one stage.
#[derive(Debug)]
pub(super) struct Levels {
    in_flight: Gauge,
    in_flight_bytes: Gauge,
    lanes: Gauge,
    waiting: Gauge,
    paused: Gauge,
    state: Mutex<Option<&'static str>>,
    states: Family<StateLabels, Gauge>,
}

pub(super) struct Families {
    in_flight: Family<StageLabels, Gauge>,
    in_flight_bytes: Family<StageLabels, Gauge>,
    lanes: Family<StageLabels, Gauge>,
    waiting: Family<StageLabels, Gauge>,
    paused: Family<StageLabels, Gauge>,
    states: Family<StateLabels, Gauge>,
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            in_flight: add(registry, names::IN_FLIGHT),
            in_flight_bytes: add(registry, names::IN_FLIGHT_BYTES),
            lanes: add(registry, names::LANES),
            waiting: add(registry, names::WAITING),
            paused: add(registry, names::PAUSED),
            states: add(registry, names::STATE),
        }
    }

    pub(super) fn resolve(&self, stage: &str) -> Levels {
        let labels = StageLabels::new(stage);
        Levels {
            in_flight: self.in_flight.get_or_create_owned(&labels),
            in_flight_bytes: self.in_flight_bytes.get_or_create_owned(&labels),
            lanes: self.lanes.get_or_create_owned(&labels),
            waiting: self.waiting.get_or_create_owned(&labels),
            paused: self.paused.get_or_create_owned(&labels),
            state: Mutex::new(None),
            states: self.states.clone(),
        }
    }
}

impl StageMetrics {
    /// So much lies between poll and acknowledgement now.
    pub fn set_in_flight(&self, records: usize, bytes: usize) {
        self.0.levels.in_flight.set(saturated(records));
        self.0.levels.in_flight_bytes.set(saturated(bytes));
    }

    /// So many lanes hold records now.
    pub fn set_lanes(&self, count: usize) {
        self.0.levels.lanes.set(saturated(count));
    }

    /// So many records wait in place for their next try now.
    pub fn set_waiting(&self, count: usize) {
        self.0.levels.waiting.set(saturated(count));
    }

    /// Whether the stage takes no new records now.
    pub fn set_paused(&self, paused: bool) {
        self.0.levels.paused.set(i64::from(paused));
    }

    /// The stage is in the state `word` now; `word` comes from a fixed vocabulary.
    pub fn set_state(&self, word: &'static str) {
        let levels = &self.0.levels;
        let mut state = levels.state.lock();
        let labels = |state| StateLabels { stage: self.0.stage.clone(), state };
        if let Some(before) = state.replace(word).filter(|before| *before != word) {
            levels.states.remove(&labels(before));
        }
        levels.states.get_or_create(&labels(word)).set(1);
    }
}
