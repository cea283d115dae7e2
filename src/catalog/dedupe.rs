//! Which records of a stage are equal, and for how long.

use std::time::Duration;

use super::scene::Scene;
use crate::diag::{Diagnostic, codes};
use crate::expr::RootSet;
use crate::expr::{Expression, Root};
use crate::spec::{DedupeSpec, StageSpec};

/// Of equal records the first that is finished counts, and the others are dropped.
#[derive(Debug, Clone)]
pub struct Dedupe {
    /// Records are equal where this gives the same text; null: the record is equal to no other.
    pub key: Expression,
    /// How far the timestamps of equal records may be apart.
    pub window: Duration,
    /// How many keys an engine remembers; at least 1.
    pub max_keys: usize,
    /// Whether they are remembered in memory alone.
    pub memory: bool,
}

/// How many keys are remembered where nothing is said.
pub(super) const MAX_KEYS: usize = 1_000_000;

/// What a stage says of equal records; `Err`: something is wrong, and that has been reported.
pub(super) fn resolve(scene: &Scene<'_>, spec: &StageSpec<'_>, what: &str) -> Result<Option<Dedupe>, ()> {
    let Some(dedupe) = &spec.dedupe else { return Ok(None) };
    let key = scene.planning(RootSet::RECORD, &[], |context| context.expression(dedupe.key.as_ref()?));
    if let Some(key) = &key {
        check_key(scene, dedupe, what, key);
    }
    let max_keys = dedupe.max_keys.as_ref().and_then(|keys| usize::try_from(keys.value).ok());
    Ok(Some(Dedupe {
        key: key.ok_or(())?,
        window: dedupe.window.as_ref().ok_or(())?.value,
        max_keys: max_keys.unwrap_or(MAX_KEYS),
        memory: dedupe.memory.as_ref().is_some_and(|memory| memory.value),
    }))
}

/// A key that all records share drops all but one; one that no two share drops none.
fn check_key(scene: &Scene<'_>, spec: &DedupeSpec, what: &str, key: &Expression) {
    let reads = key.reads();
    let told_apart = [Root::Value, Root::Key, Root::Headers, Root::Timestamp];
    let (label, help) = if reads.contains(Root::Offset) {
        ("reads `offset`, which no two records share", "leave the offset out of it")
    } else if !told_apart.into_iter().any(|root| reads.contains(root)) {
        ("is the same for every record of a partition", "write what tells a record from others: \"value.id\"")
    } else {
        return;
    };
    let place = spec.key.as_ref().map_or(spec.span, |key| key.span);
    scene.report(
        Diagnostic::new(&codes::DEDUPE_KEY, format!("`dedupe.key` of {what} tells no duplicates"))
            .at(place, label)
            .help(help),
    );
}
