//! A proxy between the server and PostgreSQL that counts round trips: how often the client speaks after the server did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

#[derive(Default)]
struct Counts {
    round_trips: AtomicUsize,
    connections: AtomicUsize,
}

pub struct CountingProxy {
    pub port: u16,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

impl CountingProxy {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let own = listener.local_addr().unwrap().port();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let answered = Arc::new(AtomicBool::new(true));
                let (asked, counted) = (Arc::clone(&answered), Arc::clone(&counted));
                tokio::spawn(pump(from_client, to_server, move || {
                    if asked.swap(false, Ordering::SeqCst) {
                        counted.round_trips.fetch_add(1, Ordering::SeqCst);
                    }
                }));
                tokio::spawn(pump(from_server, to_client, move || answered.store(true, Ordering::SeqCst)));
            }
        });
        Self { port: own, counts, accepting }
    }

    /// Round trips since the last time, over all connections.
    pub fn round_trips(&self) -> usize {
        self.counts.round_trips.swap(0, Ordering::SeqCst)
    }

    /// Connections made since the last time.
    pub fn connections(&self) -> usize {
        self.counts.connections.swap(0, Ordering::SeqCst)
    }
}

impl Drop for CountingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut each: impl FnMut()) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        each();
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
