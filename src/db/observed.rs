//! What is told of the database: each operation as a span and a measure (semantic conventions, database), waits that were
//! worth one, and the pool's state. Never SQL, a row or a caller.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::Pool;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::DbError;
use super::connection::ConnectionManager;
use crate::telemetry::measure::{self, PoolState};
use crate::telemetry::start::{self, Phase};
use crate::telemetry::{Kind, Span};

/// Below this a wait for a connection is none.
const WAIT: Duration = Duration::from_millis(1);

/// What a call does in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A caller's statement.
    Query,
    /// Tables and the values in them.
    Describe,
    /// A search.
    Search,
    /// The health check.
    Ready,
}

/// Which database it is.
pub(super) struct Observed {
    database: String,
    address: String,
    port: u16,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Describe => "describe",
            Self::Search => "search",
            Self::Ready => "ready",
        }
    }
}

impl Observed {
    pub(super) fn of(config: &Config) -> Self {
        let address = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => String::new(),
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        Self { database: config.get_dbname().unwrap_or_default().to_owned(), address, port }
    }

    /// Runs what is done over one connection, and tells of it.
    pub(super) async fn operation<T>(
        &self,
        operation: Operation,
        work: Pin<&mut impl Future<Output = Result<T, DbError>>>,
    ) -> Result<T, DbError> {
        let (started, name) = (Instant::now(), operation.name());
        let span = Span::begin(Kind::Client, name);
        if span.is_seen() {
            span.set("db.system.name", "postgresql");
            span.set("db.operation.name", name);
            span.set("db.namespace", self.database.clone());
            span.set("server.address", self.address.clone());
            span.set("server.port", i64::from(self.port));
        }
        let outcome = span.around(work).await;
        let error = outcome.as_ref().err().map(DbError::kind);
        if let Some(error) = error {
            span.fail(error);
            if let Err(DbError::Statement(mistake)) = &outcome {
                span.set("db.response.status_code", mistake.sqlstate.clone());
            }
        }
        let took = started.elapsed();
        if error.is_none() && operation != Operation::Ready {
            start::spent(Phase::Query, took);
        }
        measure::database(name, error, took);
        outcome
    }

    /// Lets the pool's state be read.
    pub(super) fn watch(&self, pool: &Pool<ConnectionManager>) {
        let pool = Arc::new(pool.weak());
        measure::watch_pool(move || {
            let status = pool.upgrade()?.status();
            let idle = status.available;
            Some(PoolState {
                used: status.size.saturating_sub(idle),
                idle,
                most: status.max_size,
                pending: status.waiting,
            })
        });
    }
}

/// A call waited for a connection, which it got or not.
pub(super) fn waited(got: bool, took: Duration) {
    if took >= WAIT {
        Span::ended(Kind::Internal, "wait for a connection", took);
    }
    measure::waited(got, took);
}
