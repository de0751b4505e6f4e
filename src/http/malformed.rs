//! Requests that are no MCP: each is answered by a JSON-RPC error (JSON-RPC 2.0 section 5.1) with a sentence of ours,
//! where rmcp says it in plain text and calls a body that can not be read an unsupported media type.

use axum::Json;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const INTERNAL_ERROR: i32 = -32603;

pub(super) async fn answer_as_json_rpc(request: Request, next: Next) -> Response {
    // Of two, one might be checked and the other believed (RFC 9112 section 3.2, RFC 6454 section 7.3).
    if let Some(twice) = [HOST, ORIGIN].into_iter().find(|name| request.headers().get_all(name).iter().count() > 1) {
        return refused(StatusCode::BAD_REQUEST, &format!("The header {twice} stands there more than once."));
    }
    let is_json = media_type(request.headers()) == "application/json";
    let response = next.run(request).await;
    let status = response.status();
    let told = media_type(response.headers()) == "application/json";
    if told || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    if is_json && status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        return error(StatusCode::BAD_REQUEST, PARSE_ERROR, "The body is no JSON-RPC message.");
    }
    // Its headers stay: a 405 has to say what is allowed.
    let (mut parts, _) = response.into_parts();
    let (error, body) = refused(status, sentence(status)).into_parts();
    parts.headers.extend(error.headers);
    Response::from_parts(parts, body)
}

/// An answer that says why there is no other.
pub(super) fn refused(status: StatusCode, sentence: &str) -> Response {
    error(status, if status.is_server_error() { INTERNAL_ERROR } else { INVALID_REQUEST }, sentence)
}

fn error(status: StatusCode, code: i32, sentence: &str) -> Response {
    let error = json!({ "code": code, "message": sentence });
    (status, Json(json!({ "jsonrpc": "2.0", "id": null, "error": error }))).into_response()
}

fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).map(HeaderValue::to_str).and_then(Result::ok).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn sentence(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "Host or MCP-Protocol-Version is missing, or is nothing that this server knows.",
        StatusCode::FORBIDDEN => {
            "This server does not answer to that Host or Origin; its operator allows them in ROWGATE_ALLOWED_HOSTS and \
             ROWGATE_ALLOWED_ORIGINS."
        }
        StatusCode::METHOD_NOT_ALLOWED => "MCP is spoken by POST here.",
        StatusCode::NOT_ACCEPTABLE => "Accept has to name application/json and text/event-stream.",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "Content-Type has to be application/json.",
        status if status.is_server_error() => {
            "Something went wrong on the server; its operator has to look at the log."
        }
        _ => "The request is none that this server answers.",
    }
}
