//! A line between Rowgate and PostgreSQL that can be cut, refused, silent or dead, with a database behind it that may
//! come back at another port.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// They pass.
    Through,
    /// They are kept, in both directions, until they pass again; new connections are taken, and nobody answers.
    Silent,
    /// Each connection is closed when the server has sent so many.
    Cut(usize),
}

#[derive(Clone, Copy)]
struct State {
    line: Line,
    /// Connections with a lower number hear and say nothing any more, for good.
    dead: u64,
    /// Connections with a lower number are closed.
    closed: u64,
}

pub(super) struct FaultyProxy {
    pub(super) port: u16,
    target: Arc<AtomicU16>,
    made: Arc<AtomicU64>,
    state: watch::Sender<State>,
    accepting: Option<JoinHandle<()>>,
}

impl FaultyProxy {
    pub(super) async fn to(port: u16) -> Self {
        let (state, _) = watch::channel(State { line: Line::Through, dead: 0, closed: 0 });
        let (target, made) = (Arc::new(AtomicU16::new(port)), Arc::default());
        let mut proxy = Self { port: 0, target, made, state, accepting: None };
        proxy.listen().await;
        proxy
    }

    /// Where the database is from now on.
    pub(super) fn aim(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
    }

    pub(super) fn set(&self, line: Line) {
        self.state.send_modify(|state| state.line = line);
    }

    /// The peer of all connections that there are vanishes without a word, as when a server loses its power and
    /// another one takes its address.
    pub(super) fn vanish(&self) {
        let made = self.made.load(Ordering::SeqCst);
        self.state.send_modify(|state| state.dead = made);
    }

    /// Connections are closed, and new ones refused.
    pub(super) async fn refuse(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
        let made = self.made.load(Ordering::SeqCst);
        self.state.send_modify(|state| state.closed = made);
    }

    /// Listens, on the same port as before.
    pub(super) async fn listen(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let (target, made, state) = (Arc::clone(&self.target), Arc::clone(&self.made), self.state.clone());
        self.accepting = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = made.fetch_add(1, Ordering::SeqCst);
                let (target, state) = (Arc::clone(&target), state.subscribe());
                tokio::spawn(carry(client, target, number, state));
            }
        }));
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
    }
}

async fn carry(client: TcpStream, target: Arc<AtomicU16>, number: u64, mut state: watch::Receiver<State>) {
    passes(&mut state, number).await;
    let Ok(server) = TcpStream::connect(("127.0.0.1", target.load(Ordering::SeqCst))).await else { return };
    let (Ok(()), Ok(())) = (client.set_nodelay(true), server.set_nodelay(true)) else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut closed = state.clone();
    // Whichever ends first ends both.
    tokio::select! {
        () = pump(from_client, to_server, number, state.clone(), false) => {}
        () = pump(from_server, to_client, number, state, true) => {}
        _ = closed.wait_for(|state| number < state.closed) => {}
    }
}

async fn passes(state: &mut watch::Receiver<State>, number: u64) {
    let _ = state.wait_for(|state| state.line != Line::Silent && number >= state.dead).await;
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    mut state: watch::Receiver<State>,
    of_server: bool,
) {
    let (mut buffer, mut sent) = (vec![0; 16 * 1024], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        passes(&mut state, number).await;
        let line = state.borrow().line;
        let room = match line {
            Line::Cut(most) if of_server => most.saturating_sub(sent).min(read),
            _ => read,
        };
        sent += room;
        if to.write_all(&buffer[..room]).await.is_err() || room < read {
            return;
        }
    }
    let _ = to.shutdown().await;
}
