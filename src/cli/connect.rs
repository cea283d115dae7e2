//! From the global arguments to clients of the brokers.

use super::arguments::GlobalArguments;
use super::exit::{CliError, CliResult};
use crate::broker::ClientSettings;

/// The Kafka client's settings from the arguments and the environment.
pub(super) fn client(global: &GlobalArguments) -> CliResult<ClientSettings> {
    let brokers = global.require_brokers()?;
    let client_id = global.engine_id().map_or_else(|| "biplane".to_owned(), |id| format!("biplane-{id}"));
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    ClientSettings::new(brokers, client_id)
        .with_variables(variables)
        .map_err(|error| CliError::usage(error.to_string()))
}
