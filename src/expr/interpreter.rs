//! The interpreter: its environment, its limits and its errors in this crate's terms.

use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;

use minijinja::machinery;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde_json::Value as Json;

use super::analyse::{self, Need};
use super::convert::{MAX_OUTPUT, context, to_json, too_large, write_text};
use super::{CompileError, Named, RootSet, Scope, functions};
use crate::base::Failure;
use crate::base::guard::{self, Guard};

/// What one evaluation may spend: an instruction costs a unit, walking a text about one a byte. Enough
/// for a few passes over a record of a mebibyte, and gone within a fraction of a second.
const FUEL: u64 = 5_000_000;
const RECURSION: usize = 64;
const NAME: &str = "template";

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel((!guard::removed(Guard::Fuel)).then_some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_debug(false);
    environment.remove_global("debug");
    environment.set_syntax(syntax());
    environment.set_formatter(|out, _, value| {
        if value.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        match value.as_str() {
            Some(text) => out.write_str(text).map_err(Error::from),
            None => {
                let mut text = String::new();
                let json = to_json(value)
                    .map_err(|failure| Error::new(ErrorKind::BadSerialization, failure.message))?;
                write_text(&json, &mut text);
                out.write_str(&text).map_err(Error::from)
            }
        }
    });
    functions::register(&mut environment);
    environment
});

/// What a whole template looks at.
pub(super) struct Looks {
    pub(super) reads: RootSet,
    pub(super) whole: RootSet,
    pub(super) names: Vec<Named>,
}

impl Looks {
    pub(super) const fn nothing() -> Self {
        Self { reads: RootSet::EMPTY, whole: RootSet::EMPTY, names: Vec::new() }
    }
}

/// A program of the interpreter with the variables that it needs.
pub(super) struct Interpreted {
    needs: BTreeMap<&'static str, Need>,
    code: Code,
}

enum Code {
    Expression(Box<minijinja::Expression<'static, 'static>>),
    Template(Box<Environment<'static>>),
}

impl Interpreted {
    /// Compiles an expression whose names were checked before.
    pub(super) fn expression(source: &str) -> Result<Self, CompileError> {
        let tree = machinery::parse_expr(source).map_err(|error| syntax_error(&error, source))?;
        let analysis = analyse::expression(&tree, source, RootSet::ALL)?;
        let compiled = ENVIRONMENT
            .compile_expression_owned(source.to_owned())
            .map_err(|error| syntax_error(&error, source))?;
        Ok(Self { needs: analysis.needs, code: Code::Expression(Box::new(compiled)) })
    }

    /// Compiles a whole template and says what it looks at.
    pub(super) fn template(source: &str, allowed: RootSet) -> Result<(Self, Looks), CompileError> {
        let tree = machinery::parse(source, NAME, syntax()).map_err(|error| syntax_error(&error, source))?;
        let analysis = analyse::template(&tree, source, allowed)?;
        let mut environment = ENVIRONMENT.clone();
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| syntax_error(&error, source))?;
        let looks = Looks { reads: analysis.reads, whole: analysis.whole(), names: analysis.names };
        Ok((Self { needs: analysis.needs, code: Code::Template(Box::new(environment)) }, looks))
    }

    /// Runs it.
    pub(super) fn eval(&self, scope: &dyn Scope) -> Result<Json, Failure> {
        let mut stash = None;
        let variables = context(scope, &self.needs, &mut stash);
        match &self.code {
            Code::Expression(expression) => {
                to_json(&expression.eval(variables).map_err(|error| failure(&error, stash))?)
            }
            Code::Template(environment) => render(environment, variables, stash).map(Json::String),
        }
    }
}

fn render(
    environment: &Environment<'static>,
    variables: Value,
    stash: Option<Failure>,
) -> Result<String, Failure> {
    let mut out = Capped::default();
    let result = environment
        .get_template(NAME)
        .and_then(|template| template.render_captured_to(variables, &mut out).map(|_| ()));
    match result {
        _ if out.overflowed => Err(too_large()),
        Err(error) => Err(failure(&error, stash)),
        Ok(()) => String::from_utf8(out.bytes)
            .map_err(|_| Failure::permanent("expression", "the template gave no valid text")),
    }
}

/// A buffer that refuses to grow beyond the cap.
#[derive(Default)]
struct Capped {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl io::Write for Capped {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > MAX_OUTPUT && !guard::removed(Guard::OutputCap) {
            self.overflowed = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The syntax of templates; a trailing newline is kept.
fn syntax() -> minijinja::syntax::SyntaxConfig {
    let mut builder = minijinja::syntax::SyntaxConfig::builder();
    builder.keep_trailing_newline(true);
    builder.build().unwrap_or_default()
}

fn failure(error: &Error, stash: Option<Failure>) -> Failure {
    let mut innermost = error;
    while let Some(source) = std::error::Error::source(innermost).and_then(|s| s.downcast_ref::<Error>()) {
        innermost = source;
    }
    let message = innermost.detail().map_or_else(|| innermost.kind().to_string(), str::to_owned);
    match (innermost.kind(), stash) {
        (ErrorKind::BadSerialization, Some(failure)) => failure,
        (ErrorKind::UndefinedError, _) => Failure::permanent("undefined", message),
        (ErrorKind::OutOfFuel, _) => {
            Failure::permanent("fuel", "the expression takes too much work for one record")
        }
        (ErrorKind::WriteFailure, _) => too_large(),
        _ => Failure::permanent("expression", message),
    }
}

/// A syntax error in this crate's terms.
pub(super) fn syntax_error(error: &Error, source: &str) -> CompileError {
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let range = error.range().unwrap_or(0..source.len());
    CompileError::new(message, range.start.min(source.len())..range.end.min(source.len()))
}
