//! What people read and machines ignore.

use indexmap::IndexMap;

use super::TableReader;

/// What people read and machines ignore; on every named table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct About {
    /// What it is for.
    pub description: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Where its operators look first.
    pub runbook: Option<String>,
    /// Free labels.
    pub labels: IndexMap<String, String>,
}

impl About {
    /// Reads `description`, `owner`, `runbook` and `labels`.
    pub fn read(table: &mut TableReader<'_>) -> Self {
        let mut plain = |key| table.text(key).map(|text| text.value);
        let (description, owner, runbook) = (plain("description"), plain("owner"), plain("runbook"));
        Self { description, owner, runbook, labels: read_map(table, "labels") }
    }
}

/// A table of strings whose keys are the user's own.
pub(super) fn read_map(table: &mut TableReader<'_>, key: &str) -> IndexMap<String, String> {
    let Some(mut inner) = table.table(key) else { return IndexMap::new() };
    let entries = inner.rest();
    let mut map = IndexMap::with_capacity(entries.len());
    for entry in entries {
        if let Some(text) = inner.string(&entry.key) {
            map.insert(entry.key.clone(), text.value);
        }
    }
    map
}
