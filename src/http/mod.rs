//! HTTP: health and metrics for everybody, `/v1` for those who may.
//!
//! Every route under `/v1` stands in one table ([`ROUTES`]) with what it needs, and one layer ([`access`]) asks for
//! it before anything else of the request is looked at. Changes nothing but through the store and `jobs`.

mod access;
mod answer;
mod callbacks;
mod jobs;
mod operating;
mod queues;
mod routes;
mod server;
mod stages;
mod tailing;
mod tokens;
mod work;

pub use access::Access;
pub use routes::{Needs, ROUTES, Route};
pub use server::{Api, router, serve};
