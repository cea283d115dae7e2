//! Health, metrics and status over HTTP.
//!
//! Reads the engine through [`View`](crate::engine::View) and changes nothing. Binds what it is
//! told, loopback by default.

mod server;

pub use server::{router, serve};
