//! What most expressions are (constants, paths, comparisons joined by and/or/not, choices of these),
//! evaluated here.
//!
//! A node answers only where its answer is certainly the interpreter's; `None` hands the record over
//! to it. A property test holds both ways together.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};
use serde_json::Value as Json;

use super::convert::{to_json, undefined, write_text};
use super::{Found, Root, Scope};
use crate::base::Failure;

/// One operation.
#[derive(Debug)]
pub(super) enum Node {
    Constant(Json),
    Path(Path),
    Compare(Comparison, Box<Node>, Box<Node>),
    In(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Defined(Path),
    None(Path),
    Default(Path, Json),
    /// A condition, what stands where it is true, and what else.
    If(Box<Node>, Box<Node>, Box<Node>),
}

/// A comparison of two operands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A root and the places below it.
#[derive(Debug)]
pub(super) struct Path {
    root: Root,
    places: Vec<Place>,
}

#[derive(Debug)]
enum Place {
    Field(String),
    Index(usize),
}

/// A value on its way out, borrowed where it can be.
#[derive(Debug)]
pub(super) enum Seen<'a> {
    Json(&'a Json),
    Text(&'a str),
    Integer(i64),
    Bool(bool),
    Null,
    Owned(Json),
    Undefined,
}

impl Node {
    pub(super) fn from_tree(tree: &Expr<'_>) -> Option<Self> {
        if let Some(path) = Path::from_tree(tree) {
            return Some(Self::Path(path));
        }
        let sub = |expr: &Expr<'_>| Self::from_tree(expr).map(Box::new);
        match tree {
            Expr::Const(_) | Expr::List(_) => Some(Self::Constant(to_json(&tree.as_const()?).ok()?)),
            Expr::UnaryOp(unary) => match unary.op {
                UnaryOpKind::Not => Some(Self::Not(sub(&unary.expr)?)),
                UnaryOpKind::Neg => Some(Self::Constant(to_json(&tree.as_const()?).ok()?)),
            },
            Expr::BinOp(binary) => {
                let (left, right) = (sub(&binary.left)?, sub(&binary.right)?);
                Some(match binary.op {
                    BinOpKind::Eq => Self::Compare(Comparison::Equal, left, right),
                    BinOpKind::Ne => Self::Compare(Comparison::NotEqual, left, right),
                    BinOpKind::Lt => Self::Compare(Comparison::Less, left, right),
                    BinOpKind::Lte => Self::Compare(Comparison::LessOrEqual, left, right),
                    BinOpKind::Gt => Self::Compare(Comparison::Greater, left, right),
                    BinOpKind::Gte => Self::Compare(Comparison::GreaterOrEqual, left, right),
                    BinOpKind::ScAnd => Self::And(left, right),
                    BinOpKind::ScOr => Self::Or(left, right),
                    BinOpKind::In => Self::In(left, right),
                    _ => return None,
                })
            }
            Expr::Test(test) if test.args.is_empty() => {
                let path = Path::from_tree(&test.expr)?;
                match test.name {
                    "defined" => Some(Self::Defined(path)),
                    "undefined" => Some(Self::Not(Box::new(Self::Defined(path)))),
                    "none" => Some(Self::None(path)),
                    _ => None,
                }
            }
            Expr::Filter(filter) if filter.name == "default" || filter.name == "d" => {
                let [minijinja::machinery::ast::CallArg::Pos(other)] = filter.args.as_slice() else {
                    return None;
                };
                let path = Path::from_tree(filter.expr.as_ref()?)?;
                Some(Self::Default(path, to_json(&other.as_const()?).ok()?))
            }
            Expr::IfExpr(choice) => {
                let other = sub(choice.false_expr.as_ref()?)?;
                Some(Self::If(sub(&choice.test_expr)?, sub(&choice.true_expr)?, other))
            }
            _ => None,
        }
    }

    /// The node's value; `None` where only the interpreter can tell.
    pub(super) fn eval<'s>(&'s self, scope: &'s dyn Scope) -> Result<Option<Seen<'s>>, Failure> {
        Ok(Some(match self {
            Self::Constant(value) => Seen::Json(value),
            Self::Path(path) => return path.eval(scope),
            Self::Compare(comparison, left, right) => {
                let Some((left, right)) = operands(left, right, scope)? else { return Ok(None) };
                let Some(holds) = left.compare(&right, *comparison) else { return Ok(None) };
                Seen::Bool(holds)
            }
            Self::In(item, container) => {
                let Some((item, container)) = operands(item, container, scope)? else { return Ok(None) };
                let Some(holds) = container.contains(&item) else { return Ok(None) };
                Seen::Bool(holds)
            }
            Self::And(left, right) | Self::Or(left, right) => {
                let Some(first) = left.defined(scope)? else { return Ok(None) };
                let goes_on = matches!(self, Self::And(..));
                if first.is_true() == goes_on { return right.eval(scope) } else { first }
            }
            Self::Not(inner) => match inner.defined(scope)? {
                Some(seen) => Seen::Bool(!seen.is_true()),
                None => return Ok(None),
            },
            Self::Defined(path) => match path.eval(scope)? {
                Some(seen) => Seen::Bool(!matches!(seen, Seen::Undefined)),
                None => return Ok(None),
            },
            Self::None(path) => match path.eval(scope)? {
                Some(seen) => Seen::Bool(seen.is_null()),
                None => return Ok(None),
            },
            Self::Default(path, other) => match path.eval(scope)? {
                Some(Seen::Undefined) => Seen::Json(other),
                seen => return Ok(seen),
            },
            Self::If(condition, this, other) => match condition.defined(scope)? {
                Some(holds) if holds.is_true() => return this.eval(scope),
                Some(_) => return other.eval(scope),
                None => return Ok(None),
            },
        }))
    }

    /// The value of an operand, which must be defined.
    fn defined<'s>(&'s self, scope: &'s dyn Scope) -> Result<Option<Seen<'s>>, Failure> {
        self.eval(scope)?.map(|seen| self.ensure(seen)).transpose()
    }

    fn ensure<'s>(&self, seen: Seen<'s>) -> Result<Seen<'s>, Failure> {
        match seen {
            Seen::Undefined => Err(undefined(&self.to_string())),
            seen => Ok(seen),
        }
    }
}

