//! Connections and the pool's rules for them: a call leases one, and settles the lease when its transaction has ended
//! in a known way. A lease that is dropped in between cancels its query on the server and closes the connection.

use std::error::Error as StdError;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, NoTls};

use super::DbError;
use super::observed::waited;
use super::pipeline::{Conversation, Pipeline};
use super::stream::{Lending, Stream};
use super::tls::{Tls, TlsError};
use super::wire::{Meter, Wire};
use crate::telemetry::start::{self, Phase};
use crate::telemetry::{Kind, Span, measure};

/// So often a call leaves a connection that says nothing for another one.
const SILENT: u32 = 2;

/// How long before its password ends a connection is not used any more.
const BEFORE_THE_END: Duration = Duration::from_secs(60);

/// Where the login role's password comes from when the database URL has none: a vault, or an access token.
pub trait PasswordSource: Send + Sync {
    /// A password. `fresh`: the server refused the last one, so a kept one will not do.
    fn password(&self, fresh: bool) -> BoxFuture<'_, Result<Password, Box<dyn StdError + Send + Sync>>>;
}

/// A password for one connection.
pub struct Password {
    /// Its text, a secret.
    pub text: String,
    /// When it ends, if it does.
    pub until: Option<SystemTime>,
}

/// Makes and checks connections.
pub(super) struct ConnectionManager {
    config: Config,
    tls: Tls,
    password: Option<Arc<dyn PasswordSource>>,
    connect: Duration,
    lifetime: Duration,
    allowed: usize,
}

/// One connection, as the login role of the request path.
pub(super) struct Connection {
    client: ClientWrapper,
    stream: Stream,
    meter: Arc<Meter>,
    cancel: CancelToken,
    until: Instant,
    spoilt: AtomicBool,
}

/// A connection in use by one call.
pub(super) struct Lease {
    connection: Option<Object<ConnectionManager>>,
}

/// What became of earlier leases of the same call.
#[derive(Default)]
pub(super) struct Attempts {
    failed: bool,
    silent: u32,
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no socket to the database")]
    Dial(#[source] io::Error),
    #[error("there is no password for the database")]
    Password(#[source] Box<dyn StdError + Send + Sync>),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the database refused the connection")]
    Login(#[source] tokio_postgres::Error),
    #[error("connecting to the database took longer than {0:?}")]
    TimedOut(Duration),
    #[error("the database has version {0}, and 15 is the oldest that works")]
    Version(u32),
}

/// A connection that is logged in.
struct LoggedIn {
    client: Client,
    stream: Stream,
    version: u32,
    task: JoinHandle<()>,
}

impl ConnectionManager {
    /// `connect`: how long making a connection may take; `lifetime`: how long it is used for; `allowed`: bytes that the
    /// server may send in answer to one call.
    pub(super) fn new(
        config: Config,
        tls: Tls,
        password: Option<Arc<dyn PasswordSource>>,
        connect: Duration,
        lifetime: Duration,
        allowed: usize,
    ) -> Self {
        Self { config, tls, password, connect, lifetime, allowed }
    }

    async fn dial(&self) -> Result<(Wire, String), ConnectError> {
        Wire::dial(&self.config, self.allowed).await.map_err(ConnectError::Dial)
    }

    /// Connects, and once more with a fresh password if the one that was kept is not the right one any more.
    async fn open(&self) -> Result<Connection, ConnectError> {
        match self.open_with(false).await {
            Err(ConnectError::Login(error)) if self.password.is_some() && is_about_the_password(&error) => {
                self.open_with(true).await
            }
            opened => opened,
        }
    }

    async fn open_with(&self, fresh: bool) -> Result<Connection, ConnectError> {
        let password = async {
            match &self.password {
                Some(source) => source.password(fresh).await.map(Some).map_err(ConnectError::Password),
                None => Ok(None),
            }
        };
        let ((wire, host), password) = tokio::try_join!(self.dial(), password)?;
        let meter = wire.meter();
        let mut config = self.config.clone();
        let mut lifetime = self.lifetime;
        if let Some(password) = password {
            config.password(password.text);
            if let Some(until) = password.until {
                let left = until.duration_since(SystemTime::now()).unwrap_or_default();
                lifetime = lifetime.min(left.saturating_sub(BEFORE_THE_END));
            }
        }
        let LoggedIn { client, stream, version, task } = match self.tls.connector(&self.config)? {
            None => {
                let stream = Stream::new(wire);
                let connecting = config.ssl_mode(SslMode::Disable).connect_raw(stream.clone(), NoTls);
                let (client, connection) = connecting.await.map_err(ConnectError::Login)?;
                LoggedIn::of(client, connection, stream)
            }
            Some(mut tls) => {
                let Ok(tls) = MakeTlsConnect::<Wire>::make_tls_connect(&mut tls, &host);
                let (tls, hand) = Lending::new(tls);
                let connecting = config.ssl_mode(SslMode::Require).connect_raw(wire, tls);
                let (client, connection) = connecting.await.map_err(ConnectError::Login)?;
                let stream = hand.get().cloned().ok_or_else(|| ConnectError::Dial(io::Error::other("no TLS")))?;
                LoggedIn::of(client, connection, stream)
            }
        };
        if version < 15 {
            return Err(ConnectError::Version(version));
        }
        let cancel = client.cancel_token();
        let until = Instant::now() + lifetime;
        let client = ClientWrapper::new(client, task);
        Ok(Connection { client, stream, meter, cancel, until, spoilt: AtomicBool::new(false) })
    }

    /// Whether a new connection is made and answered. It is closed again.
    pub(super) async fn is_answered(&self) -> bool {
        let asked = timeout(self.connect, async { self.open().await.ok()?.batch_execute("").await.ok() });
        asked.await.is_ok_and(|answered| answered.is_some())
    }

    /// Stops what a connection is doing on the server. Waits no longer than for making a connection.
    async fn stop(&self, cancel: CancelToken) {
        let stopped = timeout(self.connect, async {
            let (wire, host) = self.dial().await?;
            let cancelled = match self.tls.connector(&self.config)? {
                None => cancel.cancel_query_raw(wire, NoTls).await,
                Some(mut tls) => {
                    let Ok(tls) = MakeTlsConnect::<Wire>::make_tls_connect(&mut tls, &host);
                    cancel.cancel_query_raw(wire, tls).await
                }
            };
            cancelled.map_err(ConnectError::Login)
        });
        if let Ok(Err(error)) = stopped.await {
            tracing::warn!(error = &error as &dyn StdError, "a statement could not be cancelled");
        }
    }
}

impl LoggedIn {
    fn of<S, T>(client: Client, connection: tokio_postgres::Connection<S, T>, stream: Stream) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let version = connection.parameter("server_version").map(major).unwrap_or_default();
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // The call that it fails tells the story; here it would be told twice.
                tracing::debug!(error = &error as &dyn StdError, "connection ended");
            }
        });
        Self { client, stream, version, task }
    }
}

