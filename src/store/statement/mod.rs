//! Statements of `sql` steps, on the engine's own database and on others.
//!
//! Each is carried out in a transaction of its own. Values go to the server as text and are cast there to the
//! types that it infers, so that its own input functions judge them; rows come back as JSON.

mod decode;
mod encode;
mod failed;
mod held;
mod learn;
mod offsets;
mod pools;
mod run;
mod stage_offset;

pub use pools::StepDatabases;
pub(super) use pools::named;
