//! Finds rows like one, from stored vectors. Listed only where search is set up.

use futures_util::FutureExt;
use rmcp::handler::server::router::tool::ToolRoute;
use rmcp::model::JsonObject;

use super::{Call, route_with};
use crate::domain::ToolProfile;
use crate::mcp::error::ToolError;
use crate::mcp::search::{Arguments, Output, input_schema, like};
use crate::mcp::{McpServer, Searching};

pub(super) fn route(profile: &ToolProfile, searching: Option<&Searching>) -> ToolRoute<McpServer> {
    let input = searching.map(|searching| input_schema(searching, &searching.source.row, "Its full name or its code."));
    route_with(profile, input.unwrap_or_default(), |call, input| run(call, input).boxed())
}

async fn run(call: &Call<'_>, input: JsonObject) -> Result<Output, ToolError> {
    let caller = call.caller()?;
    let searching = call.searching()?;
    let arguments = Arguments::read(input, &searching.source.row, searching)?;
    like(call.server, caller, searching, &arguments).await
}
