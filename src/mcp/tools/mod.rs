//! The tools, one file each. Here: how a tool is described, what a call runs through (arguments, caller, deadline,
//! progress, log) and how its outcome becomes a result.

mod execute_query;
mod find_similar;
mod get_table_schemas;
mod get_utc_date;
mod semantic_search;

#[cfg(feature = "fuzzing")]
pub(super) use execute_query::query_result;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rmcp::RoleServer;
use rmcp::handler::server::router::tool::{ToolRoute, ToolRouter};
use rmcp::handler::server::tool::{ToolCallContext, schema_for_input, schema_for_output};
use rmcp::model::{CallToolResult, JsonObject, ProgressNotificationParam, Tool, ToolAnnotations};
use rmcp::service::RequestContext;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::audit::Audit;
use super::error::ToolError;
use super::{McpServer, Searching, caller, png, status, written};
use crate::db::Rows;
use crate::domain::{Profile, ToolProfile};
use crate::identity::Caller;

/// How often a call that takes long says so, to a client that asked.
const PROGRESS: Duration = Duration::from_secs(5);

/// What a tool does. Borrowing the call lets it be dropped, and with it the query, when the client goes away.
type Run<I, O> = for<'a> fn(&'a Call<'a>, I) -> BoxFuture<'a, Result<O, ToolError>>;

/// What a tool answers.
pub(super) trait Structured: Serialize {
    /// Its rows, which are JSON already, if it has any.
    fn rows(&self) -> Option<&Rows> {
        None
    }
}

/// What came of a call that did not fail.
pub(super) struct Answered {
    result: CallToolResult,
    pub(super) rows: usize,
    /// Of its JSON.
    pub(super) bytes: usize,
}

/// The JSON of an answer. Rows are its last member and are put in as they are.
pub(super) fn json_of(output: &impl Structured) -> Result<String, serde_json::Error> {
    let mut json = serde_json::to_string(output)?;
    if let Some(rows) = output.rows() {
        json.truncate(json.len().saturating_sub("null}".len()));
        json.reserve(rows.json().len() + "[]}".len());
        json.push('[');
        json.push_str(rows.json());
        json.push_str("]}");
    }
    Ok(json)
}

/// Keeps the place of rows, for [`json_of`].
pub(super) fn keep_place<S: Serializer>(_: &Rows, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_unit()
}

/// The schema of rows.
pub(super) fn rows_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "array" } })
}

/// A call of a tool.
struct Call<'a> {
    server: &'a McpServer,
    context: &'a RequestContext<RoleServer>,
    audit: &'a Audit,
}

impl Call<'_> {
    /// Who asks. A tool that reads data asks this first.
    fn caller(&self) -> Result<&Caller, ToolError> {
        Ok(caller(self.context)?)
    }

    /// Where to search, if that is set up.
    fn searching(&self) -> Result<&Searching, ToolError> {
        let missing = "Search is not set up on this server: look for names and descriptions with SQL.";
        self.server.0.searching.as_ref().ok_or(ToolError::NotSetUp(missing))
    }
}

/// The routes of all tools, and those that are listed, in order: search only where it is set up.
pub(super) fn all(profile: &Profile, searching: Option<&Searching>) -> (ToolRouter<McpServer>, Vec<Tool>) {
    let tools = &profile.tools;
    let with_search = searching.is_some();
    let routes = [
        (true, get_table_schemas::route(&tools.get_table_schemas)),
        (true, execute_query::route(&tools.execute_query)),
        (with_search, semantic_search::route(&tools.semantic_search, searching)),
        (with_search, find_similar::route(&tools.find_similar, searching)),
        (true, get_utc_date::route(&tools.get_utc_date)),
    ];
    let list = routes.iter().filter(|(listed, _)| *listed).map(|(_, route)| route.attr.clone()).collect();
    let mut router = ToolRouter::new();
    for (_, route) in routes {
        router.add_route(route);
    }
    (router, list)
}

