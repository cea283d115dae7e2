//! An expression: compiled once, evaluated against a scope.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use super::compile::{Compiled, Program, compile};
use super::fast::Seen;
use super::{CompileError, Named, RootSet, Scope};
use crate::base::Failure;

/// A compiled expression (`when`, `key`, `filter`, …). Cheap to clone.
#[derive(Clone)]
pub struct Expression {
    inner: Arc<Inner>,
}

struct Inner {
    source: String,
    compiled: Compiled,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.inner.source)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.inner.source == other.inner.source
    }
}

impl Expression {
    /// Compiles `source`, which may read the roots in `allowed`.
    ///
    /// # Errors
    /// Syntax that is wrong, `{{` in a bare expression, and names of variables, filters, tests or
    /// functions that do not exist.
    pub fn compile(source: &str, allowed: RootSet) -> Result<Self, CompileError> {
        let compiled = compile(source, allowed)?;
        Ok(Self { inner: Arc::new(Inner { source: source.to_owned(), compiled }) })
    }

    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// The roots that it may look at.
    pub fn reads(&self) -> RootSet {
        self.inner.compiled.reads
    }

    /// The roots that it looks at as a whole and not by names below them.
    pub fn reads_whole(&self) -> RootSet {
        self.inner.compiled.whole
    }

    /// The names it looks at right below `env`, `steps`, `error`, `job` and `window`, where it names them; each once.
    pub fn names(&self) -> &[Named] {
        &self.inner.compiled.names
    }

    /// Its value if it is the same whatever the scope.
    pub fn constant(&self) -> Option<&Json> {
        match &self.inner.compiled.program {
            Program::Constant(value) => Some(value),
            Program::Fast(..) | Program::Interpreted(_) => None,
        }
    }

    /// Whether it never needs the interpreter's help to run.
    pub fn is_fast(&self) -> bool {
        !matches!(self.inner.compiled.program, Program::Interpreted(_))
    }

    /// Its value, borrowed from the scope where that is possible.
    ///
    /// # Errors
    /// Permanent failures `undefined`, `expression`, `fuel`, `output-too-large`, and what the scope
    /// fails with.
    pub fn eval<'s>(&'s self, scope: &'s dyn Scope) -> Result<Cow<'s, Json>, Failure> {
        self.seen(scope)?.into_json(&self.inner.source)
    }

    /// Whether its value is true: not null, false, zero, or empty.
    ///
    /// # Errors
    /// As [`Expression::eval`].
    pub fn truthy(&self, scope: &dyn Scope) -> Result<bool, Failure> {
        self.seen(scope)?.truthy(&self.inner.source)
    }

    /// Its value as the text of a key or header: a string as it is, numbers and booleans as JSON
    /// writes them; null is `None`.
    ///
    /// # Errors
    /// As [`Expression::eval`]; a list or an object has no text.
    pub fn text<'s>(&'s self, scope: &'s dyn Scope) -> Result<Option<Cow<'s, str>>, Failure> {
        self.seen(scope)?.into_text(&self.inner.source)
    }

    pub(super) fn seen<'s>(&'s self, scope: &'s dyn Scope) -> Result<Seen<'s>, Failure> {
        match &self.inner.compiled.program {
            Program::Constant(value) => Ok(Seen::Json(value)),
            Program::Fast(node, interpreted) => match node.eval(scope)? {
                Some(seen) => Ok(seen),
                None => interpreted.get()?.eval(scope).map(Seen::Owned),
            },
            Program::Interpreted(interpreted) => interpreted.get()?.eval(scope).map(Seen::Owned),
        }
    }

    /// The same through the interpreter alone.
    #[cfg(test)]
    pub(super) fn eval_interpreted(&self, scope: &dyn Scope) -> Result<Json, Failure> {
        super::interpreter::Interpreted::expression(&self.inner.source)
            .map_err(|error| Failure::permanent("expression", error.message))?
            .eval(scope)
    }
}
