//! Counters by error code, with a bound on how many codes one stage may name.
//!
//! Keeps fault 29's promise: the number of series is fixed, whatever codes users' `fail` steps
//! make up from record data. The first [`MAX_CODES`] codes of a stage count under their own name,
//! later ones under [`OTHER`].

use std::collections::BTreeMap;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::base::guard::{self, Guard};

/// How many distinct codes a stage has in its labels.
pub const MAX_CODES: usize = 64;

/// The label that takes the codes past the bound.
pub const OTHER: &str = "other";

/// Codes longer than this count under [`OTHER`], so that a label stays readable.
const MAX_LENGTH: usize = 96;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct CodeLabels {
    pub(super) stage: String,
    pub(super) code: String,
}

/// What happened to the records that failed with a code.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Dropped = 0,
    Retried = 1,
    DeadLettered = 2,
}

/// The families the counters belong to, in the order of [`Fate`].
pub(super) type Families = [Family<CodeLabels, Counter>; 3];

/// One stage's counters by code.
#[derive(Debug)]
pub(super) struct CodeCounters {
    stage: String,
    families: Families,
    known: Mutex<BTreeMap<String, [Option<Counter>; 3]>>,
}

impl CodeCounters {
    pub(super) fn new(stage: &str, families: Families) -> Self {
        Self { stage: stage.to_owned(), families, known: Mutex::new(BTreeMap::new()) }
    }

    pub(super) fn add(&self, fate: Fate, code: &str, count: u64) {
        let mut known = self.known.lock();
        let full = distinct(&known) >= MAX_CODES && !guard::removed(Guard::CodeBound);
        if !known.contains_key(code) && (code.len() > MAX_LENGTH || full) {
            self.add_known(&mut known, fate, OTHER, count);
        } else {
            self.add_known(&mut known, fate, code, count);
        }
    }

    /// What failed by code, whatever became of it, and the sums by fate.
    pub(super) fn totals(&self) -> (BTreeMap<String, u64>, [u64; 3]) {
        let known = self.known.lock();
        let mut by_code = BTreeMap::new();
        let mut by_fate = [0; 3];
        for (code, counters) in known.iter() {
            let counts = [0, 1, 2].map(|fate: usize| counters[fate].as_ref().map_or(0, Counter::get));
            by_code.insert(code.clone(), counts.iter().sum());
            by_fate.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        (by_code, by_fate)
    }

    fn add_known(
        &self,
        known: &mut BTreeMap<String, [Option<Counter>; 3]>,
        fate: Fate,
        code: &str,
        count: u64,
    ) {
        if !known.contains_key(code) {
            known.insert(code.to_owned(), [None, None, None]);
        }
        if let Some(counters) = known.get_mut(code) {
            let family = &self.families[fate as usize];
            let labels = || CodeLabels { stage: self.stage.clone(), code: code.to_owned() };
            counters[fate as usize]
                .get_or_insert_with(|| family.get_or_create_owned(&labels()))
                .inc_by(count);
        }
    }
}

fn distinct(known: &BTreeMap<String, [Option<Counter>; 3]>) -> usize {
    known.len() - usize::from(known.contains_key(OTHER))
}
