//! From the config root on disk to what runs; what is wrong with it is shown as `check` shows it.

use std::path::Path;
use std::sync::Arc;

use super::exit::CliResult;
use super::findings;
use crate::catalog::{self, Catalog, CheckOptions, Tree};
use crate::engine::{Process, load_tree};

/// The catalog of the config root, with every env value required as for a run; `None` where it does
/// not check, in which case its findings were written.
pub(super) fn load(root: &Path, environment: Option<&str>) -> CliResult<Option<Arc<Catalog>>> {
    check(&load_tree(root)?, environment)
}

/// The same of files that were read already.
pub(super) fn check(tree: &Tree, environment: Option<&str>) -> CliResult<Option<Arc<Catalog>>> {
    let options = CheckOptions { environment, require_env: true, outside: &Process };
    let mut checked = catalog::check(tree, &options);
    let catalog = checked.catalog.take();
    if catalog.is_none() {
        findings::print_text(&checked)?;
    }
    Ok(catalog.map(Arc::new))
}
