//! Runs the caller's SQL. What it may see and do is decided below this floor.

use futures_util::FutureExt;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(feature = "fuzzing")]
use super::json_of;
use super::{Call, Structured, keep_place, route as tool_route, rows_schema};
use crate::db::{Answer, DbError, Rows, Truncation};
use crate::domain::{RowLimit, ToolProfile};
use crate::identity::Caller;
use crate::mcp::McpServer;
use crate::mcp::error::ToolError;
#[cfg(feature = "fuzzing")]
use crate::mcp::written;
use crate::telemetry::loggable_sql;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// One PostgreSQL query.
    postgresql_query: String,
    /// Most rows to answer, 1 to 1000; 100 unless given.
    #[serde(default)]
    #[schemars(with = "i64", range(min = 1, max = 1000))]
    max_rows: Option<i64>,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    columns: Vec<OutputColumn>,
    row_count: usize,
    /// Whether the query has more rows than these.
    truncated: bool,
    /// What to do when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    note: Option<String>,
    /// One array a row, values in the order of the columns.
    #[serde(serialize_with = "keep_place")]
    #[schemars(schema_with = "rows_schema")]
    rows: Rows,
}

#[derive(Serialize, JsonSchema)]
struct OutputColumn {
    name: String,
    r#type: String,
}

impl Structured for Output {
    fn rows(&self) -> Option<&Rows> {
        Some(&self.rows)
    }
}

pub(super) fn route(profile: &ToolProfile) -> ToolRoute<McpServer> {
    tool_route(profile, |call, input| run(call, input).boxed())
}

async fn run(call: &Call<'_>, input: Input) -> Result<Output, ToolError> {
    let caller = call.caller()?;
    let shared = &call.server.0;
    let limit = input.max_rows.map_or(Ok(shared.limits.default_rows), RowLimit::parse)?;
    let sql = &input.postgresql_query;
    let answered = shared.db.query(caller, sql, limit).await;
    call.audit.statement(loggable_sql(sql, shared.log_sql), shared.db.mentioned(sql));
    match answered {
        Ok(answer) => Ok(Output::new(answer, limit)),
        // Boxed, since every call would carry the room for it.
        Err(error) => Err(Box::pin(explain(call.server, caller, error, sql)).await),
    }
}

/// What a client is sent, for measurements.
#[cfg(feature = "fuzzing")]
pub(in crate::mcp) fn query_result(answer: Answer) -> serde_json::Result<Vec<u8>> {
    let json = json_of(&Output::new(answer, RowLimit::DEFAULT))?;
    let message = serde_json::to_vec(&written::marked())?;
    Ok(written::fill(&message, &json).unwrap_or_default())
}

/// Adds near names to an unknown one, if the catalog can be had.
async fn explain(server: &McpServer, caller: &Caller, error: DbError, sql: &str) -> ToolError {
    let unknown_name = match &error {
        DbError::Statement(mistake) => mistake.hint.is_none() && matches!(mistake.sqlstate.as_str(), "42P01" | "42703"),
        _ => false,
    };
    let described = if unknown_name { server.0.db.describe(caller, &[], |_| Vec::new()).await.ok() } else { None };
    ToolError::of_statement(error, sql, described.as_ref().map(|described| &*described.catalog))
}

impl Output {
    fn new(answer: Answer, limit: RowLimit) -> Self {
        let note = answer.truncated.map(|why| match why {
            Truncation::Rows => format!(
                "There are more than these {} rows: aggregate, filter, or page with ORDER BY, LIMIT and OFFSET.",
                limit.rows()
            ),
            Truncation::Bytes if answer.rows.is_empty() => {
                "The first row is too large to answer: select fewer columns, or a part of long values with left()."
                    .to_owned()
            }
            Truncation::Bytes => {
                "The answer was cut because it is too large: select fewer columns or rows, or aggregate.".to_owned()
            }
        });
        Self {
            columns: answer.columns.into_iter().map(|c| OutputColumn { name: c.name, r#type: c.type_name }).collect(),
            row_count: answer.rows.len(),
            rows: answer.rows,
            truncated: note.is_some(),
            note,
        }
    }
}
