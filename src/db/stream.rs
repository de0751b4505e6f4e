//! A connection's stream and the two hands on it: the driver's, which signs in and asks what needs no transaction, and
//! the one that a caller's transaction borrows in between. Only one of them reads and writes at a time. Knows bytes,
//! no messages.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::wire::Wire;

/// The driver's hand: it rests while the stream is lent.
#[derive(Clone)]
pub(super) struct Stream(Arc<Mutex<State>>);

/// The borrower's hand. A stream that comes back before [`Borrowed::end`] has an answer on the way that nobody waits
/// for, and is not used again.
pub(super) struct Borrowed {
    stream: Stream,
    ended: bool,
}

struct State {
    socket: Box<dyn TlsStream + Send + Unpin>,
    lent: bool,
    broken: bool,
    driver: Option<Waker>,
}

/// Somebody left in the middle of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the answer to an earlier request was not read to its end")]
struct Abandoned;

/// Makes TLS of a socket, and leaves a hand on what comes of it.
pub(super) struct Lending<T> {
    tls: T,
    hand: Arc<OnceLock<Stream>>,
}

impl Stream {
    pub(super) fn new(socket: impl TlsStream + Send + Unpin + 'static) -> Self {
        let state = State { socket: Box::new(socket), lent: false, broken: false, driver: None };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Lends it to a request, while the driver waits for nothing.
    pub(super) fn lend(&self) -> Borrowed {
        self.state().lent = true;
        Borrowed { stream: self.clone(), ended: false }
    }

    /// Whether it is of no use any more.
    pub(super) fn is_broken(&self) -> bool {
        self.state().broken
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The socket, unless it is the driver's turn to wait; its task is woken when the stream comes back.
    fn of_driver(&mut self, cx: &Context<'_>) -> Poll<io::Result<Pin<&mut (dyn TlsStream + Send + Unpin)>>> {
        // Kept whether lent or not: the borrower's reading takes the driver's place with the socket.
        if self.driver.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.driver = Some(cx.waker().clone());
        }
        if self.broken {
            return Poll::Ready(Err(io::Error::other(Abandoned)));
        }
        if self.lent { Poll::Pending } else { Poll::Ready(Ok(Pin::new(&mut *self.socket))) }
    }
}

impl Borrowed {
    /// Gives the stream back, once all that was asked has been answered.
    pub(super) fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let driver = {
            let mut state = self.stream.state();
            state.lent = false;
            state.broken |= !self.ended;
            state.driver.take()
        };
        // It waits again for what the server says unasked, such as that it shuts down.
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl<T> Lending<T> {
    /// The hand is there once TLS is.
    pub(super) fn new(tls: T) -> (Self, Arc<OnceLock<Stream>>) {
        let hand = Arc::default();
        (Self { tls, hand: Arc::clone(&hand) }, hand)
    }
}

impl<T> TlsConnect<Wire> for Lending<T>
where
    T: TlsConnect<Wire, Stream: Send + 'static, Future: Send> + Send + 'static,
{
    type Stream = Stream;
    type Error = T::Error;
    type Future = BoxFuture<'static, Result<Stream, T::Error>>;

    fn connect(self, wire: Wire) -> Self::Future {
        Box::pin(async move {
            let stream = Stream::new(self.tls.connect(wire).await?);
            Ok(self.hand.get_or_init(|| stream).clone())
        })
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        self.state().socket.channel_binding()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.state().of_driver(cx))?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.state().of_driver(cx))?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.state().of_driver(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.state().of_driver(cx))?.poll_shutdown(cx)
    }
}

impl AsyncRead for Borrowed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream.state().socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Borrowed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream.state().socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream.state().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream.state().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    struct Plain(DuplexStream);

    impl TlsStream for Plain {
        fn channel_binding(&self) -> ChannelBinding {
            ChannelBinding::none()
        }
    }

    impl AsyncRead for Plain {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Plain {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    /// A stream and its other end, with room for so many bytes between them.
    pub(crate) fn pair(room: usize) -> (Stream, DuplexStream) {
        let (here, there) = tokio::io::duplex(room);
        (Stream::new(Plain(here)), there)
    }

    #[tokio::test]
    async fn the_driver_rests_while_the_stream_is_lent() {
        let (stream, mut server) = pair(64);
        let mut driver = stream.clone();
        let reading = tokio::spawn(async move { driver.read_u8().await });
        tokio::task::yield_now().await;
        let mut borrowed = stream.lend();
        tokio::task::yield_now().await;
        server.write_all(b"ab").await.unwrap();
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        assert_eq!(borrowed.read_u8().await.unwrap(), b'a');
        borrowed.end();
        assert_eq!(reading.await.unwrap().unwrap(), b'b');
        assert!(!stream.is_broken());
    }

    #[tokio::test]
    async fn the_driver_gives_up_a_stream_that_was_left_in_the_middle() {
        let (stream, _server) = pair(64);
        let mut driver = stream.clone();
        let reading = tokio::spawn(async move { driver.read_u8().await });
        tokio::task::yield_now().await;
        drop(stream.lend());
        assert!(reading.await.unwrap().is_err());
        assert!(stream.is_broken());
    }
}
