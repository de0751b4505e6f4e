//! The caller's transaction: whatever SQL arrives, it runs read only, as a role that can only read, for one proved
//! caller, in bounded time and bytes, and in one round trip: everything that a call sends goes out in one pipeline, and
//! nothing in it runs after an error but the end of the transaction.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use fallible_iterator::FallibleIterator;
use futures_util::FutureExt;
use postgres_protocol::message::backend::{DataRowBody, RowDescriptionBody};
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::DbError;
use super::connection::Connection;
use super::error::Fault;
use super::facts::ServerFacts;
use super::pipeline::{self, Bound, Conversation, Format, Pipeline, Reply, Row};
use super::rows::Rows;
use super::silence::Silence;
use super::statement::Statement;
use super::value::{Encoding, encoding};
use crate::domain::{ByteLimit, RowLimit};
use crate::identity::Claim;

/// What stands before the caller's statement. As part of a query it can be nothing but a query, and a comment that it
/// begins ends with it.
const PREFIX: &str = "prepare rowgate_statement as select * from (\n";

/// Runs it. The detour by a name hides its text: while it runs, this is what the server shows to its other sessions.
const EXECUTE: &str = "execute rowgate_statement";

/// Ends the transaction. There is nothing to commit; rolling back also undoes what a statement did behind READ ONLY's
/// back: settings of the session, large objects on PostgreSQL 15.
const CLOSE: &str = "rollback";

/// Ends a transaction in which a caller's statement ran, with what no rollback undoes.
const CLOSE_STATEMENT: &str = "rollback; select pg_catalog.pg_advisory_unlock_all(); deallocate rowgate_statement";

/// What bounds a transaction and what the text of values depends on, with its time as $2 and its search path as $3; then
/// proves the caller of the claim $1 to the database and turns the login role into the reader, from left to right.
const ADMIT: &str = "select pg_catalog.set_config('statement_timeout', $2, true), \
                            pg_catalog.set_config('search_path', $3, true), \
                            pg_catalog.set_config('timezone', 'UTC', true), \
                            pg_catalog.set_config('datestyle', 'ISO, YMD', true), \
                            pg_catalog.set_config('intervalstyle', 'postgres', true), \
                            pg_catalog.set_config('extra_float_digits', '1', true), \
                            pg_catalog.set_config('bytea_output', 'hex', true), \
                            pg_catalog.set_config('standard_conforming_strings', 'on', true), \
                            rowgate.admit($1), \
                            pg_catalog.set_config('rowgate.claim', $1, true), \
                            pg_catalog.set_config('role', 'rowgate_reader', true)";

/// How a transaction opens, and what becomes of it if the server says nothing to that.
pub(super) struct Opening {
    /// In milliseconds.
    statement_timeout: String,
    search_path: String,
    silence: Silence,
}

/// What came of a caller's statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// One for each column of the result, names as the statement gives them, not always different.
    pub columns: Vec<Column>,
    /// Each row has one value for each column.
    pub rows: Rows,
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
        Self {
            statement_timeout: statement.as_millis().to_string(),
            search_path: if path.is_empty() { "pg_catalog".to_owned() } else { path.join(", ") },
            silence,
        }
    }

    /// Begins the transaction of a caller.
    fn pipeline(&self, claim: &Claim) -> Result<Pipeline, Fault> {
        let mut pipeline = Pipeline::default();
        pipeline.command("begin read only", &[])?;
        // A sign of life, however long the rest takes.
        pipeline.flush();
        let claim = claim.expose();
        let bound: [Bound<'_>; 3] =
            [(&claim, Type::TEXT), (&self.statement_timeout, Type::TEXT), (&self.search_path, Type::TEXT)];
        pipeline.command(ADMIT, &bound)?;
        Ok(pipeline)
    }

    /// What is known of connections that say nothing.
    pub(super) fn silence(&self) -> &Silence {
        &self.silence
    }
}

/// A query of Rowgate's own, with its typed parameters.
pub(super) struct Query<'a> {
    sql: Cow<'static, str>,
    parameters: Vec<Bound<'a>>,
}

impl<'a> Query<'a> {
    pub(super) fn new(sql: impl Into<Cow<'static, str>>, parameters: Vec<Bound<'a>>) -> Self {
        Self { sql: sql.into(), parameters }
    }
}

/// What a transaction runs for its caller.
trait Work {
    /// Says what is asked.
    fn ask(&self, pipeline: &mut Pipeline) -> Result<(), Fault>;

    /// Takes part of the answer.
    fn take(&mut self, reply: Reply) -> Result<(), DbError>;

    /// Sorts an error of what was asked.
    fn sort(&self, error: Fault) -> DbError;
}

/// Runs `work` for a caller, between what opens the transaction and what ends it.
async fn run(
    connection: &Connection,
    opening: &Opening,
    claim: &Claim,
    work: &mut impl Work,
    closing: &str,
) -> Result<(), DbError> {
    let mut pipeline = opening.pipeline(claim).map_err(DbError::of_ours)?;
    let asked = work.ask(&mut pipeline).and_then(|()| {
        pipeline.sync();
        pipeline.simple_query(closing)
    });
    asked.map_err(|error| work.sort(error))?;

    let (say, heard) = oneshot::channel::<()>();
    let answer = async {
        let mut conversation = connection.converse(pipeline);
        let done = answered(&mut conversation, work, say).await;
        (done, conversation.end().await)
    };
    let (done, closed) = opening.silence.listen(heard, answer.map(Ok)).await?;
    // A statement that was never prepared can not be let go of, which is well; anything else, and the transaction may
    // still be there: ROLLBACK itself fails where it has to write and can not, as with temporary files.
    let closed = closed.or_else(|error| match error.code() {
        Some(&SqlState::INVALID_SQL_STATEMENT_NAME) => Ok(()),
        _ => Err(error),
    });
    if closed.is_err() {
        connection.spoil();
    }
    // What went wrong first is the cause of the rest.
    done?;
    closed.map_err(DbError::of_ours)
}

