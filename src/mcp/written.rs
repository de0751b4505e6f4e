//! A result that is written once. rmcp takes what a tool answers as a tree of values, and writes it twice: as the text
//! that every client reads, and as structured content. Here it is JSON already, so rmcp is handed a mark in its place,
//! and the JSON takes the mark's place in the response. Knows nothing of what the JSON says.

use std::sync::{Arc, OnceLock};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use memchr::{memchr2_iter, memmem};
use rmcp::RoleServer;
use rmcp::model::CallToolResult;
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::StreamableHttpService;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use serde_json::json;

use super::McpServer;
use super::error::ToolError;

/// The mark as the text of a result. What a client sent can not look like it: within a string the quotes are escaped.
const AS_TEXT: &str = r#""text":"{\"written\":true}""#;

/// The mark as structured content.
const AS_STRUCTURED: &str = r#""structuredContent":{"written":true}"#;

/// The JSON of a request's result, beside it in its extensions.
#[derive(Clone, Default)]
struct Written(Arc<OnceLock<String>>);

/// A result that is `json`. Where the response is a stream, since the client was told of progress before, rmcp writes
/// it.
pub(super) fn result(
    context: &RequestContext<RoleServer>,
    json: String,
    streamed: bool,
) -> Result<CallToolResult, ToolError> {
    let written = context.extensions.get::<Parts>().and_then(|parts| parts.extensions.get::<Written>());
    if let Some(written) = written.filter(|_| !streamed) {
        // A request has one result, so nothing is there yet.
        let _ = written.0.set(json);
        return Ok(marked());
    }
    serde_json::from_str(&json).map(CallToolResult::structured).map_err(ToolError::Result)
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
    match fill(&body, json) {
        Some(message) => Response::from_parts(parts, Body::from(message)),
        None => {
            tracing::error!("the response has no place for the result");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A message with a result in the place of the marks.
pub(super) fn fill(message: &[u8], json: &str) -> Option<Vec<u8>> {
    let (head, rest) = split(message, AS_TEXT)?;
    let (between, tail) = split(rest, AS_STRUCTURED)?;
    let mut filled = Vec::with_capacity(message.len() + 2 * json.len() + json.len() / 4);
    filled.extend_from_slice(head);
    filled.extend_from_slice(br#""text":""#);
    escape(json, &mut filled);
    filled.push(b'"');
    filled.extend_from_slice(between);
    filled.extend_from_slice(br#""structuredContent":"#);
    filled.extend_from_slice(json.as_bytes());
    filled.extend_from_slice(tail);
    Some(filled)
}

/// What is before a mark, and what is after it.
fn split<'a>(message: &'a [u8], mark: &str) -> Option<(&'a [u8], &'a [u8])> {
    let at = memmem::find(message, mark.as_bytes())?;
    Some((message.get(..at)?, message.get(at + mark.len()..)?))
}

/// JSON as it stands in a JSON string. It has no control characters, so only two have to be escaped.
fn escape(json: &str, into: &mut Vec<u8>) {
    let json = json.as_bytes();
    let mut from = 0;
    for at in memchr2_iter(b'"', b'\\', json) {
        into.extend_from_slice(json.get(from..at).unwrap_or_default());
        into.push(b'\\');
        from = at;
    }
    into.extend_from_slice(json.get(from..).unwrap_or_default());
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
            let filled = fill(marked.as_bytes(), &answer.to_string()).unwrap();
            let written = message(id, CallToolResult::structured(answer.clone()));
            assert_eq!(String::from_utf8(filled).unwrap(), written);
        }
        assert_eq!(fill(b"{}", "{}"), None);
    }
}
