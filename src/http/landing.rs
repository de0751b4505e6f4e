//! GET `/`: a page for a person with a browser, a line for anything else. The Functions host takes any answer here as
//! the sign that the process is ready, so it must not wait for anything.

use axum::http::header::{ACCEPT, CONTENT_SECURITY_POLICY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};

const LINE: &str = "Rowgate: an MCP endpoint for PostgreSQL. POST to /mcp.\n";
const PAGE: &str = include_str!("landing.html");

pub(super) async fn landing(headers: HeaderMap) -> Response {
    let accepts_html = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("text/html"));
    if accepts_html {
        let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
        ([(CONTENT_SECURITY_POLICY, policy)], Html(PAGE)).into_response()
    } else {
        LINE.into_response()
    }
}

pub(super) async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "There is nothing here. MCP is at /mcp.\n")
}
