//! Templates: text with expressions in it, and trees of them.
//!
//! A lone `{{ expr }}` keeps the type of its expression; anything else gives a string. A template
//! without statements is its parts joined here; only one with statements goes to the interpreter whole.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value as Json};

use super::convert::{MAX_OUTPUT, too_large};
use super::fast::Seen;
use super::interpreter::{Interpreted, Looks};
use super::{CompileError, Expression, Mistake, Named, Root, RootSet, Scope};
use crate::base::Failure;

/// What stays as it is when message data becomes part of a URL.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A compiled template. Cheap to clone.
#[derive(Clone)]
pub struct Template {
    inner: Arc<Inner>,
}

struct Inner {
    source: String,
    looks: Looks,
    program: Program,
}

enum Program {
    Constant(Json),
    Lone(Expression),
    Joined { parts: Vec<Part>, encode: bool },
    Interpreted(Interpreted),
}

enum Part {
    Text(String),
    Expression(Expression),
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.inner.source)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.inner.source == other.inner.source
    }
}

impl Template {
    /// Compiles `source`, whose expressions may read the roots in `allowed`.
    ///
    /// # Errors
    /// As [`Expression::compile`], with ranges of the whole source.
    pub fn compile(source: &str, allowed: RootSet) -> Result<Self, CompileError> {
        let Some(parts) = split(source) else {
            let (interpreted, looks) = Interpreted::template(source, allowed)?;
            return Ok(Self::new(source, looks, Program::Interpreted(interpreted)));
        };
        if let [Piece::Expression(range)] = parts.as_slice() {
            let expression = expression_in(source, range, allowed)?;
            let looks = looks_of(source, &[(range, &expression)]);
            return Ok(Self::new(source, looks, Program::Lone(expression)));
        }
        if parts.iter().all(|piece| matches!(piece, Piece::Text(_))) {
            return Ok(Self::new(source, Looks::nothing(), Program::Constant(Json::from(source))));
        }
        let (parts, looks) = compile_parts(source, &parts, allowed)?;
        Ok(Self::new(source, looks, Program::Joined { parts, encode: false }))
    }

    /// Compiles a whole URL: message data is percent-encoded, and up to the end of the host only
    /// text and `env` may stand.
    ///
    /// # Errors
    /// As [`Template::compile`]; statements, and message data in the scheme or host.
    pub fn compile_url(source: &str, allowed: RootSet) -> Result<Self, CompileError> {
        Self::compile_encoded(source, allowed, true)
    }

    /// Compiles the path of a URL whose host stands elsewhere: message data is percent-encoded.
    ///
    /// # Errors
    /// As [`Template::compile`], and for statements.
    pub fn compile_url_path(source: &str, allowed: RootSet) -> Result<Self, CompileError> {
        Self::compile_encoded(source, allowed, false)
    }

    fn compile_encoded(source: &str, allowed: RootSet, with_host: bool) -> Result<Self, CompileError> {
        let Some(pieces) = split(source) else {
            return Err(CompileError::new("a URL takes no statements, only `{{ … }}`", 0..source.len()));
        };
        let (parts, looks) = compile_parts(source, &pieces, allowed)?;
        if with_host {
            check_host(&parts, &pieces)?;
        }
        Ok(Self::new(source, looks, Program::Joined { parts, encode: true }))
    }

    /// A template that is always `value`.
    pub fn constant_value(value: Json) -> Self {
        Self::new("", Looks::nothing(), Program::Constant(value))
    }

    fn new(source: &str, looks: Looks, program: Program) -> Self {
        Self { inner: Arc::new(Inner { source: source.to_owned(), looks, program }) }
    }

    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// The roots that it may look at.
    pub fn reads(&self) -> RootSet {
        self.inner.looks.reads
    }

    /// The roots that it looks at as a whole and not by names below them.
    pub fn reads_whole(&self) -> RootSet {
        self.inner.looks.whole
    }

    /// The names it looks at right below `env`, `steps` and `error`, where it names them.
    pub fn names(&self) -> &[Named] {
        &self.inner.looks.names
    }

    /// Its value if it is the same whatever the scope.
    pub fn constant(&self) -> Option<&Json> {
        match &self.inner.program {
            Program::Constant(value) => Some(value),
            Program::Lone(expression) => expression.constant(),
            Program::Joined { .. } | Program::Interpreted(_) => None,
        }
    }

    /// Its value, borrowed from the scope where that is possible.
    ///
    /// # Errors
    /// As [`Expression::eval`].
    pub fn render<'s>(&'s self, scope: &'s dyn Scope) -> Result<Cow<'s, Json>, Failure> {
        match &self.inner.program {
            Program::Constant(value) => Ok(Cow::Borrowed(value)),
            Program::Lone(expression) => expression.eval(scope),
            Program::Joined { parts, encode } => {
                join(parts, *encode, scope).map(|text| Cow::Owned(Json::String(text)))
            }
            Program::Interpreted(interpreted) => interpreted.eval(scope).map(Cow::Owned),
        }
    }

