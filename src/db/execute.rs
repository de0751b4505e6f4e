//! A caller's statement inside its transaction: prepared, which takes one statement or none, executed by the simple
//! protocol, which gives every type as text, and collected up to the limits. What is prepared already is only executed.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{StreamExt, pin_mut};
use serde_json::Value;
use tokio::join;
use tokio::sync::oneshot;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow, SimpleQueryStream};

use super::DbError;
use super::caller_tx::{Closing, Opening, framed, is_about_a_name};
use super::connection::Connection;
use super::facts::ServerFacts;
use super::kept::Use;
use super::statement::Statement;
use super::value::{Encoding, encoding, json_bytes};
use crate::domain::{ByteLimit, RowLimit};
use crate::identity::Claim;

/// What stands before a caller's text: as a sub-select it can only read.
const BEFORE: &str = "select * from (\n";

/// Ends the transaction, with what no rollback undoes.
const CLOSE: &str = "rollback; select pg_catalog.pg_advisory_unlock_all()";

/// PostgreSQL's code for what a prepared statement can not do any more since its columns have changed.
const NOT_AS_PREPARED: &str = "0A000";

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

/// What a caller's statement is run with.
pub(super) struct Execution<'a> {
    pub(super) connection: &'a Connection,
    pub(super) opening: &'a Opening,
    pub(super) claim: &'a Claim,
    pub(super) facts: &'a ServerFacts,
    pub(super) rows: RowLimit,
    pub(super) bytes: ByteLimit,
}

/// The OIDs of the types of a result's columns.
type Oids = Arc<[u32]>;

/// Where they come from.
enum Types {
    /// They are known.
    Known(Oids),
    /// They are asked for elsewhere.
    Described(oneshot::Receiver<Oids>),
    /// They come before the rows.
    First,
}

