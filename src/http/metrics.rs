//! `/metrics` for Prometheus, on a socket of its own: what a program does and how often is nobody's business who may reach
//! MCP. Off unless an address is set, and never on the address that clients use.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::telemetry::Telemetry;

/// Prometheus' text format 0.0.4.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until it is dropped.
pub async fn serve_metrics(socket: TcpListener, telemetry: Telemetry) {
    let router = Router::new().route("/metrics", get(metrics)).with_state(telemetry);
    if let Err(error) = axum::serve(socket, router).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "measures can not be read any more");
    }
}

async fn metrics(State(telemetry): State<Telemetry>) -> Response {
    match telemetry.metrics_text() {
        Some(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