/// A tool from its profile, its input and output types, and what it does.
fn route<I, O>(profile: &ToolProfile, run: Run<I, O>) -> ToolRoute<McpServer>
where
    I: DeserializeOwned + JsonSchema + Send + 'static,
    O: Structured + JsonSchema + 'static,
{
    route_with(profile, schema_for_input::<I>().map(compact).unwrap_or_default(), run)
}

/// A tool whose input schema is known only when the program runs.
fn route_with<I, O>(profile: &ToolProfile, input: JsonObject, run: Run<I, O>) -> ToolRoute<McpServer>
where
    I: DeserializeOwned + Send + 'static,
    O: Structured + JsonSchema + 'static,
{
    let tool = Tool::new(profile.name.clone(), profile.description.clone(), input)
        .with_title(&profile.title)
        .with_icons(vec![png(&profile.icon)])
        .with_raw_output_schema(compact(schema_for_output::<O>()).into())
        .with_annotations(ToolAnnotations::new().read_only(true).destructive(false).idempotent(true).open_world(false));
    ToolRoute::new_dyn(tool, move |context: ToolCallContext<'_, McpServer>| {
        async move {
            let name = context.name.to_string();
            let started = Instant::now();
            let audit = Audit::default();
            let outcome = answer(&context, &audit, run).await;
            audit.write(&name, caller(&context.request_context).ok(), started.elapsed(), &outcome);
            let result = outcome.map(|answered| answered.result).unwrap_or_else(|error| {
                error.log(&name);
                if let Some(challenge) = error.challenge() {
                    status::say(&context.request_context, challenge);
                }
                error.into_result()
            });
            Ok(result.into())
        }
        .boxed()
    })
}

async fn answer<I, O>(
    context: &ToolCallContext<'_, McpServer>,
    audit: &Audit,
    run: Run<I, O>,
) -> Result<Answered, ToolError>
where
    I: DeserializeOwned,
    O: Structured,
{
    let arguments = context.arguments.clone().unwrap_or_default();
    let input = serde_json::from_value(arguments.into()).map_err(ToolError::Arguments)?;
    let call = Call { server: context.service, context: &context.request_context, audit };
    let deadline = context.service.0.limits.call;
    let streamed = AtomicBool::new(false);
    let output = tokio::select! {
        output = tokio::time::timeout(deadline, run(&call, input)) => {
            output.unwrap_or(Err(ToolError::Deadline(deadline.as_secs())))?
        }
        never = report_progress(call.context, &streamed) => match never {},
        () = call.context.ct.cancelled() => return Err(ToolError::Cancelled),
    };
    let json = json_of(&output).map_err(ToolError::Result)?;
    let (rows, bytes) = (output.rows().map_or(0, Rows::len), json.len());
    Ok(Answered { result: written::result(call.context, json, streamed.into_inner())?, rows, bytes })
}

/// Tells a client that gave a progress token that its call is still running, now and then, for ever. `streamed`: set once
/// it was told.
async fn report_progress(context: &RequestContext<RoleServer>, streamed: &AtomicBool) -> std::convert::Infallible {
    let Some(token) = context.meta.get_progress_token() else {
        return std::future::pending().await;
    };
    let mut seconds = 0;
    loop {
        tokio::time::sleep(PROGRESS).await;
        seconds += PROGRESS.as_secs();
        let message = format!("still running after {seconds} seconds");
        let progress = ProgressNotificationParam::new(token.clone(), seconds as f64).with_message(message);
        streamed.store(true, Ordering::Relaxed);
        // A client that is not there any more cancels the call by itself.
        let _ = context.peer.notify_progress(progress).await;
    }
}

/// A schema without what only its generator needs: every byte of it is read by every model.
fn compact(schema: impl AsRef<JsonObject>) -> JsonObject {
    let mut schema = schema.as_ref().clone();
    schema.remove("$schema");
    schema.values_mut().for_each(compact_value);
    schema
}

fn compact_value(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, value| !(key == "default" && value.is_null() || key == "format" && value.is_string()));
            object.values_mut().for_each(compact_value);
        }
        Value::Array(elements) => elements.iter_mut().for_each(compact_value),
        _ => {}
    }
}
