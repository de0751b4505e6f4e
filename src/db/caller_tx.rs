//! The caller's transaction: whatever SQL arrives, it runs read only, as a role that can only read, for one proved
//! caller, in bounded time and bytes, and in one round trip. Everything that a call sends goes out in one flush:
//! the futures are polled together, in the order in which the server answers.

use std::borrow::Cow;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::{join_all, join4};
use futures_util::{FutureExt, StreamExt, pin_mut};
use serde_json::Value;
use tokio::join;
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, SimpleQueryMessage, SimpleQueryRow, SimpleQueryStream};

use super::DbError;
use super::connection::Connection;
use super::facts::ServerFacts;
use super::silence::Silence;
use super::statement::Statement;
use super::value::{Encoding, encoding, json_bytes};
use crate::domain::{ByteLimit, RowLimit};
use crate::identity::Claim;

/// The prepared statement that holds the caller's, from PREPARE to the end of the transaction.
const PREPARE: &str = "prepare rowgate_statement as select * from (\n";
const EXECUTE: &str = "execute rowgate_statement";

/// The same, and before its rows the OIDs of their columns' types, which the simple protocol's answer has not.
const EXECUTE_WITH_TYPES: &str = "select pg_catalog.array_to_string(result_types::oid[], ' ') \
     from pg_catalog.pg_prepared_statement() where name = 'rowgate_statement'; execute rowgate_statement";

/// Ends the transaction. There is nothing to commit; rolling back also undoes what a statement did behind READ ONLY's
/// back: settings of the session, large objects on PostgreSQL 15.
const CLOSE: &str = "rollback";

/// Ends a transaction in which a caller's statement ran, with what no rollback undoes.
const CLOSE_STATEMENT: &str = "rollback; select pg_catalog.pg_advisory_unlock_all(); deallocate rowgate_statement";

/// Proves the caller to the database and turns the login role into the reader, from left to right.
const ADMIT: &str = "select rowgate.admit($1), set_config('rowgate.claim', $1, true), \
                     set_config('role', 'rowgate_reader', true)";

/// How a transaction opens: its bounds, and all settings that the text of values depends on; and what becomes of it if
/// the server says nothing to that.
pub(super) struct Opening {
    sql: String,
    silence: Silence,
}

/// What came of a caller's statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// One for each column of the result, names as the statement gives them, not always different.
    pub columns: Vec<Column>,
    /// Each row has one value for each column.
    pub rows: Vec<Vec<Value>>,
    /// Why there are fewer rows than the statement has, if so.
    pub truncated: Option<Truncation>,
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As the statement names it.
    pub name: String,
    /// PostgreSQL's short name of the type: `int4`, `text[]`.
    pub type_name: String,
}

/// Why an answer is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncation {
    /// The statement has more rows than were asked for.
    Rows,
    /// The rows have more bytes than an answer may have.
    Bytes,
}

impl Opening {
    /// `statement`: how long a statement may run; `silence`: what is known of connections that say nothing;
    /// `search_path`: where unqualified names are looked up.
    pub(super) fn new(statement: Duration, silence: Silence, search_path: &[String]) -> Self {
        let path: Vec<_> = search_path.iter().map(|schema| format!("\"{}\"", schema.replace('"', "\"\""))).collect();
        let sql = format!(
            "begin read only; set local statement_timeout = {}; set local search_path = {}; \
             set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'; set local intervalstyle = 'postgres'; \
             set local extra_float_digits = 1; set local bytea_output = 'hex'; \
             set local standard_conforming_strings = on",
            statement.as_millis(),
            if path.is_empty() { "pg_catalog".to_owned() } else { path.join(", ") },
        );
        Self { sql, silence }
    }

    /// What is known of connections that say nothing.
    pub(super) fn silence(&self) -> &Silence {
        &self.silence
    }
}

/// A query of Rowgate's own, with its typed parameters.
pub(super) struct Query<'a> {
    sql: Cow<'static, str>,
    parameters: Vec<(&'a (dyn ToSql + Sync), Type)>,
}

