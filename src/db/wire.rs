//! The socket to PostgreSQL, with a meter. One value can have a gigabyte and the driver holds a message whole before
//! anyone sees it, so the only place to bound memory is where the bytes come in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::config::Host;
use tokio_postgres::tls::{ChannelBinding, TlsStream};

/// A socket of either kind.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection's bytes, counted since the last request went out.
pub(super) struct Wire {
    socket: Box<dyn Duplex>,
    meter: Arc<Meter>,
}

/// What a connection has received since its last request, and how much it may.
pub(super) struct Meter {
    received: AtomicUsize,
    allowed: usize,
    exceeded: AtomicBool,
}

/// PostgreSQL sent more than a call may take in.
#[derive(Debug, thiserror::Error)]
#[error("the server sent more than {0} bytes in answer to one call")]
struct Exceeded(usize);

impl Meter {
    /// Whether the connection was cut because the server sent too much.
    pub(super) fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Acquire)
    }
}

impl Wire {
    /// Connects to the first of the configured hosts that answers, and says which. `allowed` is in bytes.
    pub(super) async fn dial(config: &tokio_postgres::Config, allowed: usize) -> io::Result<(Self, String)> {
        let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the database URL names no host");
        for (n, host) in config.get_hosts().iter().enumerate() {
            let ports = config.get_ports();
            let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
            match Self::dial_host(host, port).await {
                Ok(socket) => {
                    let meter = Meter { received: 0.into(), allowed, exceeded: false.into() };
                    let name = match host {
                        Host::Tcp(name) => name.clone(),
                        #[cfg(unix)]
                        Host::Unix(_) => "localhost".to_owned(),
                    };
                    return Ok((Self { socket, meter: Arc::new(meter) }, name));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn dial_host(host: &Host, port: u16) -> io::Result<Box<dyn Duplex>> {
        match host {
            Host::Tcp(name) => {
                let socket = TcpStream::connect((name.as_str(), port)).await?;
                socket.set_nodelay(true)?;
                Ok(Box::new(socket))
            }
            #[cfg(unix)]
            Host::Unix(folder) => {
                Ok(Box::new(tokio::net::UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?))
            }
        }
    }

    /// The meter, which outlives the socket.
    pub(super) fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }
}

/// Where there is no TLS, nothing can be bound to it.
impl TlsStream for Wire {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        let received = self.meter.received.fetch_add(read, Ordering::AcqRel) + read;
        if received > self.meter.allowed {
            self.meter.exceeded.store(true, Ordering::Release);
            return Poll::Ready(Err(io::Error::other(Exceeded(self.meter.allowed))));
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.meter.received.store(0, Ordering::Release);
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
