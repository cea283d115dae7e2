//! The JSON Schema of a config file, for editors: the [`Language`] written in the words of JSON Schema.
//!
//! Draft 7, which editors of TOML know. It says what is read and of which type; names that lead nowhere
//! and values that contradict each other stay with `check`.

use serde_json::{Map, Value as Json, json};

use super::language::Language;
use crate::spec::{KeyShape, Kind, NAME_PATTERN, NAMED_SECTIONS, SECTIONS, Shape, Takes, Type};

/// What marks a template over `env`.
const TEMPLATE: &str = r"\{\{|\{%";
const DATETIME: &str = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)$";

/// The schema of every file below `pipelines/` and `schedules/`.
pub fn json_schema() -> Json {
    let language = Language::learn();
    let mut definitions = Map::new();
    definitions.insert("env".into(), object(&language.env, true));
    definitions.insert("step".into(), step(&language));
    for (section, shape) in &language.sections {
        definitions.insert((*section).into(), object(shape, true));
    }
    let sections: Map<String, Json> =
        SECTIONS.iter().map(|section| ((*section).into(), section_schema(section, &language))).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Biplane config file",
        "description": "A file below pipelines/ of a Biplane config root. Written by `biplane schema`.",
        "type": "object",
        "properties": sections,
        "additionalProperties": false,
        "definitions": definitions,
    })
}

fn section_schema(section: &str, language: &Language) -> Json {
    match section {
        "defaults" => closed(NAMED_SECTIONS.iter().map(|name| {
            let shape = &language.sections[name];
            ((*name).to_owned(), object(shape, false))
        })),
        "removed" => closed(
            NAMED_SECTIONS
                .iter()
                .map(|name| ((*name).to_owned(), json!({ "type": "array", "items": { "type": "string" } }))),
        ),
        name => json!({
            "type": "object",
            "propertyNames": { "pattern": NAME_PATTERN },
            "additionalProperties": { "$ref": format!("#/definitions/{name}") },
        }),
    }
}

fn closed(properties: impl Iterator<Item = (String, Json)>) -> Json {
    let properties: Map<String, Json> = properties.collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// A table; `whole`: its required keys have to be there.
fn object(shape: &Shape, whole: bool) -> Json {
    let properties: Map<String, Json> =
        shape.keys.iter().map(|(key, own)| (key.clone(), property(key, own))).collect();
    let required: Vec<&String> =
        shape.keys.iter().filter(|(_, own)| own.required && whole).map(|(key, _)| key).collect();
    let mut object = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": shape.rest.as_ref().map_or(Json::Bool(false), value),
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// Steps are read by their kinds, so whoever holds them says nothing about them.
fn property(key: &str, shape: &KeyShape) -> Json {
    if key == "steps" {
        return json!({ "type": "array", "items": { "$ref": "#/definitions/step" } });
    }
    value(shape)
}

/// One object with the keys of all kinds, of which a step has exactly one: editors complete that better
/// than alternatives.
fn step(language: &Language) -> Json {
    let mut all = Shape::default();
    for shape in language.steps.values().chain([&language.group_use]) {
        for (key, own) in &shape.keys {
            let own = KeyShape { required: false, ..own.clone() };
            all.keys.entry(key.clone()).or_insert(own);
        }
    }
    let mut step = object(&all, false);
    let kinds = language.steps.keys().map(|kind| json!({ "required": [kind] }));
    let group = json!({ "required": language.group_use.keys.keys().collect::<Vec<_>>(), "maxProperties": 1 });
    step["oneOf"] = kinds.chain([group]).collect();
    step
}

fn value(shape: &KeyShape) -> Json {
    let types = shape.takes.iter().filter(|takes| matches!(takes, Takes::Type(_))).count();
    if types == 7 {
        return Json::Bool(true);
    }
    let mut ways: Vec<Json> = Vec::new();
    for way in shape.takes.iter().flat_map(one_of) {
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    match ways.len() {
        0 => Json::Bool(true),
        1 => ways.remove(0),
        _ => json!({ "anyOf": ways }),
    }
}

fn one_of(takes: &Takes) -> Vec<Json> {
    match takes {
        Takes::Kind(kind) => one_of_kind(kind),
        Takes::Type(of) => vec![of_type(*of)],
        Takes::Table(shape) => vec![object(shape, true)],
        Takes::Tables(shape) => vec![json!({ "type": "array", "items": object(shape, true) })],
    }
}

fn one_of_kind(kind: &Kind) -> Vec<Json> {
    let template = || json!({ "type": "string", "pattern": TEMPLATE });
    let list = |item: Json| json!({ "type": "array", "items": item, "minItems": 1 });
    let name = || json!({ "type": "string", "not": { "pattern": TEMPLATE } });
    match kind {
        Kind::Setting | Kind::Text => vec![json!({ "type": "string" })],
        Kind::Name => vec![name()],
        Kind::Texts(false) => vec![json!({ "type": "string" }), list(json!({ "type": "string" }))],
        Kind::Texts(true) => vec![name(), list(name())],
        Kind::Integer(low, i64::MAX) => vec![json!({ "type": "integer", "minimum": low }), template()],
        Kind::Integer(low, high) => {
            vec![json!({ "type": "integer", "minimum": low, "maximum": high }), template()]
        }
        Kind::Float(low, high) => {
            vec![json!({ "type": "number", "minimum": low, "maximum": high }), template()]
        }
        Kind::Boolean => vec![json!({ "type": "boolean" }), template()],
        Kind::Form(words) => vec![json!({ "type": "string", "description": words })],
        Kind::Word(words) => vec![json!({ "enum": words }), template()],
        Kind::Words(words) => vec![json!({ "enum": words }), list(json!({ "enum": words }))],
        // Whoever turns TOML into JSON writes a datetime as text.
        Kind::Datetime => vec![json!({ "type": "string", "pattern": DATETIME })],
        Kind::Table => vec![of_type(Type::Table)],
        Kind::Tables => vec![of_type(Type::Array)],
        Kind::Any => Vec::new(),
    }
}

fn of_type(of: Type) -> Json {
    let name = match of {
        Type::String | Type::Datetime => "string",
        Type::Integer => "integer",
        Type::Float => "number",
        Type::Boolean => "boolean",
        Type::Array => "array",
        Type::Table => "object",
    };
    json!({ "type": name })
}
