//! Finds rows by meaning, by name or by code. Listed only where search is set up.

use futures_util::FutureExt;
use rmcp::handler::server::router::tool::ToolRoute;
use rmcp::model::JsonObject;

use super::{Call, route_with};
use crate::domain::ToolProfile;
use crate::mcp::error::ToolError;
use crate::mcp::search::{Arguments, Output, by_meaning, input_schema};
use crate::mcp::{McpServer, Searching};

const ARGUMENT: &str = "query_description";

pub(super) fn route(profile: &ToolProfile, searching: Option<&Searching>) -> ToolRoute<McpServer> {
    let about = "What it is for, in everyday words; or a name or code.";
    let input = searching.map(|searching| input_schema(searching, ARGUMENT, about)).unwrap_or_default();
    route_with(profile, input, |call, input| run(call, input).boxed())
}

async fn run(call: &Call<'_>, input: JsonObject) -> Result<Output, ToolError> {
    let caller = call.caller()?;
    let searching = call.searching()?;
    let arguments = Arguments::read(input, ARGUMENT, searching)?;
    by_meaning(call.server, caller, searching, &arguments).await
}
