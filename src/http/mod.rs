//! HTTP: every route and every layer, in reading order. Proves the caller and hands the rest to MCP. Speaks no SQL.

mod auth;
mod body;
mod connections;
mod health;
mod landing;
mod listen;
mod malformed;
mod metrics;
mod observe;
mod socket;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware;
use axum::routing::get;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tower::{ServiceBuilder, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

pub use listen::{ListenError, Listener};
pub use metrics::serve_metrics;

use crate::config::{HttpSettings, IdentitySettings};
use crate::identity::Verifier;
use crate::mcp::{McpServer, respond};
use crate::telemetry::InFlight;
use auth::{Door, METADATA_PATH};

/// Where MCP is served.
pub const MCP_PATH: &str = "/mcp";

/// Names that a client on the same machine uses.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Time to read a request and write an answer, beyond what the call itself may take.
const TRANSFER: Duration = Duration::from_secs(15);

/// All that answers. `call`: the longest that a call may take; `in_flight`: who is told of each request.
pub fn router(
    settings: &HttpSettings,
    identity: &IdentitySettings,
    verifier: Verifier,
    server: McpServer,
    call: Duration,
    in_flight: InFlight,
) -> Router {
    let hosts = LOOPBACK.into_iter().map(str::to_owned).chain(settings.allowed_hosts.iter().cloned());
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(settings.body_bytes)
        .with_allowed_hosts(hosts)
        .with_allowed_origins(settings.allowed_origins.iter().cloned())
        .enforce_origin_validation();
    let for_each = server.clone();
    let mcp = Arc::new(StreamableHttpService::new(
        move || Ok(for_each.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    ));
    // One for all requests: a clone of it copies all that it is told here.
    let mcp = service_fn(move |request: Request| {
        let mcp = Arc::clone(&mcp);
        async move { Ok::<_, Infallible>(respond(&mcp, request).await) }
    });

    let door = Arc::new(Door::new(verifier, identity));
    let metadata = get(auth::metadata).with_state(Arc::clone(&door));

    // Built as one service each: a router boxes every layer it is given, and clones all of them for each request.
    let mcp = ServiceBuilder::new()
        .layer(middleware::from_fn_with_state(door, auth::prove_caller))
        .layer(middleware::from_fn_with_state(settings.body_bytes, body::read_whole))
        .layer(middleware::from_fn(malformed::answer_as_json_rpc))
        .service(mcp);
    let around_all = ServiceBuilder::new()
        .layer(middleware::from_fn_with_state(in_flight, observe::observe))
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, call + TRANSFER))
        .layer(header("x-content-type-options", "nosniff"));

    Router::new()
        .route_service(MCP_PATH, mcp)
        .route(METADATA_PATH, metadata.clone())
        .route(&format!("{METADATA_PATH}{MCP_PATH}"), metadata)
        .route("/", get(landing::landing))
        .route("/healthz", get(health::process))
        .route("/readyz", get(health::database).with_state(server))
        .fallback(landing::not_found)
        .layer(around_all)
}

fn header(name: &'static str, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(HeaderName::from_static(name), HeaderValue::from_static(value))
}