impl Execution<'_> {
    /// Runs a statement.
    pub(super) async fn run(&self, statement: &Statement) -> Result<Answer, DbError> {
        // The row beyond the limit tells whether there are more.
        let sql = format!("{BEFORE}{}\n) r limit {}", statement.as_str(), self.rows.rows() + 1);
        let kept = self.connection.kept();
        loop {
            let mut usage = kept.plan(self.claim.principals(), statement, &sql);
            let Some(types) = usage.types.take() else { return self.run_new(usage, statement, sql).await };
            let work = self.collect(&usage.name, Types::Known(types));
            let outcome = framed(
                self.connection,
                self.opening,
                self.claim,
                usage.before.as_deref(),
                work,
                Closing::Within(CLOSE),
            )
            .await;
            match outcome {
                // A table has other columns by now, say. The next time round the statement is a new one.
                Err(DbError::Statement(mistake)) if mistake.sqlstate == NOT_AS_PREPARED => kept.forget(&usage.name),
                // It is not there: the session is not what it was taken for.
                Err(DbError::Unavailable(error)) if is_about_a_name(&error) => {
                    self.connection.spoil();
                    return Err(DbError::Unavailable(error));
                }
                outcome => return outcome.map(|(answer, _)| answer),
            }
        }
    }

    /// Runs a statement that is not prepared.
    async fn run_new(&self, usage: Use, statement: &Statement, sql: String) -> Result<Answer, DbError> {
        let Use { name, stays, before, .. } = usage;
        let prepare = format!("prepare {name} as {sql}");
        // What stands before the caller's own text.
        let prefix = prepare.len() - sql.len() + BEFORE.len();
        let closing = if stays { CLOSE.to_owned() } else { format!("{CLOSE}; deallocate {name}") };
        let connection = self.connection;

        let work = async {
            let prepared = connection.execute_typed(&prepare, &[]);
            let (prepared, answer) = if connection.version() >= 16 {
                join!(prepared, self.collect(&name, Types::First))
            } else {
                let (say, types) = oneshot::channel();
                let collected = self.collect(&name, Types::Described(types));
                let (prepared, described, answer) = join!(prepared, self.describe(statement, say), collected);
                (prepared, described.and(answer))
            };
            prepared.map_err(|error| DbError::of_callers(error, Some(prefix)))?;
            if stays {
                let types = answer.as_ref().ok().map(|(_, types)| Arc::clone(types));
                connection.kept().prepared(name.clone(), sql, types);
            }
            answer.map(|(answer, _)| answer)
        };
        framed(connection, self.opening, self.claim, before.as_deref(), work, Closing::After(&closing)).await
    }

    /// Asks for the types of a statement's columns. PostgreSQL 15 does not show those of a prepared one, so it describes
    /// the statement once more.
    async fn describe(&self, statement: &Statement, say: oneshot::Sender<Oids>) -> Result<(), DbError> {
        let described = format!("select * from (\n{}\n) r limit 0", statement.as_str());
        let described = self.connection.prepare(&described).await.map_err(DbError::of_ours)?;
        // Whoever should hear it has failed, and says so.
        let _ = say.send(described.columns().iter().map(|column| column.type_().oid()).collect());
        Ok(())
    }

    /// Executes the prepared statement of this name and collects what comes, up to the limits.
    async fn collect(&self, name: &str, types: Types) -> Result<(Answer, Oids), DbError> {
        let sql = match types {
            Types::First => execute_with_types(name),
            Types::Known(_) => format!("execute {name}; {CLOSE}"),
            Types::Described(_) => format!("execute {name}"),
        };
        let stream = self.connection.simple_query_raw(&sql).await.map_err(DbError::of_ours)?;
        pin_mut!(stream);
        let types = match types {
            Types::Known(types) => types,
            Types::Described(types) => types.await.map_err(|_| DbError::Shape("the statement has no types"))?,
            Types::First => types_of(stream.as_mut()).await?,
        };
        let mut answer = Answer { columns: Vec::new(), rows: Vec::new(), truncated: None };
        let mut encodings: Vec<Encoding> = Vec::new();
        let (mut taken, mut executed) = (0, false);

        while let Some(message) = stream.next().await {
            match message {
                Ok(_) if executed => {}
                Ok(SimpleQueryMessage::RowDescription(columns)) => {
                    if types.len() != columns.len() {
                        return Err(DbError::Shape("as many types as columns"));
                    }
                    for (column, oid) in columns.iter().zip(types.iter()) {
                        let (type_name, encoding) = encoding(*oid, self.facts);
                        answer.columns.push(Column { name: column.name().to_owned(), type_name });
                        encodings.push(encoding);
                    }
                }
                // The rest of a result that is over a limit goes by unread; the meter ends it if it is much.
                Ok(SimpleQueryMessage::Row(_)) if answer.truncated.is_some() => {}
                Ok(SimpleQueryMessage::Row(_)) if answer.rows.len() == self.rows.rows() => {
                    answer.truncated = Some(Truncation::Rows);
                }
                Ok(SimpleQueryMessage::Row(row)) => {
                    match encode_row(&row, &encodings, self.bytes.bytes().saturating_sub(taken))? {
                        Some((values, size)) => {
                            taken += size;
                            answer.rows.push(values);
                        }
                        None => answer.truncated = Some(Truncation::Bytes),
                    }
                }
                // What comes now is the end of the transaction.
                Ok(SimpleQueryMessage::CommandComplete(_)) => executed = true,
                Ok(_) => {}
                Err(error) if executed => return Err(DbError::of_ours(error)),
                Err(_) if self.connection.exceeded() => {
                    answer.truncated = Some(Truncation::Bytes);
                    break;
                }
                Err(error) => return Err(DbError::of_callers(error, None)),
            }
        }
        Ok((answer, types))
    }
}

/// Executes a prepared statement, and before its rows tells the OIDs of their columns' types, which the simple protocol's
/// answer has not.
fn execute_with_types(name: &str) -> String {
    format!(
        "select pg_catalog.array_to_string(result_types::oid[], ' ') \
           from pg_catalog.pg_prepared_statement() where name = '{name}'; execute {name}"
    )
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

/// The first result of [`execute_with_types`]. None at all if the statement was not prepared, which is told elsewhere.
async fn types_of(mut stream: Pin<&mut SimpleQueryStream>) -> Result<Oids, DbError> {
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
