//! A body that is no JSON-RPC message: answered as JSON-RPC 2.0 section 5.1 says, where rmcp says 415 Unsupported Media
//! Type in plain text, whatever the media type was.

use axum::Json;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

pub(super) async fn answer_as_json_rpc(request: Request, next: Next) -> Response {
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_json = media_type.split(';').next().is_some_and(|essence| essence.trim() == "application/json");
    let response = next.run(request).await;
    if !(is_json && response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE) {
        return response;
    }
    let error = json!({ "code": -32700, "message": "The body is no JSON-RPC message." });
    (StatusCode::BAD_REQUEST, Json(json!({ "jsonrpc": "2.0", "id": null, "error": error }))).into_response()
}