    /// Its value as text: a string as it is, numbers and booleans as JSON writes them; null is `None`.
    ///
    /// # Errors
    /// As [`Template::render`]; a list or an object has no text.
    pub fn text<'s>(&'s self, scope: &'s dyn Scope) -> Result<Option<Cow<'s, str>>, Failure> {
        match &self.inner.program {
            Program::Lone(expression) => expression.text(scope),
            Program::Joined { parts, encode } => {
                join(parts, *encode, scope).map(|text| Some(Cow::Owned(text)))
            }
            Program::Constant(value) => Seen::Json(value).into_text(&self.inner.source),
            Program::Interpreted(interpreted) => {
                Seen::Owned(interpreted.eval(scope)?).into_text(&self.inner.source)
            }
        }
    }

    /// The same through the interpreter alone.
    #[cfg(test)]
    pub(super) fn render_interpreted(&self, scope: &dyn Scope) -> Result<Json, Failure> {
        match &self.inner.program {
            Program::Lone(expression) => expression.eval_interpreted(scope),
            _ => Interpreted::template(&self.inner.source, RootSet::RECORD)
                .map_err(|error| Failure::permanent("expression", error.message))?
                .0
                .eval(scope),
        }
    }
}

/// A stretch of a template's source.
#[derive(Debug, PartialEq)]
enum Piece {
    /// Literal text.
    Text(Range<usize>),
    /// What stands between the braces.
    Expression(Range<usize>),
}

/// Splits a template into text and expressions; `None` where it holds statements, comments or
/// whitespace control, which are the interpreter's business, or where a brace is left open.
fn split(source: &str) -> Option<Vec<Piece>> {
    if source.contains("{%") || source.contains("{#") {
        return None;
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(open) = source[at..].find("{{").map(|found| at + found) {
        if open > at {
            pieces.push(Piece::Text(at..open));
        }
        let close = open + 2 + closing(&source[open + 2..])?;
        let inner = &source[open + 2..close];
        if inner.starts_with(['-', '+']) || inner.ends_with(['-', '+']) {
            return None;
        }
        pieces.push(Piece::Expression(open + 2..close));
        at = close + 2;
    }
    if at < source.len() || pieces.is_empty() {
        pieces.push(Piece::Text(at..source.len()));
    }
    Some(pieces)
}

/// Where the `}}` stands that ends an expression, strings and braces inside it minded.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut quote, mut escaped, mut depth) = (None, false, 0usize);
    for (index, byte) in bytes.iter().copied().enumerate() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'{') => depth += 1,
            (None, b'}') if depth > 0 => depth -= 1,
            (None, b'}') if bytes.get(index + 1) == Some(&b'}') => return Some(index),
            (None, _) => {}
        }
    }
    None
}

fn expression_in(source: &str, range: &Range<usize>, allowed: RootSet) -> Result<Expression, CompileError> {
    let text = &source[range.clone()];
    Expression::compile(text.trim(), allowed).map_err(|error| error.shifted(begin(source, range)))
}

/// Where the expression of a piece begins, behind the space at its start.
fn begin(source: &str, range: &Range<usize>) -> usize {
    let text = &source[range.clone()];
    range.start + text.len() - text.trim_start().len()
}

/// Compiles every piece, so that the mistakes of all of them are told.
fn compile_parts(
    source: &str,
    pieces: &[Piece],
    allowed: RootSet,
) -> Result<(Vec<Part>, Looks), CompileError> {
    let mut parts = Vec::with_capacity(pieces.len());
    let mut errors = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(range) => parts.push(Part::Text(source[range.clone()].to_owned())),
            Piece::Expression(range) => match expression_in(source, range, allowed) {
                Ok(expression) => parts.push(Part::Expression(expression)),
                Err(error) => errors.push(error),
            },
        }
    }
    if let Some(error) = CompileError::joined(errors) {
        return Err(error);
    }
    let expressions: Vec<_> = parts
        .iter()
        .zip(pieces)
        .filter_map(|pair| match pair {
            (Part::Expression(expression), Piece::Expression(range)) => Some((range, expression)),
            _ => None,
        })
        .collect();
    let looks = looks_of(source, &expressions);
    Ok((parts, looks))
}

fn looks_of(source: &str, expressions: &[(&Range<usize>, &Expression)]) -> Looks {
    let mut looks = Looks::nothing();
    for (range, expression) in expressions {
        looks.reads = looks.reads.union(expression.reads());
        looks.whole = looks.whole.union(expression.reads_whole());
        looks.names.extend(expression.names().iter().map(|name| name.shifted(begin(source, range))));
    }
    looks
}

fn reads_data(expression: &Expression) -> bool {
    expression.reads().iter().any(|root| root != Root::Env)
}

