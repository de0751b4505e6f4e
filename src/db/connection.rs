//! Connections and the pool's rules for them: a call leases one, and settles the lease when its transaction has ended
//! in a known way. A lease that is dropped in between cancels its query on the server and closes the connection.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use tokio::time::timeout;
use tokio_postgres::{CancelToken, Config, NoTls};

use super::DbError;
use super::wire::{Meter, Wire};

/// Makes and checks connections.
pub(super) struct ConnectionManager {
    config: Config,
    connect: Duration,
    allowed: usize,
}

/// One connection, as the login role of the request path.
pub(super) struct Connection {
    client: ClientWrapper,
    meter: Arc<Meter>,
    cancel: CancelToken,
    version: u32,
}

/// A connection in use by one call.
pub(super) struct Lease {
    connection: Option<Object<ConnectionManager>>,
}

/// What became of earlier leases of the same call.
#[derive(Default)]
pub(super) struct Attempts {
    failed: bool,
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no socket to the database")]
    Dial(#[source] std::io::Error),
    #[error("the database refused the connection")]
    Login(#[source] tokio_postgres::Error),
    #[error("connecting to the database took longer than {0:?}")]
    TimedOut(Duration),
    #[error("the database has version {0}, and 15 is the oldest that works")]
    Version(u32),
}

impl ConnectionManager {
    /// `allowed`: bytes that the server may send in answer to one call.
    pub(super) fn new(config: Config, connect: Duration, allowed: usize) -> Self {
        Self { config, connect, allowed }
    }

    async fn dial(&self) -> Result<Wire, ConnectError> {
        Wire::dial(&self.config, self.allowed).await.map_err(ConnectError::Dial)
    }

    async fn open(&self) -> Result<Connection, ConnectError> {
        let wire = self.dial().await?;
        let meter = wire.meter();
        let (client, connection) = self.config.connect_raw(wire, NoTls).await.map_err(ConnectError::Login)?;
        let version = connection.parameter("server_version").map(major).unwrap_or_default();
        let cancel = client.cancel_token();
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // The call that it fails tells the story; here it would be told twice.
                tracing::debug!(error = &error as &dyn std::error::Error, "connection ended");
            }
        });
        if version < 15 {
            return Err(ConnectError::Version(version));
        }
        Ok(Connection { client: ClientWrapper::new(client, task), meter, cancel, version })
    }

    /// Stops what a connection is doing on the server. Waits no longer than for making a connection.
    async fn stop(&self, cancel: CancelToken) {
        let stopped = timeout(self.connect, async {
            let wire = self.dial().await?;
            cancel.cancel_query_raw(wire, NoTls).await.map_err(ConnectError::Login)
        });
        if let Ok(Err(error)) = stopped.await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a statement could not be cancelled");
        }
    }
}

/// `18.6 (Debian …)` → 18.
fn major(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

impl managed::Manager for ConnectionManager {
    type Type = Connection;
    type Error = ConnectError;

    async fn create(&self) -> Result<Connection, ConnectError> {
        timeout(self.connect, self.open()).await.unwrap_or(Err(ConnectError::TimedOut(self.connect)))
    }

    /// Costs no round trip: every transaction sets all that it relies on.
    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<ConnectError> {
        if connection.client.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}

impl Connection {
    /// The server's major version.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// Whether the connection was cut because the server sent too much.
    pub(super) fn exceeded(&self) -> bool {
        self.meter.exceeded()
    }
}

impl Deref for Connection {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl Lease {
    /// Takes a connection, a new one if none is free and the pool may grow.
    pub(super) async fn take(pool: &managed::Pool<ConnectionManager>) -> Result<Self, DbError> {
        match pool.get().await {
            Ok(connection) => Ok(Self { connection: Some(connection) }),
            Err(managed::PoolError::Timeout(managed::TimeoutType::Wait)) => Err(DbError::Busy),
            Err(managed::PoolError::Backend(error)) => Err(DbError::Unreachable(Box::new(error))),
            Err(error) => Err(DbError::Unreachable(Box::new(error))),
        }
    }

    /// The connection.
    pub(super) fn connection(&self) -> Result<&Connection, DbError> {
        self.connection.as_deref().ok_or(DbError::Busy)
    }

    /// Ends the lease after its work has ended, well or not. `None` asks for another attempt: the connection turned out
    /// to be dead, as after a restart of the server, and all that runs here only reads.
    pub(super) fn settle<T>(
        mut self,
        outcome: Result<T, DbError>,
        attempts: &mut Attempts,
    ) -> Option<Result<T, DbError>> {
        let Ok(connection) = self.connection() else { return Some(outcome) };
        if connection.exceeded() {
            // Dropped as it is, so that the statement is cancelled on the server.
            return Some(outcome);
        }
        let closed = connection.is_closed();
        self.connection = None;
        match outcome {
            Err(DbError::Lost(_) | DbError::Unavailable(_)) if closed && !attempts.failed => {
                attempts.failed = true;
                None
            }
            outcome => Some(outcome),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let pool = Object::pool(&connection);
        let connection = Object::take(connection);
        let cancel = connection.cancel.clone();
        drop(connection);
        if let (Some(pool), Ok(runtime)) = (pool, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { pool.manager().stop(cancel).await });
        }
    }
}
