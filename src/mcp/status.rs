//! What HTTP says of a call, besides what MCP says in the body: set where a call fails, read by the HTTP floor.

use std::sync::{Arc, OnceLock};

use axum::http::request::Parts;
use rmcp::RoleServer;
use rmcp::service::RequestContext;

use crate::identity::Challenge;

/// The status of one request, beside it in its extensions.
#[derive(Clone, Debug, Default)]
pub struct CallStatus(Arc<OnceLock<Challenge>>);

impl CallStatus {
    /// What was said of the call, if anything.
    pub fn said(&self) -> Option<Challenge> {
        self.0.get().copied()
    }
}

/// Says it, once.
pub(super) fn say(context: &RequestContext<RoleServer>, challenge: Challenge) {
    let parts = context.extensions.get::<Parts>();
    if let Some(status) = parts.and_then(|parts| parts.extensions.get::<CallStatus>()) {
        let _ = status.0.set(challenge);
    }
}
