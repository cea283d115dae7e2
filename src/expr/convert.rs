//! Between JSON and the interpreter's values, and from either to text. Bounded in size and depth.

use std::collections::BTreeMap;

use minijinja::value::{Value, ValueKind};
use serde_json::{Map, Number, Value as Json};

use super::analyse::Need;
use super::{Found, Root, Scope};
use crate::base::Failure;

/// The most bytes of text that one evaluation may give.
pub(super) const MAX_OUTPUT: usize = 1024 * 1024;
const MAX_DEPTH: usize = 128;

/// The variables that a program needs, and nothing else of the scope. What the scope fails with is
/// kept in `stash` and raised when the program touches that place.
pub(super) fn context(
    scope: &dyn Scope,
    needs: &BTreeMap<&'static str, Need>,
    stash: &mut Option<Failure>,
) -> Value {
    Value::from_pairs(Root::ALL.into_iter().filter_map(|root| {
        let need = needs.get(root.as_str())?;
        let value = match root {
            Root::Headers | Root::Steps | Root::Error => Some(named(scope, root, need, stash)),
            _ => found(scope.root(root), need, stash),
        };
        Some((root.as_str(), value?))
    }))
}

fn named(scope: &dyn Scope, root: Root, need: &Need, stash: &mut Option<Failure>) -> Value {
    let pairs: Vec<_> = match need {
        Need::All => scope
            .names(root)
            .into_iter()
            .filter_map(|name| Some((name.clone(), found(scope.named(root, &name), need, stash)?)))
            .collect(),
        Need::Fields(fields) => fields
            .iter()
            .filter_map(|(name, need)| Some((name.clone(), found(scope.named(root, name), need, stash)?)))
            .collect(),
    };
    Value::from_pairs(pairs)
}

fn found(
    result: Result<Option<Found<'_>>, Failure>,
    need: &Need,
    stash: &mut Option<Failure>,
) -> Option<Value> {
    match result {
        Ok(found) => found.map(|found| match found {
            Found::Json(json) => needed(json, need),
            Found::Text(text) => Value::from(text),
            Found::Integer(integer) => Value::from(integer),
            Found::Null => Value::from(()),
        }),
        Err(failure) => {
            let error =
                minijinja::Error::new(minijinja::ErrorKind::BadSerialization, failure.message.clone());
            stash.get_or_insert(failure);
            Some(Value::from(error))
        }
    }
}

fn needed(json: &Json, need: &Need) -> Value {
    match (json, need) {
        (Json::Object(map), Need::Fields(fields)) => Value::from_pairs(
            fields
                .iter()
                .filter_map(|(name, need)| map.get(name).map(|inner| (name.as_str(), needed(inner, need)))),
        ),
        _ => to_value(json),
    }
}

/// The interpreter's value of `json`.
pub(super) fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(to_value).collect::<Vec<_>>()),
        Json::Object(map) => {
            Value::from_pairs(map.iter().map(|(name, inner)| (name.as_str(), to_value(inner))))
        }
    }
}

/// The JSON of what the interpreter gave.
///
/// # Errors
/// `undefined`, `output-too-large`, or `expression` for what JSON cannot hold.
pub(super) fn to_json(value: &Value) -> Result<Json, Failure> {
    json_of(value, 0, &mut 0)
}

fn json_of(value: &Value, depth: usize, size: &mut usize) -> Result<Json, Failure> {
    if depth > MAX_DEPTH {
        return Err(Failure::permanent("output-too-large", "the result is nested too deeply"));
    }
    grow(size, value.as_str().map_or(8, str::len))?;
    match value.kind() {
        ValueKind::Undefined => Err(undefined("the result")),
        ValueKind::None => Ok(Json::Null),
        ValueKind::Bool => Ok(Json::Bool(value.is_true())),
        ValueKind::Number => number_of(value),
        ValueKind::String => Ok(Json::String(value.as_str().unwrap_or_default().to_owned())),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter().map_err(unfit)? {
                items.push(json_of(&item, depth + 1, size)?);
            }
            Ok(Json::Array(items))
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter().map_err(unfit)? {
                let name = key.to_string();
                grow(size, name.len())?;
                map.insert(name, json_of(&value.get_item(&key).map_err(unfit)?, depth + 1, size)?);
            }
            Ok(Json::Object(map))
        }
        kind => {
            Err(Failure::permanent("expression", format!("the result is a {kind}, which JSON cannot hold")))
        }
    }
}

fn number_of(value: &Value) -> Result<Json, Failure> {
    let number = if value.is_integer() {
        value.as_i64().map(Number::from).or_else(|| u64::try_from(value.clone()).ok().map(Number::from))
    } else {
        f64::try_from(value.clone()).ok().and_then(Number::from_f64)
    };
    number.map(Json::Number).ok_or_else(|| {
        Failure::permanent("expression", format!("the number {value} is out of the range of JSON"))
    })
}

fn grow(size: &mut usize, by: usize) -> Result<(), Failure> {
    *size += by;
    if *size > MAX_OUTPUT { Err(too_large()) } else { Ok(()) }
}

fn unfit(error: minijinja::Error) -> Failure {
    Failure::permanent("expression", error.to_string())
}

/// Appends `json` as a template writes it: a string as it is, anything else as compact JSON.
pub(super) fn write_text(json: &Json, out: &mut String) {
    match json {
        Json::String(text) => out.push_str(text),
        other => out.push_str(&other.to_string()),
    }
}

/// The failure of a name that stands for nothing.
pub(super) fn undefined(what: &str) -> Failure {
    Failure::permanent("undefined", format!("{what} is undefined"))
}

/// The failure of a result above [`MAX_OUTPUT`].
pub(super) fn too_large() -> Failure {
    Failure::permanent("output-too-large", format!("the result is larger than {MAX_OUTPUT} bytes"))
}
