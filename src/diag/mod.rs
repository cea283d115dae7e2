//! Findings in config files: where they are, what they say, how they are shown.
//!
//! A finding is data ([`Diagnostic`]); every one carries a [`Code`] of the one register in [`codes`], so
//! that `explain` has a page for it. Nothing here reads files or decides what is wrong.

pub mod codes;

mod finding;
mod json;
mod nearest;
mod source;
mod text;

pub use codes::Code;
pub use finding::{Diagnostic, Diagnostics, Label, Severity};
pub use json::to_json;
pub use nearest::{nearest, words};
pub use source::{FileId, Position, SourceFile, SourceMap, Span};
pub use text::{Style, render};
