//! Tables as resources, `schema://<schema>/<table>`: the same text as the schema tool's, for the same caller.

use rmcp::RoleServer;
use rmcp::model::{
    CompleteRequestParams, CompleteResult, CompletionInfo, ErrorData, ListResourceTemplatesResult, ListResourcesResult,
    ReadResourceResult, Reference, Resource, ResourceContents, ResourceTemplate,
};
use rmcp::service::RequestContext;
use serde_json::json;

use super::error::ToolError;
use super::{McpServer, caller, schema_text, status};
use crate::db::{Catalog, Described};

const TEMPLATE: &str = "schema://{schema}/{table}";

pub(super) fn templates() -> ListResourceTemplatesResult {
    let template = ResourceTemplate::new(TEMPLATE, "table schema")
        .with_title("Table schema")
        .with_description("Columns, keys, relationships and known values of a table")
        .with_mime_type("text/plain");
    ListResourceTemplatesResult::with_all_items(vec![template])
}

pub(super) async fn list(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
) -> Result<ListResourcesResult, ErrorData> {
    let described = describe(server, context, |_| Vec::new()).await?;
    let resources = described.catalog.tables().iter().map(|table| {
        let resource = Resource::new(uri(&table.name), &table.name).with_mime_type("text/plain");
        match &table.comment {
            Some(comment) => resource.with_description(comment),
            None => resource,
        }
    });
    Ok(ListResourcesResult::with_all_items(resources.collect()))
}

pub(super) async fn read(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
    wanted: &str,
) -> Result<ReadResourceResult, ErrorData> {
    let name = wanted.strip_prefix("schema://").and_then(|path| path.split_once('/'));
    let name = name.map(|(schema, table)| format!("{schema}.{table}")).ok_or_else(|| not_found(wanted))?;
    let described = describe(server, context, |_| vec![name.clone()]).await?;
    let table = described.catalog.tables().iter().find(|table| table.name == name).ok_or_else(|| not_found(wanted))?;
    let text = schema_text::write(&[table], &described.values, &server.0.profile);
    Ok(ReadResourceResult::new(vec![ResourceContents::text(text, wanted)]))
}

/// Completes the schema or the table of the template; a table, of the schema chosen before it.
pub(super) async fn complete(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
    request: &CompleteRequestParams,
) -> Result<CompleteResult, ErrorData> {
    let of_template = matches!(&request.r#ref, Reference::Resource(resource) if resource.uri == TEMPLATE);
    if !of_template {
        return Ok(CompleteResult::default());
    }
    let described = describe(server, context, |_| Vec::new()).await?;
    let chosen = request.context.as_ref().and_then(|context| context.get_argument("schema"));
    let names = described.catalog.tables().iter().filter_map(|table| table.name.split_once('.'));
    let mut values: Vec<String> = match request.argument.name.as_str() {
        "schema" => names.map(|(schema, _)| schema.to_owned()).collect(),
        "table" => {
            names.filter(|(schema, _)| chosen.is_none_or(|c| c == schema)).map(|(_, table)| table.to_owned()).collect()
        }
        _ => Vec::new(),
    };
    values.retain(|value| value.starts_with(&request.argument.value));
    values.dedup();
    let total = values.len();
    values.truncate(CompletionInfo::MAX_VALUES);
    let has_more = total > values.len();
    let completion = CompletionInfo::with_pagination(values, u32::try_from(total).ok(), has_more);
    completion.map(CompleteResult::new).map_err(|why| ErrorData::internal_error(why, None))
}

async fn describe(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
    wanted: impl Fn(&Catalog) -> Vec<String> + Send + Sync,
) -> Result<Described, ErrorData> {
    let caller = caller(context).map_err(|refusal| ErrorData::invalid_request(refusal.to_string(), None))?;
    let described = server.0.db.describe(caller, &server.0.profile.value_hints, wanted);
    let described = tokio::time::timeout(server.0.limits.call, described).await;
    described.unwrap_or(Err(crate::db::DbError::TimedOut)).map_err(|error| {
        let error = ToolError::from(error);
        error.log("resources");
        if let Some(challenge) = error.challenge() {
            status::say(context, challenge);
        }
        ErrorData::internal_error(error.tell(), None)
    })
}

fn uri(table: &str) -> String {
    format!("schema://{}", table.replacen('.', "/", 1))
}

fn not_found(uri: &str) -> ErrorData {
    let message = format!("There is no resource {uri:?}: resources/list names those there are.");
    ErrorData::resource_not_found(message, Some(json!({ "uri": uri })))
}
