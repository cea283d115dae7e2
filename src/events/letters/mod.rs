//! Dead letters as they are read back: what their headers say, which of them are meant, and what of them
//! is sent again.
//!
//! Pure: reading topics, asking and sending are the callers'.

mod again;
mod filters;
mod letter;
mod origin;
mod scope;
mod selection;

pub use again::Again;
pub use filters::{Filters, FiltersError};
pub use letter::Letter;
pub use origin::{ORIGIN_HEADER, Origin};
pub use selection::{Codecs, Match, Selection};
