//! What a client is told when a call does not work: one of our own sentences, with what to do. The chain of causes goes
//! to the log, once, and only where it is ours to mend. PostgreSQL's words are passed on for the caller's own SQL only.

use std::time::Duration;

use rmcp::model::{CallToolResult, ContentBlock};

use crate::db::{Catalog, DbError, SqlMistake};
use crate::domain::LimitError;
use crate::identity::{Challenge, Refusal};

/// When to try again after a moment's crowd, and after the database was away.
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(3);

const NOT_SUPPORTED: &str = "0A000";
const SYNTAX_ERROR: &str = "42601";
const UNDEFINED_COLUMN: &str = "42703";
const UNDEFINED_TABLE: &str = "42P01";

/// A tool call that did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum ToolError {
    /// Nobody asks.
    #[error(transparent)]
    NoCaller(#[from] Refusal),
    /// The arguments are not of the tool's shape.
    #[error("the arguments do not fit")]
    Arguments(#[source] serde_json::Error),
    /// A number that is no limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// Tables that there are not. Holds the whole sentence.
    #[error("{0}")]
    UnknownTables(String),
    /// The caller's statement is wrong. Holds the whole text, with the place.
    #[error("{0}")]
    Sql(String),
    /// The caller's statement may not run. Holds the whole text, with the place.
    #[error("{0}")]
    Refused(String),
    /// The call took too long.
    #[error("the call ran out of time")]
    Deadline(u64),
    /// The client went away.
    #[error("the client went away")]
    Cancelled,
    /// A search that can not be made. Holds the whole sentence.
    #[error("{0}")]
    Search(String),
    /// Not part of this server.
    #[error("{0}")]
    NotSetUp(&'static str),
    /// The database.
    #[error("the database did not answer")]
    Db(#[source] DbError),
    /// The result is no JSON.
    #[error("the result can not be written")]
    Result(#[source] serde_json::Error),
}

impl From<DbError> for ToolError {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl ToolError {
    /// An error of the caller's statement, with its place in the text that the caller sent, and names that are near
    /// an unknown one.
    pub(super) fn of_statement(error: DbError, sql: &str, catalog: Option<&Catalog>) -> Self {
        match error {
            DbError::Refused(refused) => Self::Refused(format!("{refused}{}", place(sql, refused.position()))),
            DbError::Statement(mistake) => Self::Sql(explain(&mistake, sql, catalog)),
            other => Self::Db(other),
        }
    }

    /// What the client reads.
    pub(super) fn tell(&self) -> String {
        match self {
            Self::Arguments(why) => format!("The arguments do not fit the tool's schema: {why}."),
            Self::Deadline(seconds) => {
                format!("The call was stopped after {seconds} seconds. Ask for less: filter more, or aggregate.")
            }
            Self::Db(error) => match error {
                DbError::UnknownCaller => {
                    "Unknown caller: nobody is registered under this id, so there is nothing to see. \
                     Ask the operator of this server to register it."
                }
                DbError::TimedOut => {
                    "The statement ran for too long and was stopped. Filter more, aggregate, or join fewer rows."
                }
                DbError::Busy => {
                    "The server is busy: all connections to the database are in use. Try again in a moment."
                }
                DbError::Crowded => {
                    "You have too many calls at once: wait until some of them have ended, and then try again."
                }
                DbError::Unreachable(_)
                | DbError::Lost(_)
                | DbError::Silent(_)
                | DbError::Unavailable(_)
                | DbError::Expired(_) => "The database can not be reached right now. Try again in a few seconds.",
                DbError::Keys(_) => "The server can not get at its secrets right now. Try again in a few seconds.",
                DbError::Unsafe(_) => {
                    "The server refuses to show any data, because its database is not set up safely; its operator has \
                     to look at the log."
                }
                DbError::TokenRevoked => "The token was revoked, or this database never knew it: ask for a new one.",
                DbError::Claim(_) | DbError::UnknownKey(_) => {
                    "The server could not prove the caller to the database; its operator has to look at the log."
                }
                DbError::Refused(_) | DbError::Statement(_) | DbError::Internal(_) | DbError::Shape(_) => {
                    "Something went wrong on the server; its operator has to look at the log."
                }
            }
            .to_owned(),
            Self::Result(_) => "Something went wrong on the server; its operator has to look at the log.".to_owned(),
            Self::NoCaller(_)
            | Self::Limit(_)
            | Self::UnknownTables(_)
            | Self::Sql(_)
            | Self::Refused(_)
            | Self::Search(_)
            | Self::NotSetUp(_)
            | Self::Cancelled => self.to_string(),
        }
    }

    /// What HTTP says of it, where that is more than that the call was answered: a client, or what stands before this
    /// server, may try again by itself.
    pub(super) fn challenge(&self) -> Option<Challenge> {
        match self {
            Self::Db(DbError::Keys(unavailable)) => Some(Challenge::TryAgain(unavailable.retry_after)),
            Self::Db(DbError::Busy | DbError::Crowded) => Some(Challenge::TryAgain(SOON)),
            Self::Db(
                DbError::Unreachable(_)
                | DbError::Lost(_)
                | DbError::Silent(_)
                | DbError::Unavailable(_)
                | DbError::Expired(_),
            ) => Some(Challenge::TryAgain(LATER)),
            Self::Db(DbError::TokenRevoked) => Some(Challenge::InvalidToken),
            _ => None,
        }
    }

    /// What came of the call, in a word, for its record.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::NoCaller(_) => "no caller",
            Self::Arguments(_) | Self::Limit(_) | Self::UnknownTables(_) | Self::Search(_) | Self::NotSetUp(_) => {
                "arguments"
            }
            Self::Sql(_) => "statement",
            Self::Refused(_) => "refused",
            Self::Deadline(_) => "deadline",
            Self::Cancelled => "cancelled",
            Self::Result(_) => "internal",
            Self::Db(error) => match error {
                DbError::Unreachable(_) | DbError::Lost(_) | DbError::Silent(_) | DbError::Unavailable(_) => "database",
                DbError::Busy | DbError::Crowded => "busy",
                DbError::UnknownCaller => "unknown caller",
                DbError::TokenRevoked => "revoked",
                DbError::Keys(_) => "secrets",
                DbError::UnknownKey(_) | DbError::Claim(_) | DbError::Expired(_) => "claim",
                DbError::Unsafe(_) => "unsafe",
                DbError::Refused(_) | DbError::Statement(_) => "statement",
                DbError::TimedOut => "timed out",
                DbError::Internal(_) | DbError::Shape(_) => "internal",
            },
        }
    }

    /// Why the call was refused, if it was: nobody let it in, or it was not what may run.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::NoCaller(refusal) => Some(refusal.reason()),
            Self::Refused(_) => Some("statement"),
            Self::Db(DbError::UnknownCaller) => Some("unknown caller"),
            Self::Db(DbError::TokenRevoked) => Some("revoked token"),
            Self::Db(DbError::Busy) => Some("busy"),
            Self::Db(DbError::Crowded) => Some("crowded"),
            Self::Db(DbError::Unsafe(_)) => Some("unsafe database"),
            Self::Db(DbError::Claim(_) | DbError::UnknownKey(_) | DbError::Expired(_)) => Some("claim"),
            _ => None,
        }
    }

    /// Logs what is ours to mend; what the caller can mend is an ordinary outcome.
    pub(super) fn log(&self, tool: &str) {
        let error = self as &dyn std::error::Error;
        match self {
            Self::Db(
                DbError::UnknownCaller
                | DbError::TokenRevoked
                | DbError::TimedOut
                | DbError::Busy
                | DbError::Crowded
                | DbError::Keys(_),
            )
            | Self::Deadline(_) => {
                tracing::warn!(tool, error, "call failed");
            }
            Self::Db(_) | Self::Result(_) => tracing::error!(tool, error, "call failed"),
            // Its text may repeat the statement or, in PostgreSQL's words, a value of a row.
            _ => tracing::debug!(tool, outcome = self.outcome(), "call refused"),
        }
    }

    /// The tool's result.
    pub(super) fn into_result(self) -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text(self.tell())])
    }
}

