//! Arguments of filters that are written in the text: one that can never work is found when the text is
//! compiled, not with the first record.

use chrono::format::{Item, StrftimeItems};
use minijinja::machinery::Span;
use minijinja::machinery::ast::{CallArg, Expr};

use super::functions::{namespace, regex};

/// An argument that cannot work: where it stands, why, and what may have been meant.
pub(super) struct Wrong {
    pub(super) span: Span,
    pub(super) why: String,
    pub(super) near: Option<&'static str>,
}

/// Judges the arguments of `filter`.
pub(super) fn judge(filter: &str, arguments: &[CallArg<'_>]) -> Vec<Wrong> {
    let first = arguments.first().and_then(|argument| match argument {
        CallArg::Pos(expr) => text(expr),
        _ => None,
    });
    let named = |key: &str| {
        arguments.iter().find_map(|argument| match argument {
            CallArg::Kwarg(name, expr) if *name == key => text(expr),
            _ => None,
        })
    };
    let wrong = match filter {
        "regex_match" | "regex_find" | "regex_find_all" | "regex_replace" => [judged(first, pattern), None],
        "format_time" => [judged(first, form), judged(named("timezone"), zone)],
        "parse_time" => [judged(first, form), None],
        "uuid5" => {
            let why = |text: &str| {
                namespace(text)
                    .is_none()
                    .then(|| (format!("`{text}` is no namespace: it is dns, url, oid or a UUID"), None))
            };
            [judged(first, why), None]
        }
        _ => [None, None],
    };
    wrong.into_iter().flatten().collect()
}

type Why = (String, Option<&'static str>);

fn judged(argument: Option<(&str, Span)>, why: impl Fn(&str) -> Option<Why>) -> Option<Wrong> {
    let (text, span) = argument?;
    why(text).map(|(why, near)| Wrong { span, why, near })
}

fn text<'t>(expr: &'t Expr<'_>) -> Option<(&'t str, Span)> {
    match expr {
        Expr::Const(constant) => Some((constant.value.as_str()?, expr.span())),
        _ => None,
    }
}

fn pattern(text: &str) -> Option<Why> {
    let error = regex(text).err()?;
    // The last line says what is wrong; the lines before it draw where.
    let detail = error.detail().unwrap_or_default();
    let last = detail.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
    Some((format!("the pattern is no regular expression: {last}"), None))
}

fn form(text: &str) -> Option<Why> {
    let broken = StrftimeItems::new(text).any(|item| matches!(item, Item::Error));
    broken.then(|| (format!("`{text}` is no form of a time"), Some("%Y-%m-%d")))
}

fn zone(text: &str) -> Option<Why> {
    if text.parse::<chrono_tz::Tz>().is_ok() {
        return None;
    }
    let city = |name: &str| name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let distance = |name: &str| {
        let (name, wanted) = (name.to_ascii_lowercase(), text.to_ascii_lowercase());
        strsim::damerau_levenshtein(&name, &wanted)
            .min(strsim::damerau_levenshtein(&city(&name), &city(&wanted)) + 1)
    };
    let nearest = chrono_tz::TZ_VARIANTS.iter().map(|zone| (distance(zone.name()), zone.name())).min();
    let near = nearest.filter(|(distance, _)| *distance <= 1 + text.len() / 5).map(|(_, name)| name);
    Some((format!("there is no time zone `{text}`"), near))
}
