//! Describes tables, as compact text.

use futures_util::FutureExt;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Call, Structured, route as tool_route};
use crate::db::Catalog;
use crate::domain::ToolProfile;
use crate::mcp::error::ToolError;
use crate::mcp::{McpServer, schema_text};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// Qualified names, such as "retail.orders"; an empty list describes all tables.
    table_names: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    /// Close to DDL; `->` is a many-to-one relationship.
    schemas: String,
}

impl Structured for Output {}

pub(super) fn route(profile: &ToolProfile) -> ToolRoute<McpServer> {
    tool_route(profile, |call, input| run(call, input).boxed())
}

async fn run(call: &Call<'_>, Input { table_names }: Input) -> Result<Output, ToolError> {
    let caller = call.caller()?;
    let profile = &call.server.0.profile;
    let wanted = |catalog: &Catalog| {
        if table_names.is_empty() {
            catalog.tables().iter().map(|table| table.name.clone()).collect()
        } else {
            table_names.clone()
        }
    };
    let described = call.server.0.db.describe(caller, &profile.value_hints, &wanted).await?;
    let catalog = &described.catalog;
    let names = wanted(catalog);

    let unknown: Vec<_> = names.iter().filter(|name| catalog.find(name).is_none()).map(|n| format!("{n:?}")).collect();
    if !unknown.is_empty() {
        let valid: Vec<_> = catalog.tables().iter().map(|table| table.name.as_str()).collect();
        return Err(ToolError::UnknownTables(format!(
            "There is no table {}. The tables are: {}.",
            unknown.join(", "),
            valid.join(", ")
        )));
    }
    let mut tables = Vec::new();
    for table in names.iter().filter_map(|name| catalog.find(name)) {
        if tables.iter().all(|other: &&crate::db::Table| other.name != table.name) {
            tables.push(table);
        }
    }
    Ok(Output { schemas: schema_text::write(&tables, &described.values, profile) })
}
