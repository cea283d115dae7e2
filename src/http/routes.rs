//! Every route under `/v1`, with what it needs. The router is made from this table, so no route is without a line.

use axum::http::Method;
use axum::routing::{MethodRouter, get, post};

use super::server::{self, Api};
use super::{callbacks, jobs, operating, queues, stages, tailing, tokens, work};
use crate::store::Scope;

/// What a request must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A token with all of these scopes.
    All(&'static [Scope]),
    /// A credential of the route's own, in its path; it judges that itself.
    Own,
}

/// One route.
#[derive(Clone, Copy)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Its path; a segment in braces is a value.
    pub path: &'static str,
    /// What a request must show.
    pub needs: Needs,
    pub(super) serve: fn() -> MethodRouter<Api>,
}

/// The one that needs nothing where nobody could show anything.
pub(super) const STATUS: &str = "/v1/status";

const READ: Needs = Needs::All(&[Scope::Read]);
/// What is asked tells of args and results.
const PAYLOAD: Needs = Needs::All(&[Scope::Read, Scope::Payload]);
const OPERATE: Needs = Needs::All(&[Scope::Operate]);
const ADMIN: Needs = Needs::All(&[Scope::Admin]);
const WORK: Needs = Needs::All(&[Scope::Work]);

macro_rules! route {
    ($method:ident, $path:expr, $needs:expr, $handler:path) => {
        Route {
            method: stringify!($method),
            path: $path,
            needs: $needs,
            serve: || route!(@$method $handler),
        }
    };
    (@GET $handler:path) => { get($handler) };
    (@POST $handler:path) => { post($handler) };
}

/// All of them.
pub const ROUTES: &[Route] = &[
    route!(GET, STATUS, READ, server::status),
    route!(GET, "/v1/jobs", READ, jobs::list),
    route!(POST, "/v1/jobs", OPERATE, jobs::enqueue),
    route!(POST, "/v1/jobs/batch", OPERATE, jobs::enqueue_many),
    route!(GET, "/v1/jobs/tail", READ, tailing::tail),
    route!(GET, "/v1/jobs/{id}", READ, jobs::show),
    route!(POST, "/v1/jobs/retry", OPERATE, operating::retry),
    route!(POST, "/v1/jobs/cancel", OPERATE, operating::cancel),
    route!(POST, "/v1/jobs/snooze", OPERATE, operating::snooze),
    route!(POST, "/v1/jobs/discard", OPERATE, operating::discard),
    route!(POST, "/v1/jobs/prioritise", OPERATE, operating::prioritise),
    route!(GET, "/v1/queues", READ, queues::list),
    route!(POST, "/v1/queues/{name}/pause", OPERATE, queues::pause),
    route!(POST, "/v1/queues/{name}/resume", OPERATE, queues::resume),
    route!(POST, "/v1/stages/{name}/pause", OPERATE, stages::pause),
    route!(POST, "/v1/stages/{name}/resume", OPERATE, stages::resume),
    route!(GET, "/v1/tokens", ADMIN, tokens::list),
    route!(POST, "/v1/tokens", ADMIN, tokens::create),
    route!(POST, "/v1/tokens/{name}/revoke", ADMIN, tokens::revoke),
    route!(GET, "/v1/workers", READ, queues::workers),
    route!(GET, "/v1/audit", PAYLOAD, queues::audit),
    route!(POST, "/v1/work/claim", WORK, work::claim),
    route!(POST, "/v1/work/heartbeat", WORK, work::heartbeat),
    route!(POST, "/v1/work/progress", WORK, work::progress),
    route!(POST, "/v1/work/complete", WORK, work::complete),
    route!(POST, "/v1/work/fail", WORK, work::fail),
    route!(POST, "/v1/work/snooze", WORK, work::snooze),
    route!(POST, "/v1/work/release", WORK, work::release),
    route!(POST, "/v1/callbacks/{token}", Needs::Own, callbacks::take),
];

/// The route of that method and path, as the table writes it.
pub(super) fn find(method: &Method, path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.method == method.as_str() && route.path == path)
}
