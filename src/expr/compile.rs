//! From the text of an expression to what runs: a constant, a fast program or the interpreter's.

use std::ops::Range;
use std::sync::OnceLock;

use minijinja::machinery;
use serde_json::Value as Json;

use super::analyse;
use super::convert::to_json;
use super::fast::Node;
use super::interpreter::{Interpreted, syntax_error};
use super::{CompileError, Mistake, Named, RootSet};
use crate::base::Failure;

/// What an expression was compiled to.
pub(super) enum Program {
    /// The same whatever the scope.
    Constant(Json),
    /// Evaluated here; the interpreter only settles the rare cases that a node leaves open.
    Fast(Node, LazyInterpreted),
    /// Everything else.
    Interpreted(LazyInterpreted),
}

/// A compiled expression.
pub(super) struct Compiled {
    pub(super) program: Program,
    pub(super) reads: RootSet,
    pub(super) whole: RootSet,
    pub(super) names: Vec<Named>,
}

/// The interpreter's program, compiled when it is first asked for: one takes some KiB, and most of those
/// that a config root holds are only checked.
pub(super) struct LazyInterpreted {
    source: String,
    cell: OnceLock<Interpreted>,
}

impl LazyInterpreted {
    fn new(source: &str) -> Self {
        Self { source: source.to_owned(), cell: OnceLock::new() }
    }

    pub(super) fn get(&self) -> Result<&Interpreted, Failure> {
        if self.cell.get().is_none() {
            let compiled = Interpreted::expression(&self.source)
                .map_err(|error| Failure::permanent("expression", error.message))?;
            return Ok(self.cell.get_or_init(|| compiled));
        }
        self.cell.get().ok_or_else(|| Failure::permanent("expression", "the expression is not compiled"))
    }
}

/// Compiles `source` and says which roots it reads.
pub(super) fn compile(source: &str, allowed: RootSet) -> Result<Compiled, CompileError> {
    if let Some(range) = delimiter(source) {
        let inner = source.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
        let mut error =
            CompileError::new("this is an expression, not a template: write it without `{{ }}`", range)
                .of(Mistake::Braces);
        error.suggestion = source.trim().starts_with("{{").then(|| inner.to_owned());
        return Err(error);
    }
    if source.trim().is_empty() {
        return Err(CompileError::new("the expression is empty", 0..source.len()));
    }
    let tree = machinery::parse_expr(source).map_err(|error| syntax_error(&error, source))?;
    let analysis = analyse::expression(&tree, source, allowed)?;
    let program = match Node::from_tree(&tree) {
        Some(Node::Constant(value)) => Program::Constant(value),
        Some(node) => Program::Fast(node, LazyInterpreted::new(source)),
        None => match tree.as_const().and_then(|value| to_json(&value).ok()) {
            Some(value) => Program::Constant(value),
            None => {
                Interpreted::expression(source)?;
                Program::Interpreted(LazyInterpreted::new(source))
            }
        },
    };
    Ok(Compiled { program, reads: analysis.reads, whole: analysis.whole(), names: analysis.names })
}

/// Where a template's delimiter stands outside of string literals.
fn delimiter(source: &str) -> Option<Range<usize>> {
    let mut quote = None;
    let mut escaped = false;
    for (index, byte) in source.bytes().enumerate() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if byte == b'\\' => escaped = true,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if matches!(byte, b'"' | b'\'') => quote = Some(byte),
            None if matches!(source.get(index..index + 2), Some("{{" | "{%")) => {
                let end =
                    source.rfind("}}").or_else(|| source.rfind("%}")).map_or(source.len(), |end| end + 2);
                return Some(index..end.max(index + 2));
            }
            None => {}
        }
    }
    None
}
