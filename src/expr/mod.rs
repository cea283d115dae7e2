//! Expressions and templates over a record or a job: compile once, evaluate often.
//!
//! The only module that names the interpreter. A plain path, a constant or a template of paths never
//! enters it. Evaluation is bounded in fuel, output and recursion; undefined is an error; message data
//! is never rendered as a template.

mod compile;
mod scope;

pub use compile::{CompileError, Expression, Template, TemplateTree};
pub use scope::{Found, Root, RootSet, Scope};
