//! What is a credential by its name, and where its value comes from. Never repeats a value.

use super::environment::Environment;
use crate::diag::{Diagnostic, Span, codes};
use crate::expr::{RootSet, Template};

/// How the names of headers and parameters end whose values are credentials.
const ENDINGS: [&str; 17] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "credentials",
    "authorization",
    "cookie",
    "apikey",
    "api-key",
    "access-key",
    "auth-key",
    "private-key",
    "subscription-key",
    "functions-key",
    "signing-key",
];

/// Whether a header or parameter of that name holds a credential.
pub(super) fn is_sensitive(name: &str) -> bool {
    let plain = name.to_ascii_lowercase().replace(['_', '.'], "-");
    ENDINGS.iter().any(|ending| plain.ends_with(ending))
}

/// What is wrong with a credential that is written as `text`; `holder` names who has it.
pub(super) fn judge(holder: &str, text: &str, place: Span, environment: &Environment) -> Option<Diagnostic> {
    // What cannot be read has been reported as such.
    let template = Template::compile(text, RootSet::ALL).ok()?;
    if template.reads() == RootSet::EMPTY {
        return Some(literal(holder, place));
    }
    (!environment.all_secret(&template)).then(|| {
        let message = format!("{holder} takes a credential from a value that is not marked as secret");
        Diagnostic::new(&codes::SECRET_NOT_MARKED, message)
            .at(place, "may be shown to people")
            .help("add `secret = true` to its declaration in `[env]`")
    })
}

/// A credential that stands in the file.
pub(super) fn literal(holder: &str, place: Span) -> Diagnostic {
    Diagnostic::new(&codes::SECRET_LITERAL, format!("{holder} has a credential in the file"))
        .at(place, "readable by all who read the file")
        .help("declare it: [env] token = { var = \"TOKEN\", secret = true }, and write \"{{ env.token }}\" here")
}

/// Whether the text of a URL or path bears a credential: a password before the host, or a parameter with
/// a telling name and a value of its own.
pub(super) fn in_url(text: &str) -> bool {
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let authority = address.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    let password = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
    let spelt = |value: &str| !value.is_empty() && !value.contains("{{");
    password.is_some_and(|(_, password)| spelt(password))
        || query
            .split('#')
            .next()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .any(|(name, value)| is_sensitive(name) && spelt(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_credentials_are_known_and_others_are_not() {
        for name in ["Authorization", "PRIVATE-TOKEN", "X-Vault-Token", "api_key", "apiKey", "client_secret"]
        {
            assert!(is_sensitive(name), "{name}");
        }
        for name in ["x-tenant", "token_type", "key", "accept", "x-request-id", "secretary"] {
            assert!(!is_sensitive(name), "{name}");
        }
    }

    #[test]
    fn passwords_and_telling_parameters_of_urls_are_found() {
        for text in ["https://me:pw@h/x", "/x?a=1&api_key=abc", "{{ env.url }}/x?token=abc#f"] {
            assert!(in_url(text), "{text}");
        }
        for text in
            ["https://{{ env.user }}:{{ env.pw }}@h/", "https://h:80/a@b", "/x?token={{ env.t }}", "/x?a=b"]
        {
            assert!(!in_url(text), "{text}");
        }
    }
}