/// Both operands, in the interpreter's order: what evaluating either fails with comes before what is
/// undefined.
fn operands<'s>(
    left: &'s Node,
    right: &'s Node,
    scope: &'s dyn Scope,
) -> Result<Option<(Seen<'s>, Seen<'s>)>, Failure> {
    let Some(first) = left.eval(scope)? else { return Ok(None) };
    let Some(second) = right.eval(scope)? else { return Ok(None) };
    Ok(Some((left.ensure(first)?, right.ensure(second)?)))
}

impl Path {
    fn from_tree(tree: &Expr<'_>) -> Option<Self> {
        match tree {
            Expr::Var(variable) => {
                let root = Root::ALL.into_iter().find(|root| root.as_str() == variable.id)?;
                Some(Self { root, places: Vec::new() })
            }
            Expr::GetAttr(attribute) => {
                let mut path = Self::from_tree(&attribute.expr)?;
                path.places.push(Place::Field(attribute.name.to_owned()));
                Some(path)
            }
            Expr::GetItem(item) => {
                let Expr::Const(constant) = &item.subscript_expr else { return None };
                let mut path = Self::from_tree(&item.expr)?;
                path.places.push(match constant.value.as_str() {
                    Some(field) => Place::Field(field.to_owned()),
                    None if constant.value.is_integer() => Place::Index(constant.value.as_usize()?),
                    None => return None,
                });
                Some(path)
            }
            _ => None,
        }
    }