impl<'a> Query<'a> {
    pub(super) fn new(sql: impl Into<Cow<'static, str>>, parameters: Vec<(&'a (dyn ToSql + Sync), Type)>) -> Self {
        Self { sql: sql.into(), parameters }
    }
}

/// Runs queries of Rowgate's own as a caller. Each has its own outcome; after the first error the others fail too.
pub(super) async fn run_queries(
    connection: &Connection,
    opening: &Opening,
    claim: &Claim,
    queries: &[Query<'_>],
) -> Result<Vec<Result<Vec<Row>, DbError>>, DbError> {
    let sent = queries.iter().map(|query| connection.query_typed(&query.sql, &query.parameters));
    // All are polled at once and in this order, as `framed` needs it.
    let work =
        join_all(sent).map(|answers| Ok(answers.into_iter().map(|rows| rows.map_err(DbError::of_ours)).collect()));
    framed(connection, opening, claim, work, CLOSE).await
}

/// Runs `work` for a caller, between the messages that open the transaction and those that end it. Its first poll must
/// send all that it has to send: what it sent later would come after the end.
async fn framed<T>(
    connection: &Connection,
    opening: &Opening,
    claim: &Claim,
    work: impl Future<Output = Result<T, DbError>>,
    closing: &str,
) -> Result<T, DbError> {
    let bound = claim.expose();
    let claim = [(&bound as &(dyn ToSql + Sync), Type::TEXT)];
    let (say, heard) = oneshot::channel::<()>();
    let all = join4(
        connection.batch_execute(&opening.sql).inspect(|_| drop(say)),
        connection.execute_typed(ADMIT, &claim),
        work,
        connection.batch_execute(closing),
    );
    let (opened, admitted, done, closed) = opening.silence.listen(heard, all.map(Ok)).await?;
    // A statement that was never prepared can not be let go of, which is well; anything else, and the transaction may
    // still be there: ROLLBACK itself fails where it has to write and can not, as with temporary files.
    if let Err(error) = &closed
        && error.code() != Some(&SqlState::INVALID_SQL_STATEMENT_NAME)
    {
        connection.spoil();
    }
    // After the first error the server refuses the rest, so the first one is the cause.
    opened.map_err(DbError::of_ours)?;
    admitted.map_err(DbError::of_ours)?;
    let done = done?;
    match closed {
        // Cut by the meter after the answer was complete enough: the lease sees to the connection.
        Err(_) if connection.exceeded() => Ok(done),
        Err(error) => Err(DbError::of_ours(error)),
        Ok(()) => Ok(done),
    }
}

/// Runs a caller's statement.
pub(super) async fn run_statement(
    connection: &Connection,
    opening: &Opening,
    claim: &Claim,
    facts: &ServerFacts,
    statement: &Statement,
    rows: RowLimit,
    bytes: ByteLimit,
) -> Result<Answer, DbError> {
    // The row beyond the limit tells whether there are more.
    let prepare = format!("{PREPARE}{}\n) r limit {}", statement.as_str(), rows.rows() + 1);
    let prefix = PREPARE.chars().count();

    let work = async {
        let execute = |described| collect(connection, described, facts, rows, bytes);
        if connection.version() >= 16 {
            let (prepared, answer) = join!(connection.execute_typed(&prepare, &[]), execute(None));
            prepared.map_err(|error| DbError::of_callers(error, Some(prefix)))?;
            return answer;
        }
        let (types_sender, types) = oneshot::channel();
        let (prepared, described, answer) = join!(
            connection.execute_typed(&prepare, &[]),
            async { describe(connection, statement).await.map(|types| drop(types_sender.send(types))) },
            execute(Some(types)),
        );
        prepared.map_err(|error| DbError::of_callers(error, Some(prefix)))?;
        described?;
        answer
    };
    framed(connection, opening, claim, work, CLOSE_STATEMENT).await
}

/// The types of a statement's columns, as OIDs. PostgreSQL 15 does not show those of a prepared one, so it describes the
/// statement once more.
async fn describe(connection: &Connection, statement: &Statement) -> Result<Vec<u32>, DbError> {
    let described = format!("select * from (\n{}\n) r limit 0", statement.as_str());
    let described = connection.prepare(&described).await.map_err(DbError::of_ours)?;
    Ok(described.columns().iter().map(|column| column.type_().oid()).collect())
}

/// A row's values and their bytes as JSON, if these are not more than `room`.
fn encode_row(
    row: &SimpleQueryRow,
    encodings: &[Encoding],
    room: usize,
) -> Result<Option<(Vec<Value>, usize)>, DbError> {
    let mut values = Vec::with_capacity(encodings.len());
    let mut text_bytes = 0;
    for (n, encoding) in encodings.iter().enumerate() {
        let text = row.try_get(n).map_err(DbError::Internal)?;
        // An array takes many times its text in memory, so it is measured before it is taken apart.
        text_bytes += text.map_or(0, str::len);
        if text_bytes > room {
            return Ok(None);
        }
        values.push(text.map_or(Value::Null, |text| encoding.encode(text)));
    }
    let size = 3 + values.iter().map(|value| json_bytes(value) + 1).sum::<usize>();
    Ok((size <= room).then_some((values, size)))
}

/// Executes the prepared statement and collects what comes, up to the limits. `described`: the types of the columns, if
/// they are asked for elsewhere; else they come first.
async fn collect(
    connection: &Connection,
    described: Option<oneshot::Receiver<Vec<u32>>>,
    facts: &ServerFacts,
    limit: RowLimit,
    bytes: ByteLimit,
) -> Result<Answer, DbError> {
    let sql = if described.is_some() { EXECUTE } else { EXECUTE_WITH_TYPES };
    let stream = connection.simple_query_raw(sql).await.map_err(DbError::of_ours)?;
    pin_mut!(stream);
    let types = match described {
        Some(types) => types.await.map_err(|_| DbError::Shape("the statement has no types"))?,
        None => types_of(stream.as_mut()).await?,
    };
    let mut answer = Answer { columns: Vec::new(), rows: Vec::new(), truncated: None };
    let mut encodings: Vec<Encoding> = Vec::new();
    let mut taken = 0;

    while let Some(message) = stream.next().await {
        match message {
            Ok(SimpleQueryMessage::RowDescription(columns)) => {
                if types.len() != columns.len() {
                    return Err(DbError::Shape("as many types as columns"));
                }
                for (column, oid) in columns.iter().zip(&types) {
                    let (type_name, encoding) = encoding(*oid, facts);
                    answer.columns.push(Column { name: column.name().to_owned(), type_name });
                    encodings.push(encoding);
                }
            }
            // The rest of a result that is over a limit goes by unread; the meter ends it if it is much.
            Ok(SimpleQueryMessage::Row(_)) if answer.truncated.is_some() => {}
            Ok(SimpleQueryMessage::Row(_)) if answer.rows.len() == limit.rows() => {
                answer.truncated = Some(Truncation::Rows);
            }
            Ok(SimpleQueryMessage::Row(row)) => {
                match encode_row(&row, &encodings, bytes.bytes().saturating_sub(taken))? {
                    Some((values, size)) => {
                        taken += size;
                        answer.rows.push(values);
                    }
                    None => answer.truncated = Some(Truncation::Bytes),
                }
            }
            Ok(_) => {}
            Err(_) if connection.exceeded() => {
                answer.truncated = Some(Truncation::Bytes);
                break;
            }
            Err(error) => return Err(DbError::of_callers(error, None)),
        }
    }
    Ok(answer)
}

/// The first result of [`EXECUTE_WITH_TYPES`]. None at all if the statement was not prepared, which is told elsewhere.
async fn types_of(mut stream: Pin<&mut SimpleQueryStream>) -> Result<Vec<u32>, DbError> {
    let mut types = None;
    while let Some(message) = stream.next().await {
        match message.map_err(|error| DbError::of_callers(error, None))? {
            SimpleQueryMessage::Row(row) => {
                let text = row.try_get(0).map_err(DbError::Internal)?.unwrap_or_default();
                types = Some(text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>());
            }
            SimpleQueryMessage::CommandComplete(_) => break,
            _ => {}
        }
    }
    match types {
        Some(Ok(types)) => Ok(types),
        _ => Err(DbError::Shape("the statement has no types")),
    }
}
