//! `http`: a request to another service for each record, or for several at a time.
//!
//! Scheme and host come from the config alone, redirects are never followed, proxies of the process
//! environment are not used. One total deadline covers connecting, sending and the whole answer.

mod answer;
#[cfg(test)]
mod batch_server_tests;
mod cache;
mod client;
mod read;
mod request;
mod split;
mod step;
#[cfg(test)]
mod tests;
mod trace;

pub use client::{HttpAuth, HttpClient, Pools};
pub(super) use read::read;