    fn eval<'s>(&'s self, scope: &'s dyn Scope) -> Result<Option<Seen<'s>>, Failure> {
        let (found, rest) = match (self.root, self.places.as_slice()) {
            (Root::Headers | Root::Steps | Root::Error, [Place::Field(name), rest @ ..]) => {
                (scope.named(self.root, name)?, rest)
            }
            (Root::Headers | Root::Steps | Root::Error, _) => return Ok(None),
            (root, places) => (scope.root(root)?, places),
        };
        let mut seen = found.map_or(Seen::Undefined, Seen::from);
        for place in rest {
            seen = match (seen, place) {
                (Seen::Undefined, _) => return Err(undefined(&self.to_string())),
                (Seen::Json(Json::Object(map)), Place::Field(name)) => {
                    map.get(name).map_or(Seen::Undefined, Seen::Json)
                }
                (Seen::Json(Json::Array(items)), Place::Index(index)) => {
                    items.get(*index).map_or(Seen::Undefined, Seen::Json)
                }
                (_, Place::Field(_)) => Seen::Undefined,
                (_, Place::Index(_)) => return Ok(None),
            };
        }
        Ok(Some(seen))
    }
}

impl<'a> From<Found<'a>> for Seen<'a> {
    fn from(found: Found<'a>) -> Self {
        match found {
            Found::Json(json) => Self::Json(json),
            Found::Text(text) => Self::Text(text),
            Found::Integer(integer) => Self::Integer(integer),
            Found::Null => Self::Null,
        }
    }
}