fn explain(mistake: &SqlMistake, sql: &str, catalog: Option<&Catalog>) -> String {
    let length = sql.trim_end_matches([';', ' ', '\n', '\t', '\r']).chars().count();
    // A statement that breaks off goes wrong in the text that Rowgate puts after it, which is nobody's business.
    let broken_off = mistake.sqlstate == SYNTAX_ERROR && mistake.position.is_some_and(|at| at > length);
    let mut text = if mistake.sqlstate == NOT_SUPPORTED && mistake.message.contains("data-modifying") {
        format!(
            "Only queries can run here, and data can not be changed ({NOT_SUPPORTED}){}",
            place(sql, mistake.position)
        )
    } else if broken_off {
        format!("syntax error at the end of the statement ({SYNTAX_ERROR}){}", place(sql, Some(length)))
    } else {
        format!("{} ({}){}", mistake.message, mistake.sqlstate, place(sql, mistake.position))
    };
    if let Some(detail) = &mistake.detail {
        text += &format!("\nDetail: {detail}");
    }
    if let Some(hint) = &mistake.hint {
        text += &format!("\nHint: {hint}");
    }
    if let Some(near) = catalog.and_then(|catalog| near_names(mistake, sql, catalog)) {
        text += &format!("\nDid you mean {near}?");
    }
    text
}

