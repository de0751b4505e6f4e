//! Each request of MCP is one span and one measure, by method and tool, as the semantic conventions for MCP have them.

use std::pin::Pin;
use std::time::Instant;

use axum::http::request::Parts;
use rmcp::RoleServer;
use rmcp::model::ErrorData;
use rmcp::service::RequestContext;

use crate::telemetry::{Span, Within, measure};

/// What a method is asked of: a tool or a prompt that there is.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Nothing,
    Tool(&'a str),
    Prompt(&'a str),
}

/// Does what was asked, and tells of it. `failed`: whether what came of it is a failure all the same.
pub(super) async fn observed<T>(
    context: &RequestContext<RoleServer>,
    method: &'static str,
    target: Target<'_>,
    failed: fn(&T) -> bool,
    work: Pin<&mut impl Future<Output = Result<T, ErrorData>>>,
) -> Result<T, ErrorData> {
    let started = Instant::now();
    let (name, tool) = match target {
        Target::Nothing => (None, None),
        Target::Tool(tool) => (Some(tool), Some(tool)),
        Target::Prompt(prompt) => (Some(prompt), None),
    };
    let parts = context.extensions.get::<Parts>();
    let within = parts.and_then(|parts| parts.extensions.get::<Within>());
    let span = Span::of_message(
        || name.map_or_else(|| method.to_owned(), |name| format!("{method} {name}")),
        &context.meta.0.0,
        within,
    );
    if span.is_seen() {
        span.set("mcp.method.name", method);
        span.set("jsonrpc.request.id", context.id.to_string());
        if let Some(version) = context.protocol_version() {
            span.set("mcp.protocol.version", version.as_str().to_owned());
        }
        match target {
            Target::Tool(tool) => {
                span.set("gen_ai.operation.name", "execute_tool");
                span.set("gen_ai.tool.name", tool.to_owned());
            }
            Target::Prompt(prompt) => span.set("gen_ai.prompt.name", prompt.to_owned()),
            Target::Nothing => {}
        }
    }
    let outcome = span.around(work).await;
    let error = match &outcome {
        Ok(answer) if failed(answer) => Some("tool_error"),
        Ok(_) => None,
        Err(error) => {
            span.set("rpc.response.status_code", error.code.0.to_string());
            Some("rpc_error")
        }
    };
    if let Some(error) = error {
        span.fail(error);
    }
    measure::mcp(method, tool, error, started.elapsed());
    outcome
}

/// Nothing of what a method answers is a failure.
pub(super) fn never<T>(_: &T) -> bool {
    false
}