/// Refuses message data before the end of the host.
fn check_host(parts: &[Part], pieces: &[Piece]) -> Result<(), CompileError> {
    let mut before = String::new();
    for (part, piece) in parts.iter().zip(pieces) {
        match (part, piece) {
            (Part::Text(text), _) => before.push_str(text),
            (Part::Expression(expression), Piece::Expression(range)) if reads_data(expression) => {
                if host_is_closed(&before) {
                    continue;
                }
                return Err(CompileError::new(
                    "message data may not form the scheme or host of a URL; only text and `env` may",
                    range.clone(),
                )
                .of(Mistake::Data));
            }
            (Part::Expression(_), _) => before.push('\u{1}'),
        }
    }
    Ok(())
}

/// Whether the text up to here (`\u{1}` for what comes from `env`) holds a whole host: some text between
/// `://` and the next slash, since an empty host is filled from what follows it.
fn host_is_closed(before: &str) -> bool {
    let rest = match before.split_once("://") {
        Some((_, rest)) => rest,
        None if before.starts_with('\u{1}') => before,
        None => return false,
    };
    rest.find(['/', '?', '#']).is_some_and(|end| end > 0)
}

fn join(parts: &[Part], encode: bool, scope: &dyn Scope) -> Result<String, Failure> {
    let mut out = String::new();
    let mut data = String::new();
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Expression(expression) if encode && reads_data(expression) => {
                data.clear();
                expression.seen(scope)?.write(expression.source(), &mut data)?;
                if matches!(&*data, "." | "..") {
                    return Err(Failure::permanent(
                        "url",
                        format!("`{}` is `{data}`, which would change the path", expression.source()),
                    ));
                }
                out.extend(utf8_percent_encode(&data, UNRESERVED));
            }
            Part::Expression(expression) => expression.seen(scope)?.write(expression.source(), &mut out)?,
        }
        if out.len() > MAX_OUTPUT {
            return Err(too_large());
        }
    }
    Ok(out)
}

/// A tree of templates and constants, as `map` and `json` hold it.
#[derive(Debug, Clone, PartialEq)]
pub enum TemplateTree {
    /// Always the same.
    Constant(Json),
    /// One template.
    Leaf(Template),
    /// Fields in their order.
    Object(Vec<(String, TemplateTree)>),
    /// Items in their order.
    Array(Vec<TemplateTree>),
}

impl TemplateTree {
    /// What all its templates name.
    pub fn names(&self) -> Vec<&Named> {
        match self {
            Self::Constant(_) => Vec::new(),
            Self::Leaf(template) => template.names().iter().collect(),
            Self::Object(fields) => fields.iter().flat_map(|(_, tree)| tree.names()).collect(),
            Self::Array(items) => items.iter().flat_map(Self::names).collect(),
        }
    }

    /// The roots that it may look at.
    pub fn reads(&self) -> RootSet {
        match self {
            Self::Constant(_) => RootSet::EMPTY,
            Self::Leaf(template) => template.reads(),
            Self::Object(fields) => {
                fields.iter().fold(RootSet::EMPTY, |set, (_, tree)| set.union(tree.reads()))
            }
            Self::Array(items) => items.iter().fold(RootSet::EMPTY, |set, tree| set.union(tree.reads())),
        }
    }

    /// The value it gives, where that is always the same.
    pub fn constant(&self) -> Option<Json> {
        match self {
            Self::Constant(value) => Some(value.clone()),
            Self::Leaf(template) => template.constant().cloned(),
            Self::Object(fields) => {
                let field = |(name, tree): &(String, Self)| Some((name.clone(), tree.constant()?));
                fields.iter().map(field).collect::<Option<_>>().map(Json::Object)
            }
            Self::Array(items) => items.iter().map(Self::constant).collect::<Option<_>>().map(Json::Array),
        }
    }

    /// The value it gives.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render(&self, scope: &dyn Scope) -> Result<Json, Failure> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Leaf(template) => template.render(scope)?.into_owned(),
            Self::Object(fields) => {
                let mut map = Map::with_capacity(fields.len());
                for (name, tree) in fields {
                    map.insert(name.clone(), tree.render(scope)?);
                }
                Json::Object(map)
            }
            Self::Array(items) => {
                Json::Array(items.iter().map(|tree| tree.render(scope)).collect::<Result<_, _>>()?)
            }
        })
    }

    /// Appends the JSON text of the value it gives, without building the value.
    ///
    /// # Errors
    /// As [`Template::render`]; `out` then ends somewhere within the text.
    pub fn write_json(&self, scope: &dyn Scope, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self {
            Self::Constant(value) => to_json_text(value, out),
            Self::Leaf(template) => to_json_text(&*template.render(scope)?, out),
            Self::Object(fields) => {
                out.push(b'{');
                for (index, (name, tree)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    to_json_text(name, out)?;
                    out.push(b':');
                    tree.write_json(scope, out)?;
                }
                out.push(b'}');
                Ok(())
            }
            Self::Array(items) => {
                out.push(b'[');
                for (index, tree) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    tree.write_json(scope, out)?;
                }
                out.push(b']');
                Ok(())
            }
        }
    }
}

fn to_json_text(value: &(impl serde::Serialize + ?Sized), out: &mut Vec<u8>) -> Result<(), Failure> {
    serde_json::to_writer(out, value).map_err(|error| Failure::permanent("json", error.to_string()))
}
