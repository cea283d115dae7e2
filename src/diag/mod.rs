//! Findings in config files: where they are, what they say, how they are shown.
//!
//! A finding is data ([`Diagnostic`]); every one carries a [`Code`] of the one register in [`codes`], so
//! that `explain` has a page for it. Nothing here reads files or decides what is wrong.

pub mod codes;

mod concise;
mod finding;
mod github;
mod json;
mod junit;
mod merge;
mod nearest;
mod places;
mod sarif;
mod source;
mod text;

pub use codes::Code;
pub use concise::concise;
pub use finding::{Diagnostic, Diagnostics, Label, Severity};
pub use github::github_command;
pub use json::to_json;
pub use junit::to_junit;
pub use nearest::{nearest, words};
pub use sarif::to_sarif;
pub use source::{FileId, Position, SourceFile, SourceMap, Span};
pub use text::{Style, render};
