//! What a step may ask of the world. Only what is shared between steps lives here; nothing is opened
//! until a step asks for it.

use std::sync::Arc;

use super::Pools;

/// Shared handles, cheap to clone. One for an engine, so that stages share pools.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    /// HTTP connections by client.
    pub http: Arc<Pools>,
}
