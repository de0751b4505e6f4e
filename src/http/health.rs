//! Whether the process lives and whether it can work. Tells an operator what is wrong, and nobody any data.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::db::DbError;
use crate::mcp::McpServer;

/// The process answers. Asks nothing else.
pub(super) async fn process() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// The database answers and is set up.
pub(super) async fn database(State(server): State<McpServer>) -> Response {
    match server.db().check_ready().await {
        Ok(()) => Json(json!({ "status": "ready" })).into_response(),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "not ready");
            let problem = match error {
                DbError::Unsafe(_) => "The database is not set up safely; the log says what to mend.",
                DbError::Keys(_) => "The secrets can not be fetched.",
                DbError::Unreachable(_) | DbError::Lost(_) | DbError::Silent(_) => "The database can not be reached.",
                DbError::Busy => "All connections to the database are in use.",
                DbError::Unavailable(_) => "The database does not accept work now.",
                _ => "The database is not set up for Rowgate: run `rowgate migrate`.",
            };
            let body = Json(json!({ "status": "not ready", "problem": problem }));
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], body).into_response()
        }
    }
}