impl<'a> Seen<'a> {
    pub(super) fn into_json(self, source: &str) -> Result<Cow<'a, Json>, Failure> {
        Ok(match self {
            Self::Json(json) => Cow::Borrowed(json),
            Self::Text(text) => Cow::Owned(Json::from(text)),
            Self::Integer(integer) => Cow::Owned(Json::from(integer)),
            Self::Bool(flag) => Cow::Owned(Json::Bool(flag)),
            Self::Null => Cow::Owned(Json::Null),
            Self::Owned(json) => Cow::Owned(json),
            Self::Undefined => return Err(undefined(&format!("`{source}`"))),
        })
    }

    pub(super) fn truthy(self, source: &str) -> Result<bool, Failure> {
        match self {
            Self::Undefined => Err(undefined(&format!("`{source}`"))),
            seen => Ok(seen.is_true()),
        }
    }

    pub(super) fn into_text(self, source: &str) -> Result<Option<Cow<'a, str>>, Failure> {
        match self {
            Self::Text(text) => Ok(Some(Cow::Borrowed(text))),
            Self::Json(Json::String(text)) => Ok(Some(Cow::Borrowed(text))),
            Self::Owned(Json::String(text)) => Ok(Some(Cow::Owned(text))),
            seen => match &*seen.into_json(source)? {
                Json::Null => Ok(None),
                scalar @ (Json::Bool(_) | Json::Number(_)) => Ok(Some(Cow::Owned(scalar.to_string()))),
                _ => Err(Failure::permanent(
                    "expression",
                    format!("`{source}` must be a text, a number or null, not a list or an object"),
                )),
            },
        }
    }

    /// Appends it as a template writes it.
    pub(super) fn write(&self, source: &str, out: &mut String) -> Result<(), Failure> {
        match self {
            Self::Json(json) => write_text(json, out),
            Self::Owned(json) => write_text(json, out),
            Self::Text(text) => out.push_str(text),
            Self::Integer(integer) => out.push_str(itoa::Buffer::new().format(*integer)),
            Self::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Self::Null => out.push_str("null"),
            Self::Undefined => return Err(undefined(&format!("`{source}`"))),
        }
        Ok(())
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null | Self::Json(Json::Null) | Self::Owned(Json::Null))
    }

    fn is_true(&self) -> bool {
        match self {
            Self::Json(json) => json_is_true(json),
            Self::Owned(json) => json_is_true(json),
            Self::Text(text) => !text.is_empty(),
            Self::Integer(integer) => *integer != 0,
            Self::Bool(flag) => *flag,
            Self::Null | Self::Undefined => false,
        }
    }

    fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Json(json) => json.as_str(),
            Self::Owned(json) => json.as_str(),
            _ => None,
        }
    }

    fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            Self::Json(json) => json.as_i64(),
            Self::Owned(json) => json.as_i64(),
            _ => None,
        }
    }

    fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            Self::Json(json) => json.as_bool(),
            Self::Owned(json) => json.as_bool(),
            _ => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Json(Json::Number(number)) if number.is_f64() => number.as_f64(),
            _ => None,
        }
    }

    /// Whether it is a number of any kind or a boolean, which compares as a number.
    fn is_numeric(&self) -> bool {
        match self {
            Self::Integer(_) | Self::Bool(_) => true,
            Self::Json(json) => json.is_number() || json.is_boolean(),
            Self::Owned(json) => json.is_number() || json.is_boolean(),
            Self::Text(_) | Self::Null | Self::Undefined => false,
        }
    }

    /// Whether the two are equal; `None` where the interpreter's rules must decide.
    fn equals(&self, other: &Seen<'_>) -> Option<bool> {
        if let Some(order) = self.order(other) {
            return Some(order == Ordering::Equal);
        }
        if let (Some(left), Some(right)) = (self.as_bool(), other.as_bool()) {
            return Some(left == right);
        }
        let kinds = [
            (self.is_null(), other.is_null()),
            (self.as_str().is_some(), other.as_str().is_some()),
            (self.is_numeric(), other.is_numeric()),
        ];
        if kinds[0] == (true, true) {
            return Some(true);
        }
        let scalar = |(left, right): &(bool, bool)| (*left, *right);
        let left = kinds.iter().position(|kind| scalar(kind).0)?;
        let right = kinds.iter().position(|kind| scalar(kind).1)?;
        (left != right).then_some(false)
    }

    /// The order of two values of one kind.
    fn order(&self, other: &Seen<'_>) -> Option<Ordering> {
        if let (Some(left), Some(right)) = (self.as_str(), other.as_str()) {
            return Some(left.cmp(right));
        }
        if let (Some(left), Some(right)) = (self.as_i64(), other.as_i64()) {
            return Some(left.cmp(&right));
        }
        self.as_f64()?.partial_cmp(&other.as_f64()?)
    }

    fn compare(&self, other: &Seen<'_>, comparison: Comparison) -> Option<bool> {
        match comparison {
            Comparison::Equal => self.equals(other),
            Comparison::NotEqual => self.equals(other).map(|equal| !equal),
            Comparison::Less => self.order(other).map(Ordering::is_lt),
            Comparison::LessOrEqual => self.order(other).map(Ordering::is_le),
            Comparison::Greater => self.order(other).map(Ordering::is_gt),
            Comparison::GreaterOrEqual => self.order(other).map(Ordering::is_ge),
        }
    }

    fn contains(&self, item: &Seen<'_>) -> Option<bool> {
        match self {
            Self::Json(Json::Array(items)) => {
                for candidate in items {
                    if Seen::Json(candidate).equals(item)? {
                        return Some(true);
                    }
                }
                Some(false)
            }
            Self::Json(Json::Object(map)) => Some(map.contains_key(item.as_str()?)),
            _ => Some(self.as_str()?.contains(item.as_str()?)),
        }
    }
}

fn json_is_true(json: &Json) -> bool {
    match json {
        Json::Null => false,
        Json::Bool(flag) => *flag,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Object(map) => !map.is_empty(),
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.fmt(f),
            _ => f.write_str("an operand"),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}", self.root.as_str())?;
        for place in &self.places {
            match place {
                Place::Field(name) => write!(f, ".{name}")?,
                Place::Index(index) => write!(f, "[{index}]")?,
            }
        }
        f.write_str("`")
    }
}
