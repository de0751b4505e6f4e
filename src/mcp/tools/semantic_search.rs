//! Finds rows by meaning. Not set up on a server without embeddings, and then not listed.

use futures_util::FutureExt;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Call, route as tool_route};
use crate::domain::ToolProfile;
use crate::mcp::McpServer;
use crate::mcp::error::ToolError;

#[derive(Deserialize, JsonSchema)]
struct Input {}

#[derive(Serialize, JsonSchema)]
struct Output {}

pub(super) fn route(profile: &ToolProfile) -> ToolRoute<McpServer> {
    tool_route(profile, |call, input| run(call, input).boxed())
}

async fn run(call: &Call<'_>, _: Input) -> Result<Output, ToolError> {
    call.caller()?;
    Err(ToolError::NotSetUp(
        "Semantic search is not set up on this server yet: search names and descriptions with SQL.",
    ))
}
