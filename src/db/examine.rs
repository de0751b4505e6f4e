//! What an operator wants to know of the server, asked as the login role: for `rowgate doctor`, never part of a call. And
//! what to do when it can not be reached.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_postgres::error::SqlState;

use super::connection::{Attempts, ConnectError, Connection, Lease};
use super::observed::Operation;
use super::statement::Statement;
use super::{Db, DbError, ServerFacts, leased, write};
use crate::domain::RowLimit;
use crate::identity::Caller;

const ASKED: &str = "select current_setting('server_version'), extract(epoch from clock_timestamp())::float8,
        (select count(*) from pg_catalog.pg_stat_activity where backend_type = 'client backend'),
        current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8,
        (select extversion from pg_catalog.pg_extension where extname = 'vector')";

/// Each table that the reader may read, and what its policies rest on.
const POLICIES: &str = include_str!("policies.sql");

/// What was seen of the server.
#[derive(Clone, Debug)]
pub struct Examined {
    /// As the server says it.
    pub version: String,
    /// One round trip on a connection that is there.
    pub latency: Duration,
    /// Clients connected now, this one too.
    pub connections: i64,
    /// How many may be.
    pub most_connections: i64,
    /// Seconds that the server's clock is ahead of this machine's.
    pub ahead_seconds: f64,
    /// pgvector's version, if it is in this database.
    pub vector: Option<String>,
    /// Whether the connection is protected.
    pub tls: bool,
}

/// The policies that decide which rows of a table the reader may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePolicies {
    /// `schema.table`, quoted where SQL wants it.
    pub table: String,
    /// How many there are.
    pub count: i64,
    /// Those that let rows through without asking `rowgate.visible_stores()`, themselves or by a table that they read.
    pub open: Vec<String>,
}

impl Db {
    /// Looks at the server, without a caller.
    pub async fn examine(&self) -> Result<Examined, DbError> {
        let lease = Lease::take(&self.pool).await?;
        let examined = examine(lease.connection()?, self.tls).await;
        lease.give_back();
        examined
    }

    /// The policies of each table that the reader may read. Everybody may read of policies, the login role too.
    pub async fn policies(&self) -> Result<Vec<TablePolicies>, DbError> {
        let lease = Lease::take(&self.pool).await?;
        let rows = lease.connection()?.query_typed(POLICIES, &[]).await;
        lease.give_back();
        let read = |row: &tokio_postgres::Row| {
            Ok::<_, tokio_postgres::Error>(TablePolicies {
                table: row.try_get(0)?,
                count: row.try_get(1)?,
                open: row.try_get(2)?,
            })
        };
        rows.map_err(DbError::of_ours)?.iter().map(read).collect::<Result<_, _>>().map_err(DbError::unreadable)
    }

    /// How many rows a caller sees of each table, `1000+` for more than a thousand.
    pub async fn visible(&self, caller: &Caller) -> Result<Vec<(String, String)>, DbError> {
        let answer = leased!(self, caller, Operation::Query, |lease, keys| {
            let facts = self.facts(lease.connection()?).await?;
            let statement = Statement::unchecked(&visible(&facts));
            self.run(&lease, &facts.sign(&keys, caller), &facts, &statement, RowLimit::DEFAULT).await
        })?;
        let shown = |row: Vec<serde_json::Value>| {
            let table = row.first()?.as_str()?.to_owned();
            let rows = row.get(1)?.as_i64()?;
            Some((table, if rows > 1_000 { "1000+".to_owned() } else { rows.to_string() }))
        };
        Ok(answer.rows.values().into_iter().filter_map(shown).collect())
    }
}

