//! The outermost layer: each request is one span, under the trace that its headers name, and one measure. Sees names and
//! statuses, never what is asked or answered.

use std::pin::pin;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

use crate::telemetry::{InFlight, Span, measure};

/// Given by the Functions host to each request.
const INVOCATION_ID: &str = "x-azure-functions-invocationid";

pub(super) async fn observe(State(in_flight): State<InFlight>, mut request: Request, next: Next) -> Response {
    let _asked = in_flight.asked();
    let started = Instant::now();
    let (method, route) = (method(request.method()), route(&request));
    let span = Span::of_request(format!("{method} {route}"), request.headers());
    if span.is_seen() {
        span.set("http.request.method", method);
        span.set("http.route", route);
        span.set("url.scheme", "http");
        span.set("url.path", route);
        let invocation = request.headers().get(INVOCATION_ID).map(HeaderValue::to_str);
        if let Some(Ok(invocation)) = invocation {
            span.set("faas.invocation_id", invocation.chars().take(64).collect::<String>());
        }
        request.extensions_mut().insert(span.within());
    }
    let response = span.around(pin!(next.run(request))).await;
    let status = response.status();
    span.set("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.fail(status.as_str().to_owned());
    }
    measure::http(method, route, status.as_u16(), started.elapsed());
    response
}

/// Methods that are none of HTTP's own are one (semantic conventions, HTTP).
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        _ => "_OTHER",
    }
}

/// The route, so that there are only so many: what is not routed is one.
fn route(request: &Request) -> &'static str {
    match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some(super::MCP_PATH) => super::MCP_PATH,
        Some("/") => "/",
        Some("/healthz") => "/healthz",
        Some("/readyz") => "/readyz",
        Some(path) if path.starts_with(super::auth::METADATA_PATH) => super::auth::METADATA_PATH,
        _ => "_OTHER",
    }
}
