//! The socket of a client, which has to take what it is sent: one that stops reading is let go, and with it the answer
//! that is kept for it. Knows no HTTP.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::connections::{Asking, Conversation};

/// How long a client may take to make room for more of its answer.
const READING: Duration = Duration::from_secs(30);

/// A socket whose writes fail with [`io::ErrorKind::TimedOut`] where nothing could be written for [`READING`]. As long as
/// something is to be written, the conversation asks.
pub(super) struct Socket<S> {
    stream: S,
    conversation: Conversation,
    waiting: Option<(Pin<Box<Sleep>>, Asking)>,
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, conversation: Conversation) -> Self {
        Self { stream, conversation, waiting: None }
    }

    /// The outcome of a write, unless it has been awaited for too long.
    fn patiently<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let begin = || (Box::pin(sleep(READING)), self.conversation.clone().asks());
        let (waiting, _) = self.waiting.get_or_insert_with(begin);
        waiting.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.patiently(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.patiently(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_is_let_go() {
        let (mut client, server) = tokio::io::duplex(8);
        let conversation = Conversation::default();
        let mut socket = Socket::new(server, conversation.clone());
        let began = Instant::now();
        // Slow is not stopped: each byte that is read starts the time again.
        let (written, ()) = tokio::join!(socket.write_all(&[0; 12]), async {
            for _ in 0..4 {
                sleep(READING - Duration::from_secs(1)).await;
                client.read_u8().await.unwrap();
            }
        });
        written.unwrap();
        assert!(!conversation.is_asking());
        assert!(began.elapsed() > 3 * READING);
        let stopped = Instant::now();
        assert_eq!(socket.write_all(&[0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!((READING..READING * 2).contains(&stopped.elapsed()));
        assert!(conversation.is_asking());
    }
}
