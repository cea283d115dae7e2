//! What is true: the files once read, checked and resolved. Only `check` builds a [`Catalog`].

mod model;

pub use model::*;
