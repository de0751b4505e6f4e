//! The caller's transaction: whatever SQL arrives, it runs read only, as a role that can only read, for one proved
//! caller, in bounded time and bytes, and in one round trip. Everything that a call sends goes out in one flush:
//! the futures are polled together, in the order in which the server answers.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join, join_all, join5};
use tokio::sync::oneshot;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::DbError;
use super::connection::Connection;
use super::silence::Silence;
use crate::identity::Claim;

/// Ends the transaction. There is nothing to commit; rolling back also undoes what a statement did behind READ ONLY's
/// back: settings of the session, large objects on PostgreSQL 15.
const CLOSE: &str = "rollback";

/// Proves the caller to the database and turns the login role into the reader, from left to right; and tells from where
/// the server is talked to.
const ADMIT: &str = "select rowgate.admit($1), set_config('rowgate.claim', $1, true), \
                     set_config('role', 'rowgate_reader', true), inet_client_port()";

/// How a transaction opens: its bounds, and all settings that the text of values depends on; and what becomes of it if
/// the server says nothing to that.
pub(super) struct Opening {
    sql: String,
    silence: Silence,
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

/// Where a transaction ends.
#[derive(Clone, Copy)]
pub(super) enum Closing<'a> {
    /// In a message of its own: this.
    After(&'a str),
    /// In the message of the work, or if something failed, which costs a round trip more, in this one.
    Within(&'a str),
}

impl Closing<'_> {
    async fn run(self, connection: &Connection) -> Result<(), tokio_postgres::Error> {
        match self {
            Self::After(sql) => connection.batch_execute(sql).await,
            Self::Within(_) => Ok(()),
        }
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
    framed(connection, opening, claim, None, work, Closing::After(CLOSE)).await
}

/// Runs `work` for a caller, between the messages that open the transaction and those that end it. Its first poll must
/// send all that it has to send: what it sent later would come after the end. `before`: what runs outside of the
/// transaction first.
pub(super) async fn framed<T>(
    connection: &Connection,
    opening: &Opening,
    claim: &Claim,
    before: Option<&str>,
    work: impl Future<Output = Result<T, DbError>>,
    closing: Closing<'_>,
) -> Result<T, DbError> {
    let (say, heard) = oneshot::channel::<()>();
    let before = async {
        match before {
            Some(sql) => connection.batch_execute(sql).await,
            None => Ok(()),
        }
    };
    let all = join5(
        join(before, prepare_admission(connection)),
        connection.batch_execute(&opening.sql).inspect(|_| drop(say)),
        admit(connection, claim),
        work,
        closing.run(connection),
    );
    let ((before, prepared), opened, admitted, done, closed) = opening.silence.listen(heard, all.map(Ok)).await?;
    let failed = opened.is_err() || admitted.is_err() || done.is_err();
    let closed = match closing {
        // What comes after an error in a message is not run, ROLLBACK least of all.
        Closing::Within(again) if failed && !connection.exceeded() => connection.batch_execute(again).await,
        _ => closed,
    };
    // A statement that was never prepared can not be let go of, which is well; anything else, and the transaction may
    // still be there: ROLLBACK itself fails where it has to write and can not, as with temporary files.
    if let Err(error) = &closed
        && !is_about_a_name(error)
    {
        connection.spoil();
    }
    if before.is_err() || prepared.is_err() || matches!(&admitted, Err(error) if is_about_a_name(error)) {
        connection.spoil();
    }
    // If another caller's statements could not be let go of, the answer may tell of them.
    before.map_err(DbError::of_ours)?;
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

/// Whether the session has no prepared statement of the name that was used.
pub(super) fn is_about_a_name(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INVALID_SQL_STATEMENT_NAME)
}

/// Prepares the question that admits a caller, if it should be and is not.
async fn prepare_admission(connection: &Connection) -> Result<(), tokio_postgres::Error> {
    if connection.kept().wants_admission() {
        connection.kept().keep_admission(connection.prepare_typed(ADMIT, &[Type::TEXT]).await?);
    }
    Ok(())
}

/// Has the caller admitted, and from the second time on by a prepared question, if the session is ours alone.
#[expect(clippy::disallowed_methods, reason = "prepared only in a session that is ours alone")]
async fn admit(connection: &Connection, claim: &Claim) -> Result<(), tokio_postgres::Error> {
    let bound = claim.expose();
    let kept = connection.kept();
    let rows = match kept.admission() {
        Some(prepared) => connection.query(&prepared, &[&bound]).await?,
        None => connection.query_typed(ADMIT, &[(&bound, Type::TEXT)]).await?,
    };
    if let Some(row) = rows.first() {
        kept.seen_from(row.try_get(3)?);
    }
    Ok(())
}
