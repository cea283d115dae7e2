//! From the config root on disk to what runs; what is wrong with it is shown as `check` shows it.

use std::sync::Arc;

use super::arguments::{Format, GlobalArguments};
use super::exit::{CliResult, read_or_not};
use super::findings;
use crate::catalog::{self, Catalog, CheckOptions, Outside, Tree};
use crate::engine::{Process, load_tree};

/// The catalog of the config root, with every env value required as for a run; `None` where it does
/// not check, in which case its findings were written in `format`.
pub(super) fn load_for(global: &GlobalArguments, format: Format) -> CliResult<Option<Arc<Catalog>>> {
    check(&load_tree(&global.config)?, global.environment(), &Process, format)
}

/// The same of files that were read already, with values of `[env]` from `outside`.
pub(super) fn check(
    tree: &Tree,
    environment: Option<&str>,
    outside: &dyn Outside,
    format: Format,
) -> CliResult<Option<Arc<Catalog>>> {
    let options = CheckOptions { environment, require_env: true, outside };
    let mut checked = catalog::check(tree, &options);
    let catalog = checked.catalog.take();
    if catalog.is_none() {
        read_or_not(findings::print_plain(&checked, format))?;
    }
    Ok(catalog.map(Arc::new))
}
