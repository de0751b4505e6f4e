//! Tells the time. Needs no caller and no database.

use chrono::{SecondsFormat, Utc};
use futures_util::FutureExt;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Call, Structured, route as tool_route};
use crate::domain::ToolProfile;
use crate::mcp::McpServer;
use crate::mcp::error::ToolError;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {}

#[derive(Serialize, JsonSchema)]
struct Output {
    /// RFC 3339, in UTC.
    utc: String,
}

impl Structured for Output {}

pub(super) fn route(profile: &ToolProfile) -> ToolRoute<McpServer> {
    tool_route(profile, |call, input| run(call, input).boxed())
}

async fn run(_: &Call<'_>, _: Input) -> Result<Output, ToolError> {
    Ok(Output { utc: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true) })
}
