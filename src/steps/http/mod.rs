//! `http`: a request to another service for each record.
//!
//! Scheme and host come from the config alone, redirects are never followed, proxies of the process
//! environment are not used. One total deadline covers connecting, sending and the whole answer.

mod answer;
mod cache;
mod client;
mod read;
mod step;
#[cfg(test)]
mod tests;

pub use client::{HttpAuth, HttpClient, Pools};
pub(super) use read::read;
