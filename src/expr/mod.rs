//! Expressions and templates over a record or a job: compile once, evaluate often.
//!
//! The only module that names the interpreter. A plain path, a constant, a comparison of paths or a
//! template of paths never enters it. Evaluation is bounded in fuel, output and recursion; undefined
//! is an error; message data is never rendered as a template.

mod analyse;
mod arguments;
mod compile;
mod convert;
mod error;
mod expression;
mod fast;
mod functions;
mod interpreter;
mod names;
mod scope;
mod template;

pub use error::{CompileError, Mistake};
pub use expression::Expression;
pub use names::{Named, bracketed};
pub use scope::{EnvScope, Found, Root, RootSet, Scope};
pub use template::{Template, TemplateTree};

#[cfg(test)]
mod tests;
