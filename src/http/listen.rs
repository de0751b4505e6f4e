//! Accepting connections, bounding what each may take, and ending in good order: calls in flight finish within their
//! time, new ones are not taken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::ServiceExt;

use super::connections::{Connections, Seat};
use super::socket::Socket;
use crate::config::HttpSettings;

/// How long a client may take to send its headers, and how long a connection may be kept without a request.
const HEADERS: Duration = Duration::from_secs(30);

/// How long calls in flight get when the process is told to end.
const GRACE: Duration = Duration::from_secs(10);

/// Bytes of a request's line and headers, and of a body's buffer. Easy Auth's headers can have 60 kB.
const BUFFER: usize = 128 * 1024;

/// A socket that accepts connections.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    metrics: Option<TcpListener>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("{address} can not be listened on; is something else running there?")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

impl Listener {
    /// Opens the socket. `metrics`: where measures may be read, on a socket of their own.
    pub async fn open(settings: &HttpSettings, metrics: Option<SocketAddr>) -> Result<Self, ListenError> {
        let asked = SocketAddr::new(settings.bind, settings.port);
        let socket = bind(asked).await?;
        let address = socket.local_addr().map_err(|source| ListenError { address: asked, source })?;
        let metrics = match metrics {
            Some(metrics) => Some(bind(metrics).await?),
            None => None,
        };
        Ok(Self { socket, address, metrics })
    }

    /// The socket where measures may be read, to be served by whoever has them.
    pub fn metrics(&mut self) -> Option<TcpListener> {
        self.metrics.take()
    }

    /// Where it listens, with the port that was found.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `end` is done, then lets calls in flight finish.
    pub async fn serve(self, router: Router, end: impl Future<Output = ()>) {
        let connections = Connections::new();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(BUFFER);
        tokio::pin!(end);
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&connections) => accepted,
                () = &mut end => break,
            };
            match accepted {
                Ok((stream, seat)) => {
                    tokio::spawn(converse(http.clone(), stream, router.clone(), seat));
                }
                Err(error) => {
                    // Out of file descriptors, or a client that was gone at once; neither is helped by a busy loop.
                    tracing::warn!(error = &error as &dyn std::error::Error, "no connection was accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.socket);
        if timeout(GRACE, connections.end()).await.is_err() {
            tracing::warn!("some calls did not end in time and were dropped");
        }
    }

    async fn accept(&self, connections: &Arc<Connections>) -> std::io::Result<(TcpStream, Seat)> {
        let permit = connections.permit().await.ok_or(std::io::ErrorKind::NotConnected)?;
        let (stream, _) = self.socket.accept().await?;
        Ok((stream, connections.take(permit)))
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}

/// Answers what comes over one connection, until it ends or has to make room.
async fn converse(http: http1::Builder, stream: TcpStream, router: Router, seat: Seat) {
    let _ = stream.set_nodelay(true);
    let conversation = seat.conversation();
    let service = service_fn(|mut request: hyper::Request<_>| {
        request.extensions_mut().insert(conversation.clone());
        router.clone().oneshot(request)
    });
    let connection = http.serve_connection(TokioIo::new(Socket::new(stream, conversation.clone())), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = conversation.told_to_leave() => {
            connection.as_mut().graceful_shutdown();
            match connection.as_mut().now_or_never() {
                Some(ended) => ended,
                None if conversation.is_asking() => connection.await,
                // Half a request.
                None => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "a client's connection ended early");
    }
}
