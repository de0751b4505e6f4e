//! What can go wrong between a call and the database, sorted by who can mend it. Its text is for the log; what a
//! client reads is made in `mcp/error.rs`.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorResponseBody;
use tokio_postgres::error::SqlState;

use super::posture::Problem;
use super::statement::StatementError;
use crate::identity::KeysUnavailable;

/// A call that did not work.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// No connection can be had.
    #[error("the database can not be reached")]
    Unreachable(#[source] Box<dyn StdError + Send + Sync>),
    /// All connections are in use and none came free in time.
    #[error("no connection came free in time")]
    Busy,
    /// The caller has too many calls at once.
    #[error("the caller has too many calls at once")]
    Crowded,
    /// The connection broke during the call.
    #[error("the connection to the database was lost")]
    Lost(#[source] Fault),
    /// The connection said nothing when it had to: whoever is at its other end has gone without a word.
    #[error("the connection to the database was silent for {0:?}")]
    Silent(Duration),
    /// The caller is proved, but the database does not know it.
    #[error("the database does not know the caller")]
    UnknownCaller,
    /// The database is not set up so that its protection holds.
    #[error("the database is not safe to serve from: {}", told(.0))]
    Unsafe(Vec<Problem>),
    /// The issued token that proved the caller was revoked, or is not of this database.
    #[error("the token was revoked")]
    TokenRevoked,
    /// There are no keys to sign a claim with.
    #[error(transparent)]
    Keys(#[from] KeysUnavailable),
    /// The database does not know the key that signed the claim: it was replaced, or `rowgate migrate` was not run.
    #[error("the database does not know the key that signed the claim")]
    UnknownKey(#[source] Fault),
    /// The database did not accept the claim: keys differ.
    #[error("the database did not accept the claim")]
    Claim(#[source] Fault),
    /// The claim had ended by the clock of the database, by which it was made: that clock has jumped.
    #[error("the database's clock has jumped")]
    Expired(#[source] Fault),
    /// The statement was refused before it was sent.
    #[error("the statement was refused")]
    Refused(#[from] StatementError),
    /// The caller's statement failed; the caller can mend it.
    #[error("the statement failed")]
    Statement(Box<SqlMistake>),
    /// The caller's statement ran for longer than it may.
    #[error("the statement ran out of time")]
    TimedOut,
    /// The server is not able to work on the statement now.
    #[error("the database is not able to work now")]
    Unavailable(#[source] Fault),
    /// A statement of our own failed.
    #[error("a statement of Rowgate's own failed")]
    Internal(#[source] Fault),
    /// The server gave an answer of another shape than asked for.
    #[error("the database answered in an unexpected shape: {0}")]
    Shape(&'static str),
}

/// What comes of a request to the server instead of an answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// By the driver.
    #[error(transparent)]
    Driver(#[from] tokio_postgres::Error),
    /// The server's own words.
    #[error(transparent)]
    Refused(#[from] Box<ErrorResponse>),
    /// Nothing can be sent or heard.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// A value of Rowgate's can not be sent, or one of the server's not be read.
    #[error("a value is not of the type that was meant")]
    Value(#[source] Box<dyn StdError + Send + Sync>),
}

/// An error as the server tells it (manual, 54.8).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{severity}: {message}")]
pub struct ErrorResponse {
    severity: String,
    code: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    /// In characters of the statement's text, from 1.
    position: Option<usize>,
}

/// What PostgreSQL says of a caller's statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlMistake {
    /// Five characters, PostgreSQL's appendix A.
    pub sqlstate: String,
    /// PostgreSQL's sentence.
    pub message: String,
    /// More of it.
    pub detail: Option<String>,
    /// PostgreSQL's advice.
    pub hint: Option<String>,
    /// Where in the caller's own text, in characters from 0.
    pub position: Option<usize>,
}

impl DbError {
    /// Its kind, in a word.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Busy => "busy",
            Self::Crowded => "crowded",
            Self::Lost(_) => "lost",
            Self::Silent(_) => "silent",
            Self::UnknownCaller => "unknown caller",
            Self::Unsafe(_) => "unsafe",
            Self::TokenRevoked => "revoked",
            Self::Keys(_) => "keys",
            Self::UnknownKey(_) => "unknown key",
            Self::Expired(_) => "expired claim",
            Self::Claim(_) => "claim",
            Self::Refused(_) => "refused",
            Self::Statement(_) => "statement",
            Self::TimedOut => "timed out",
            Self::Unavailable(_) => "unavailable",
            Self::Internal(_) => "internal",
            Self::Shape(_) => "shape",
        }
    }

    /// Sorts an error of a statement that Rowgate wrote.
    pub(super) fn of_ours(error: impl Into<Fault>) -> Self {
        Self::general(error.into()).unwrap_or_else(Self::Internal)
    }

    /// A value of an answer to a statement of Rowgate's own can not be read.
    pub(super) fn unreadable(error: impl Into<Fault>) -> Self {
        Self::Internal(error.into())
    }

    /// Sorts an error of a statement that the caller wrote. `prefix`: how many characters of ours stand before it in
    /// the text that a position refers to, if it refers to that text.
    pub(super) fn of_callers(error: Fault, prefix: Option<usize>) -> Self {
        // Room for temporary files: the database is well, and another statement may need less.
        let too_large = error.code() == Some(&SqlState::CONFIGURATION_LIMIT_EXCEEDED);
        let error = match if too_large { Err(error) } else { Self::general(error) } {
            Ok(sorted) => return sorted,
            Err(error) => error,
        };
        match error {
            Fault::Refused(server) if server.code == SqlState::QUERY_CANCELED => Self::TimedOut,
            Fault::Refused(server) => Self::Statement(Box::new(SqlMistake::of(*server, prefix))),
            other => Self::Internal(other),
        }
    }

    /// What is sorted alike whoever wrote the statement.
    fn general(error: Fault) -> Result<Self, Fault> {
        let Some(code) = error.code() else {
            return if matches!(error, Fault::Value(_)) { Err(error) } else { Ok(Self::Lost(error)) };
        };
        match code.code() {
            "RG001" => Ok(Self::UnknownCaller),
            "RG002" => Ok(Self::Claim(error)),
            "RG003" => Ok(Self::Expired(error)),
            "RG004" => Ok(Self::UnknownKey(error)),
            "RG005" => Ok(Self::TokenRevoked),
            // Shut down, starting up, too many connections, out of memory or disk, I/O: classes 08, 53, 57P and 58.
            code if ["08", "53", "57P", "58"].iter().any(|class| code.starts_with(class)) => {
                Ok(Self::Unavailable(error))
            }
            _ => Err(error),
        }
    }
}

impl Fault {
    pub(super) fn value(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Value(error.into())
    }

    /// The server's code for it, if it is the server that tells.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Driver(error) => error.code(),
            Self::Refused(error) => Some(&error.code),
            Self::Broken(_) | Self::Value(_) => None,
        }
    }
}

impl ErrorResponse {
    pub(super) fn read(body: &ErrorResponseBody) -> io::Result<Box<Self>> {
        let mut error = Self {
            severity: String::new(),
            code: SqlState::INTERNAL_ERROR,
            message: String::new(),
            detail: None,
            hint: None,
            position: None,
        };
        let mut fields = body.fields();
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes());
            match field.type_() {
                // The same twice, and the one that is never translated is not there through every pooler.
                b'S' if error.severity.is_empty() => error.severity = value.into_owned(),
                b'V' => error.severity = value.into_owned(),
                b'C' => error.code = SqlState::from_code(&value),
                b'M' => error.message = value.into_owned(),
                b'D' => error.detail = Some(value.into_owned()),
                b'H' => error.hint = Some(value.into_owned()),
                b'P' => error.position = value.parse().ok(),
                _ => {}
            }
        }
        Ok(Box::new(error))
    }
}

fn told(problems: &[Problem]) -> String {
    let problems: Vec<_> =
        problems.iter().map(|problem| format!("{}; mend it by: {}", problem.what, problem.mend)).collect();
    problems.join(". ")
}

impl SqlMistake {
    fn of(server: ErrorResponse, prefix: Option<usize>) -> Self {
        Self {
            sqlstate: server.code.code().to_owned(),
            message: server.message,
            detail: server.detail,
            hint: server.hint,
            position: server.position.zip(prefix).and_then(|(from_one, prefix)| from_one.checked_sub(prefix + 1)),
        }
    }
}
