//! A result that is written once. rmcp takes what a tool answers as a tree of values, and writes it twice: as the text
//! that every client reads, and as structured content. Here it is JSON already, so rmcp is handed a mark in its place,
//! and the JSON takes the mark's place in the response. Knows nothing of what the JSON says.

use std::sync::{Arc, OnceLock};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use rmcp::RoleServer;
use rmcp::model::CallToolResult;
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::StreamableHttpService;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use serde_json::{Value, json};

use super::McpServer;

/// The mark as the text of a result. What a client sent can not look like it: within a string the quotes are escaped.
const AS_TEXT: &str = r#""text":"{\"written\":true}""#;

/// The mark as structured content.
const AS_STRUCTURED: &str = r#""structuredContent":{"written":true}"#;

/// The JSON of a request's result, beside it in its extensions.
#[derive(Clone, Default)]
struct Written(Arc<OnceLock<String>>);

/// A result that is `json`. Where the response is a stream, since the client was told of progress before, rmcp writes
/// it.
pub(super) fn result(context: &RequestContext<RoleServer>, json: String, streamed: bool) -> CallToolResult {
    let written = context.extensions.get::<Parts>().and_then(|parts| parts.extensions.get::<Written>());
    match written {
        Some(written) if !streamed && written.0.set(json.clone()).is_ok() => marked(),
        _ => CallToolResult::structured(serde_json::from_str(&json).unwrap_or(Value::String(json))),
    }
}

/// What rmcp is handed: an object, as older clients are sent no other structured content. It makes the text of it.
pub(super) fn marked() -> CallToolResult {
    CallToolResult::structured(json!({ "written": true }))
}

/// Has rmcp answer a request, and puts the JSON of its result, if it has one, into the response.
pub async fn respond(mcp: &StreamableHttpService<McpServer, NeverSessionManager>, mut request: Request) -> Response {
    let written = Written::default();
    request.extensions_mut().insert(written.clone());
    let response = mcp.handle(request).await;
    let Some(json) = written.0.get() else { return response.into_response() };
    let (parts, body) = response.into_parts();
    // All of it is there: what rmcp writes is no stream.
    let body = to_bytes(Body::new(body), usize::MAX).await.unwrap_or_default();
    match std::str::from_utf8(&body).ok().and_then(|message| fill(message, json)) {
        Some(message) => Response::from_parts(parts, Body::from(message)),
        None => {
            tracing::error!("the response has no place for the result");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A message with a result in the place of the marks.
pub(super) fn fill(message: &str, json: &str) -> Option<String> {
    let (head, rest) = message.split_once(AS_TEXT)?;
    let (between, tail) = rest.split_once(AS_STRUCTURED)?;
    let mut filled = String::with_capacity(message.len() + 2 * json.len() + json.len() / 4);
    filled.push_str(head);
    filled.push_str(r#""text":""#);
    escape(json, &mut filled);
    filled.push('"');
    filled.push_str(between);
    filled.push_str(r#""structuredContent":"#);
    filled.push_str(json);
    filled.push_str(tail);
    Some(filled)
}

/// JSON as it stands in a JSON string. It has no control characters, so only two have to be escaped.
fn escape(json: &str, into: &mut String) {
    let mut rest = json;
    let odd = |byte: u8| byte == b'"' || byte == b'\\';
    while let Some(at) = rest.bytes().position(odd) {
        let (plain, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        into.push_str(plain);
        into.push('\\');
        let (odd, after) = after.split_at_checked(1).unwrap_or((after, ""));
        into.push_str(odd);
        rest = after;
    }
    into.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_what_rmcp_would_have_written() {
        let answer = json!({ "rows": [[1, "a \"quoted\" \\ back\nslash", null], ["é", 2.5]], "row_count": 2 });
        let message = |id: &str, result: CallToolResult| {
            json!({ "jsonrpc": "2.0", "id": id, "result": serde_json::to_value(result).unwrap() }).to_string()
        };
        for id in ["1", AS_TEXT, AS_STRUCTURED] {
            let marked = message(id, marked());
            let filled = fill(&marked, &answer.to_string()).unwrap();
            assert_eq!(filled, message(id, CallToolResult::structured(answer.clone())));
        }
        assert_eq!(fill("{}", "{}"), None);
    }
}