/// Hears the answer to all that goes before the Sync. `say` goes when the transaction has begun.
async fn answered(
    conversation: &mut Conversation,
    work: &mut impl Work,
    say: oneshot::Sender<()>,
) -> Result<(), DbError> {
    completed(conversation).await?;
    drop(say);
    // The caller is admitted, or none of its own statements runs.
    completed(conversation).await?;
    loop {
        match conversation.reply().await {
            Ok(Reply::Ready) => return Ok(()),
            Ok(reply) => work.take(reply)?,
            Err(error) => return Err(work.sort(error)),
        }
    }
}

/// Waits for the end of one statement of Rowgate's own.
async fn completed(conversation: &mut Conversation) -> Result<(), DbError> {
    while !matches!(conversation.reply().await.map_err(DbError::of_ours)?, Reply::Complete) {}
    Ok(())
}

/// Queries of Rowgate's own and their rows.
struct Queries<'a> {
    queries: &'a [Query<'a>],
    types: Arc<[Type]>,
    answers: Vec<Vec<Row>>,
    rows: Vec<Row>,
}

/// Runs queries of Rowgate's own as a caller: rows for each.
pub(super) async fn run_queries(
    connection: &Connection,
    opening: &Opening,
    claim: &Claim,
    queries: &[Query<'_>],
) -> Result<Vec<Vec<Row>>, DbError> {
    let mut work = Queries { queries, types: Arc::default(), answers: Vec::with_capacity(queries.len()), rows: vec![] };
    run(connection, opening, claim, &mut work, CLOSE).await?;
    Ok(work.answers)
}

impl Work for Queries<'_> {
    fn ask(&self, pipeline: &mut Pipeline) -> Result<(), Fault> {
        self.queries.iter().try_for_each(|query| pipeline.query(&query.sql, &query.parameters, Format::Binary))
    }

    fn take(&mut self, reply: Reply) -> Result<(), DbError> {
        match reply {
            Reply::Described(columns) => self.types = pipeline::types_of(&columns).map_err(DbError::of_ours)?,
            Reply::Row(values) => self.rows.push(Row::new(Arc::clone(&self.types), values)),
            Reply::Complete => self.answers.push(std::mem::take(&mut self.rows)),
            Reply::Ready => {}
        }
        Ok(())
    }

    fn sort(&self, error: Fault) -> DbError {
        DbError::of_ours(error)
    }
}

/// A caller's statement and what has come of it.
struct Collector<'a> {
    sql: String,
    facts: &'a ServerFacts,
    limit: RowLimit,
    /// Bytes of JSON that are left.
    room: usize,
    prepared: bool,
    encodings: Vec<Encoding>,
    answer: Answer,
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
    let mut work = Collector {
        // The row beyond the limit tells whether there are more.
        sql: format!("{PREFIX}{}\n) r limit {}", statement.as_str(), rows.rows() + 1),
        facts,
        limit: rows,
        room: bytes.bytes(),
        prepared: false,
        encodings: Vec::new(),
        answer: Answer { columns: Vec::new(), rows: Rows::default(), truncated: None },
    };
    let done = run(connection, opening, claim, &mut work, CLOSE_STATEMENT).await;
    if connection.exceeded() {
        // Cut by the meter, so what has come is what there is; the lease sees to the connection.
        work.answer.truncated = Some(Truncation::Bytes);
    } else {
        done?;
    }
    Ok(work.answer)
}

impl Work for Collector<'_> {
    fn ask(&self, pipeline: &mut Pipeline) -> Result<(), Fault> {
        pipeline.command(&self.sql, &[])?;
        pipeline.query(EXECUTE, &[], Format::Text)
    }

    fn take(&mut self, reply: Reply) -> Result<(), DbError> {
        match reply {
            Reply::Described(columns) => self.describe(&columns).map_err(DbError::of_ours),
            // The rest of a result that is over a limit goes by unread; the meter ends it if it is much.
            Reply::Row(_) if self.answer.truncated.is_some() => Ok(()),
            Reply::Row(_) if self.answer.rows.len() == self.limit.rows() => {
                self.answer.truncated = Some(Truncation::Rows);
                Ok(())
            }
            Reply::Row(row) => self.push(&row).map_err(DbError::of_ours),
            Reply::Complete => {
                self.prepared = true;
                Ok(())
            }
            Reply::Ready => Ok(()),
        }
    }

    fn sort(&self, error: Fault) -> DbError {
        DbError::of_callers(error, (!self.prepared).then(|| PREFIX.chars().count()))
    }
}

impl Collector<'_> {
    fn describe(&mut self, columns: &RowDescriptionBody) -> Result<(), Fault> {
        let mut columns = columns.fields();
        while let Some(column) = columns.next()? {
            let (type_name, encoding) = encoding(column.type_oid(), self.facts);
            self.answer.columns.push(Column { name: column.name().to_owned(), type_name });
            self.encodings.push(encoding);
        }
        Ok(())
    }

    /// Takes a row, if there is room for it.
    fn push(&mut self, row: &DataRowBody) -> Result<(), Fault> {
        match self.answer.rows.push(row, &self.encodings, self.room)? {
            Some(took) => self.room -= took,
            None => self.answer.truncated = Some(Truncation::Bytes),
        }
        Ok(())
    }
}