fn is_about_the_password(error: &tokio_postgres::Error) -> bool {
    // PgBouncer before 1.21 calls a wrong password a violation of the protocol.
    [&SqlState::INVALID_PASSWORD, &SqlState::INVALID_AUTHORIZATION_SPECIFICATION, &SqlState::PROTOCOL_VIOLATION]
        .into_iter()
        .any(|code| error.code() == Some(code))
}

/// `18.6 (Debian …)` → 18.
fn major(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

impl managed::Manager for ConnectionManager {
    type Type = Connection;
    type Error = ConnectError;

    async fn create(&self) -> Result<Connection, ConnectError> {
        let began = Instant::now();
        let span = Span::begin(Kind::Client, "connect");
        // Boxed, since every call would carry the room for it.
        let mut opening = Box::pin(timeout(self.connect, self.open()));
        let made = span.around(opening.as_mut()).await;
        let made = made.unwrap_or(Err(ConnectError::TimedOut(self.connect)));
        if made.is_err() {
            span.fail("unreachable");
        }
        start::spent(Phase::Connect, began.elapsed());
        measure::connected(made.is_ok(), began.elapsed());
        made
    }

    /// Costs no round trip: every transaction sets all that it relies on.
    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<ConnectError> {
        if connection.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        if Instant::now() >= connection.until { Err(RecycleError::message("too old")) } else { Ok(()) }
    }
}

impl Connection {
    /// Asks what does not go by the driver, which must be waiting for nothing.
    pub(super) fn converse(&self, asked: Pipeline) -> Conversation {
        Conversation::begin(self.stream.lend(), asked)
    }

    /// Whether nothing can be asked any more.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.stream.is_broken()
    }

    /// Says that a transaction on it did not end in a known way, so that it is not used for another one.
    pub(super) fn spoil(&self) {
        self.spoilt.store(true, Ordering::Relaxed);
    }

    /// Whether the connection was cut because the server sent too much.
    pub(super) fn exceeded(&self) -> bool {
        self.meter.exceeded()
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl Lease {
    /// Takes a connection, a new one if none is free and the pool may grow.
    pub(super) async fn take(pool: &managed::Pool<ConnectionManager>) -> Result<Self, DbError> {
        let asked = Instant::now();
        let got = pool.get().await;
        // Making a connection is told where it is made.
        let made = got.as_ref().is_ok_and(|connection| Object::metrics(connection).recycle_count == 0);
        if !made {
            waited(got.is_ok(), asked.elapsed());
        }
        match got {
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

    /// Gives back a connection on which nothing was asked.
    pub(super) fn give_back(mut self) {
        self.connection = None;
    }

    /// Closes the connections that wait in the pool and were made before this one fell silent: their peer is the same,
    /// and each would have another call find that out.
    fn evict_older(&self, silence: Duration) {
        if let Some(pool) = self.connection.as_ref().and_then(Object::pool) {
            pool.retain(|_, metrics| metrics.age() < silence);
        }
    }

    /// Ends the lease after its work has ended, well or not. `None` asks for another attempt: the connection turned out
    /// to be dead, as after a restart of the server, the signing key to be replaced, or the database's clock to have
    /// jumped; all that runs here only reads.
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
        if let Err(DbError::Silent(silence)) = &outcome {
            self.evict_older(*silence);
            if attempts.silent >= SILENT {
                return Some(outcome);
            }
            attempts.silent += 1;
            // Dropped as it is: it is not for another call.
            return None;
        }
        // A connection that broke may not know it yet, but then its transaction has no known end either.
        let (closed, spoilt) = (connection.is_closed(), connection.spoilt.load(Ordering::Relaxed));
        if closed || !spoilt {
            self.connection = None;
        }
        match outcome {
            Err(DbError::Lost(_) | DbError::Unavailable(_)) if (closed || spoilt) && !attempts.failed => {
                attempts.failed = true;
                None
            }
            Err(DbError::UnknownKey(_) | DbError::Expired(_)) if !attempts.failed => {
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
