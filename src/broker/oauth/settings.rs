//! Which token source the client properties name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::jwt::Unsecured;
use super::oidc::Refresher;
use super::{Source, Tokens};
use crate::broker::error::BrokerError;

const MECHANISM: &str = "sasl.mechanisms";
const UNSECURED: &str = "enable.sasl.oauthbearer.unsecure.jwt";
const CONFIG: &str = "sasl.oauthbearer.config";
const METHOD: &str = "sasl.oauthbearer.method";
const CLIENT_ID: &str = "sasl.oauthbearer.client.id";
const CLIENT_SECRET: &str = "sasl.oauthbearer.client.secret";
const SCOPE: &str = "sasl.oauthbearer.scope";
const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";
const FILE: &str = "sasl.oauthbearer.token.file";

/// Whether a property is acted on here and not given to the client.
pub(in crate::broker) fn is_handled_here(property: &str) -> bool {
    property.starts_with("sasl.oauthbearer.") || property == UNSECURED
}

/// The token source that these properties name; `None` where the mechanism is another.
///
/// # Errors
/// [`BrokerError::Settings`] where they name none, several or half of one.
pub(in crate::broker) fn read(
    properties: &BTreeMap<String, String>,
) -> Result<Option<Arc<Tokens>>, BrokerError> {
    read_source(properties).map_err(BrokerError::Settings)
}

fn read_source(properties: &BTreeMap<String, String>) -> Result<Option<Arc<Tokens>>, String> {
    let get = |name: &str| properties.get(name).map(String::as_str).filter(|value| !value.is_empty());
    if !get(MECHANISM).is_some_and(|mechanism| mechanism.eq_ignore_ascii_case("OAUTHBEARER")) {
        return match properties.keys().find(|name| is_handled_here(name)) {
            Some(name) => Err(format!("`{name}` is set, but `{MECHANISM}` is not OAUTHBEARER")),
            None => Ok(None),
        };
    }
    let oidc = one_of(METHOD, get(METHOD), ["oidc", "default"])?;
    let unsecured = one_of(UNSECURED, get(UNSECURED), ["true", "false"])?;
    let source = match (oidc, get(FILE), unsecured) {
        (true, None, false) => Source::Oidc(Refresher::new(endpoint(get)?)),
        (false, Some(file), false) => Source::File(PathBuf::from(file)),
        (false, None, true) => {
            let config = get(CONFIG).unwrap_or_default();
            Source::Unsecured(Unsecured::read(config).map_err(|why| format!("`{CONFIG}`: {why}"))?)
        }
        (false, None, false) => {
            return Err(format!(
                "OAUTHBEARER needs tokens: set `{METHOD}` to oidc, or `{FILE}`, or for tests `{UNSECURED}`"
            ));
        }
        _ => return Err(format!("only one of `{METHOD}` = oidc, `{FILE}` and `{UNSECURED}` can be set")),
    };
    Ok(Some(Tokens::new(source)))
}

/// Whether a setting says the first word; the second is what it says when it is not set.
fn one_of(name: &str, value: Option<&str>, [yes, no]: [&str; 2]) -> Result<bool, String> {
    match value.unwrap_or(no) {
        word if word == yes => Ok(true),
        word if word == no => Ok(false),
        other => Err(format!("`{name}` is `{other}`; it is `{yes}` or `{no}`")),
    }
}

fn endpoint<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Endpoint, String> {
    let needs = |name: &str| {
        get(name).map(str::to_owned).ok_or_else(|| format!("`{METHOD}` is oidc and needs `{name}`"))
    };
    let scope = get(SCOPE).map(str::to_owned);
    Endpoint::new(&needs(ENDPOINT)?, needs(CLIENT_ID)?, needs(CLIENT_SECRET)?, scope)
        .map_err(|why| format!("`{ENDPOINT}` {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(pairs: &[(&str, &str)]) -> Result<bool, String> {
        let properties = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        read_source(&properties.collect()).map(|tokens| tokens.is_some())
    }

    #[test]
    fn a_source_is_named_wholly_and_alone() {
        let bearer = (MECHANISM, "OAUTHBEARER");
        let oidc = [
            bearer,
            (METHOD, "oidc"),
            (ENDPOINT, "https://id.example/token"),
            (CLIENT_ID, "me"),
            (CLIENT_SECRET, "hunter2"),
        ];
        assert_eq!(outcome(&[]), Ok(false));
        assert_eq!(outcome(&[(MECHANISM, "PLAIN")]), Ok(false));
        assert_eq!(outcome(&oidc), Ok(true));
        assert_eq!(outcome(&[bearer, (FILE, "/token")]), Ok(true));
        assert_eq!(outcome(&[bearer, (UNSECURED, "true"), (CONFIG, "principal=me")]), Ok(true));
        let refused: [(&[(&str, &str)], &str); 7] = [
            (&[bearer], "needs tokens"),
            (&oidc[..4], CLIENT_SECRET),
            (&[&oidc[..], &[(FILE, "/token")]].concat(), "only one"),
            (&[bearer, (METHOD, "odic")], "`oidc` or `default`"),
            (&[(MECHANISM, "PLAIN"), (FILE, "/token")], "is not OAUTHBEARER"),
            (&[bearer, (UNSECURED, "true")], "principal=NAME"),
            (
                &[&oidc[..2], &[(ENDPOINT, "ftp://x"), (CLIENT_ID, "me"), (CLIENT_SECRET, "hunter2")]]
                    .concat(),
                "http",
            ),
        ];
        for (pairs, said) in refused {
            let error = outcome(pairs).expect_err(said);
            assert!(error.contains(said) && !error.contains("hunter2"), "{error}");
        }
    }
}
