//! The record of a call: who asked what of which tables, and what came of it. Never a value, a row or the text of a
//! statement.

use std::sync::OnceLock;
use std::time::Duration;

use super::error::ToolError;
use super::tools::Answered;
use crate::identity::Caller;
use crate::telemetry::{measure, start};

/// What a tool says of its call, beside its answer.
#[derive(Default)]
pub(super) struct Audit {
    statement: OnceLock<(String, Vec<String>)>,
}

impl Audit {
    /// The statement that ran, as the log may show it, and the tables that it names.
    pub(super) fn statement(&self, sql: String, tables: Vec<String>) {
        let _ = self.statement.set((sql, tables));
    }

    /// Writes the record.
    pub(super) fn write(
        &self,
        tool: &str,
        caller: Option<&Caller>,
        took: Duration,
        outcome: &Result<Answered, ToolError>,
    ) {
        let (sql, tables) = self.statement.get().map_or(("", String::new()), |(sql, tables)| (sql, tables.join(" ")));
        let answer = outcome.as_ref().ok();
        let word = outcome.as_ref().map_or_else(ToolError::outcome, |_| "ok");
        let (rows, bytes) = answer.map_or((0, 0), |answer| (answer.rows as u64, answer.bytes as u64));
        measure::call(tool, word, rows, bytes);
        if let Some(reason) = outcome.as_ref().err().and_then(ToolError::refusal) {
            measure::refused(reason);
        }
        if answer.is_some() {
            start::answered(took);
        }
        tracing::info!(
            tool,
            principal = caller.map_or("-", |caller| caller.principal().as_str()),
            token = caller.and_then(Caller::token).map_or("-", |token| token.as_str()),
            outcome = word,
            milliseconds = took.as_millis() as u64,
            rows,
            bytes,
            sql,
            tables,
            "call"
        );
    }
}