async fn examine(connection: &Connection, tls: bool) -> Result<Examined, DbError> {
    connection.query_typed("select 1", &[]).await.map_err(DbError::of_ours)?;
    let started = Instant::now();
    let rows = connection.query_typed(ASKED, &[]).await.map_err(DbError::of_ours)?;
    let latency = started.elapsed();
    let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let row = rows.first().ok_or(DbError::Shape("the server says nothing of itself"))?;
    let read = || {
        Ok::<_, tokio_postgres::Error>(Examined {
            version: row.try_get(0)?,
            latency,
            connections: row.try_get(2)?,
            most_connections: row.try_get(3)?,
            // It was asked in the middle of the round trip.
            ahead_seconds: row.try_get::<_, f64>(1)? - (here - latency.as_secs_f64() / 2.0),
            vector: row.try_get(4)?,
            tls,
        })
    };
    read().map_err(DbError::unreadable)
}

/// The rows that a caller sees of each table, `1000+` for more: SQL for the caller's own transaction.
fn visible(facts: &ServerFacts) -> String {
    let quoted = |table: &str| {
        let parts: Vec<_> = table.splitn(2, '.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
        parts.join(".")
    };
    let counts: Vec<_> = facts
        .exposed
        .iter()
        .map(|table| {
            format!(
                "select '{}', count(*) from (select from {} limit 1001) seen",
                table.replace('\'', "''"),
                quoted(table)
            )
        })
        .collect();
    if counts.is_empty() { "select 'no table', 0".to_owned() } else { counts.join(" union all ") }
}

impl DbError {
    /// What an operator can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unreachable(cause) => match cause.downcast_ref::<ConnectError>() {
                Some(ConnectError::Dial(_)) => {
                    "is the host of ROWGATE_DATABASE_URL right, does the server run, does its firewall let this machine in?"
                }
                Some(ConnectError::Password(_)) => {
                    "the password comes from where ROWGATE_DATABASE_LOGIN says: look there"
                }
                Some(ConnectError::Tls(_)) => "look at ROWGATE_DATABASE_ROOT_CERTIFICATES",
                Some(ConnectError::Login(error)) => of_login(error),
                Some(ConnectError::TimedOut(_)) => "a firewall may swallow the connection: look at the network's rules",
                Some(ConnectError::Version(_)) => "take PostgreSQL 15 or later",
                None => "look at the log",
            },
            Self::Busy | Self::Crowded => "raise ROWGATE_POOL_SIZE, or wait",
            Self::UnknownCaller => "rowgate principal add <principal> --store <id>",
            Self::TokenRevoked => "rowgate token issue",
            Self::UnknownKey(_) => "rowgate migrate, with the very ROWGATE_CLAIM_KEYS that this server has",
            Self::Claim(_) => "make the keys of this server and of the database the same by rowgate migrate",
            Self::Expired(_) => "look at where the database's machine has its time from",
            Self::Keys(_) => "look at ROWGATE_KEY_VAULT and ROWGATE_CLAIM_KEYS_SECRET",
            Self::Shape(_) | Self::Internal(_) => "rowgate migrate",
            Self::Silent(_) => {
                "the network between here and the server swallows what is sent: look at its firewalls and at the server"
            }
            Self::Lost(_) | Self::Unavailable(_) => "the server ended the connection: look at its log",
            Self::TimedOut => "raise ROWGATE_STATEMENT_SECONDS, or look at what keeps the server busy",
            Self::Refused(_) | Self::Statement(_) | Self::Unsafe(_) => "rowgate migrate, and look at the log",
        }
    }
}

fn of_login(error: &tokio_postgres::Error) -> &'static str {
    match error.code() {
        Some(code) if *code == SqlState::INVALID_PASSWORD => {
            "set the password of rowgate_app: rowgate migrate with ROWGATE_APP_PASSWORD, or with ROWGATE_APP_OBJECT_ID for a managed identity"
        }
        Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
            "make the database, or set its name right, then rowgate migrate"
        }
        Some(code) if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "let rowgate_app in: the server's pg_hba.conf, and rowgate migrate to make the role"
        }
        Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => {
            "no connection is left: lower the pools or the number of instances, or put PgBouncer in front"
        }
        Some(_) => "the server's log says more",
        None => {
            "does the server speak TLS, with a certificate for this very host name? see ROWGATE_DATABASE_TLS and ROWGATE_DATABASE_ROOT_CERTIFICATES"
        }
    }
}