/// Line and column of a position, the line, and a caret under the place. `position` is in characters from 0.
fn place(sql: &str, position: Option<usize>) -> String {
    let Some(position) = position.filter(|at| *at <= sql.chars().count()) else {
        return String::new();
    };
    let before: String = sql.chars().take(position).collect();
    let line = before.matches('\n').count();
    let column = before.chars().rev().take_while(|c| *c != '\n').count();
    let text = sql.lines().nth(line).unwrap_or_default();
    // A long line is shown around its place.
    let from = column.saturating_sub(60);
    let shown: String = text.chars().skip(from).take(120).map(|c| if c == '\t' { ' ' } else { c }).collect();
    format!("\nline {}, column {}:\n{shown}\n{}^", line + 1, column + 1, " ".repeat(column - from))
}

/// Names in the catalog that an unknown table's or column's name may have meant.
fn near_names(mistake: &SqlMistake, sql: &str, catalog: &Catalog) -> Option<String> {
    let quoted = mistake.message.split('"').nth(1);
    let unquoted = mistake.message.strip_prefix("column ").and_then(|rest| rest.split(' ').next());
    let wanted = quoted.or(unquoted)?.to_lowercase();
    let bare = wanted.rsplit('.').next().unwrap_or(&wanted);
    let tables = catalog.tables().iter();
    let sql = sql.to_lowercase();
    let mut near: Vec<(usize, String)> = match mistake.sqlstate.as_str() {
        UNDEFINED_TABLE => tables.map(|table| (distance(bare, bare_name(&table.name)), table.name.clone())).collect(),
        UNDEFINED_COLUMN => tables
            .filter(|table| sql.contains(bare_name(&table.name)))
            .flat_map(|table| table.columns.iter().map(move |column| (table, column)))
            .map(|(table, column)| {
                (distance(bare, &column.name), format!("{}.{}", bare_name(&table.name), column.name))
            })
            .collect(),
        _ => return None,
    };
    near.retain(|(distance, _)| *distance <= 1 + bare.len() / 3);
    near.sort();
    let names: Vec<_> = near.into_iter().take(3).map(|(_, name)| name).collect();
    (!names.is_empty()).then(|| names.join(" or "))
}

/// How many edits two names are apart; a part between underscores counts as a name, one edit further.
fn distance(wanted: &str, name: &str) -> usize {
    let whole = strsim::damerau_levenshtein(wanted, name);
    let parts = name.split('_').map(|part| strsim::damerau_levenshtein(wanted, part) + 1);
    parts.chain([whole]).min().unwrap_or(whole)
}

fn bare_name(table: &str) -> &str {
    table.split_once('.').map_or(table, |(_, bare)| bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_in_the_callers_own_text() {
        assert_eq!(place("select 1", None), "");
        assert_eq!(place("select\n  naïve, nam\nfrom t", Some(16)), "\nline 2, column 10:\n  naïve, nam\n         ^");
        let long = format!("select {} x", "a,".repeat(200));
        let shown = place(&long, Some(408));
        assert!(shown.lines().all(|line| line.chars().count() <= 121), "{shown}");
        assert_eq!(shown.lines().nth(2).unwrap().chars().nth(60), Some('x'));
        assert_eq!(place("x", Some(9)), "");
    }
}
