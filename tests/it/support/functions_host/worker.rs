//! The handler's process: started, listened to, started again after a crash, and given up after three. It is killed,
//! never asked to end: that is how the host treats custom handlers.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::package::Package;

/// Crashes within this time are counted together.
const CRASHES_WITHIN: Duration = Duration::from_secs(30 * 60);
const MOST_CRASHES: usize = 3;
/// The code with which a handler asks to be started again.
const RESTART: i32 = 200;
const READY_WITHIN: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(25);
const LAST_LINES_WITHIN: Duration = Duration::from_secs(2);
const EXIT_POLL: Duration = Duration::from_millis(10);

/// How the host files a line: standard output is information, and words decide about standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Information,
    Warning,
    Error,
}

/// A line that the handler wrote.
#[derive(Clone, Debug)]
pub struct LogLine {
    pub severity: Severity,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Ready,
    /// It ended with code 0. The host takes no notice: it neither starts it again nor stops sending requests to it.
    Ended,
    /// It crashed too often, or is stopped.
    ShutDown,
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    supervising: JoinHandle<()>,
}

struct Shared {
    package: Arc<Package>,
    environment: Vec<(String, String)>,
    address: SocketAddr,
    child: Mutex<Option<Child>>,
    log: Mutex<Vec<LogLine>>,
    listening: Mutex<Vec<std::thread::JoinHandle<()>>>,
    life: watch::Sender<Life>,
}

#[derive(Clone, Copy)]
struct Life {
    state: State,
    starts: usize,
}

impl Worker {
    /// Starts the process. `port`: where it is told to listen, in each of its lives.
    pub(super) fn start(package: Arc<Package>, settings: &[(String, String)], port: u16) -> std::io::Result<Self> {
        let mut environment = settings.to_vec();
        let root = package.folder.to_string_lossy().into_owned();
        for (name, value) in [
            ("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string()),
            ("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", super::random_uuid()),
            ("FUNCTIONS_HTTPWORKER_PORT", port.to_string()),
            ("FUNCTIONS_APP_ROOT_PATH", root),
        ] {
            environment.push((name.to_owned(), value));
        }
        let shared = Arc::new(Shared {
            package,
            environment,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            child: Mutex::default(),
            log: Mutex::default(),
            listening: Mutex::default(),
            life: watch::Sender::new(Life { state: State::Starting, starts: 0 }),
        });
        Shared::spawn(&shared)?;
        let supervised = Arc::clone(&shared);
        let supervising = tokio::spawn(async move { supervised.supervise().await });
        Ok(Self { shared, supervising })
    }

    /// Waits until it was started so often and is ready, or never will be.
    pub(super) async fn settled(&self, starts: usize) -> State {
        let settled = |life: &Life| match life.state {
            State::Starting => false,
            State::Ready => life.starts >= starts,
            State::Ended | State::ShutDown => true,
        };
        self.shared.life.subscribe().wait_for(settled).await.unwrap().state
    }

    pub(super) fn state(&self) -> State {
        self.shared.life.borrow().state
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.shared.address
    }

    pub(super) fn log(&self) -> Vec<LogLine> {
        self.shared.log.lock().unwrap().clone()
    }

    /// How often the process was started.
    pub(super) fn starts(&self) -> usize {
        self.shared.life.borrow().starts
    }

    /// The process that runs now.
    pub(super) fn pid(&self) -> Option<u32> {
        self.shared.child().as_ref().map(Child::id)
    }

    /// Kills the process and waits until it is gone.
    pub(super) fn stop(&self) {
        self.shared.settle(State::ShutDown);
        self.shared.kill();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.supervising.abort();
        self.stop();
    }
}

impl Shared {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap()
    }

    fn spawn(shared: &Arc<Self>) -> std::io::Result<()> {
        let package = &shared.package;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut slot = shared.child();
        // Stopped a moment ago.
        if shared.life.borrow().state == State::ShutDown {
            return Ok(());
        }
        let mut child = Command::new(&package.executable)
            .args(&package.arguments)
            .current_dir(&package.folder)
            .env_clear()
            .env("PATH", path)
            .envs(shared.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        shared.listen_to(child.stdout.take().unwrap(), |_| Severity::Information);
        shared.listen_to(child.stderr.take().unwrap(), severity);
        *slot = Some(child);
        shared.life.send_modify(|life| *life = Life { state: State::Starting, starts: life.starts + 1 });
        Ok(())
    }

    fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn listen_to(self: &Arc<Self>, stream: impl Read + Send + 'static, severity: fn(&str) -> Severity) {
        let shared = Arc::clone(self);
        let listening = std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                shared.log.lock().unwrap().push(LogLine { severity: severity(&text), text });
            }
        });
        self.listening.lock().unwrap().push(listening);
    }

    /// Waits for the last lines of a process that ended; not for those of one that it left behind.
    async fn listened(&self) {
        let deadline = Instant::now() + LAST_LINES_WITHIN;
        while Instant::now() < deadline && !self.listening.lock().unwrap().iter().all(|thread| thread.is_finished()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.listening.lock().unwrap().clear();
    }

    async fn supervise(self: Arc<Self>) {
        let mut crashes: Vec<Instant> = Vec::new();
        loop {
            let code = tokio::select! {
                code = self.exit() => code,
                () = self.become_ready() => self.exit().await,
            };
            self.listened().await;
            match code {
                None => return,
                Some(0) => return self.settle(State::Ended),
                Some(RESTART) => {}
                Some(_) => {
                    crashes.retain(|crash| crash.elapsed() < CRASHES_WITHIN);
                    crashes.push(Instant::now());
                }
            }
            if crashes.len() >= MOST_CRASHES {
                return self.settle(State::ShutDown);
            }
            if Self::spawn(&self).is_err() {
                return self.settle(State::ShutDown);
            }
        }
    }

    /// Waits for the process to end. `None`: it was stopped.
    async fn exit(&self) -> Option<i32> {
        loop {
            {
                let mut slot = self.child();
                if let Some(status) = slot.as_mut()?.try_wait().unwrap() {
                    *slot = None;
                    // Ended by a signal: a shell would add 128 to its number.
                    return Some(status.code().unwrap_or(128));
                }
            }
            tokio::time::sleep(EXIT_POLL).await;
        }
    }

    /// Asks for `/` until there is an answer, whatever it is.
    async fn become_ready(&self) {
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if let Ok(mut handler) = connect(self.address).await {
                let request = Request::get("/").header("host", self.address.to_string()).body(Body::empty()).unwrap();
                let _ = handler.send_request(request).await;
                return self.settle(State::Ready);
            }
            tokio::time::sleep(READY_POLL).await;
        }
        self.settle(State::ShutDown);
        self.kill();
    }

    /// Notes a state. Nothing comes after the last one.
    fn settle(&self, state: State) {
        self.life.send_if_modified(|life| {
            let changes = life.state != State::ShutDown && life.state != state;
            if changes {
                life.state = state;
            }
            changes
        });
    }
}

/// A connection for one request. Closes with the answer's body.
pub(super) async fn connect(address: SocketAddr) -> std::io::Result<SendRequest<Body>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (handler, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    Ok(handler)
}

fn severity(line: &str) -> Severity {
    let line = line.to_lowercase();
    if line.contains("warn") {
        Severity::Warning
    } else if ["error", "fail", "severe"].iter().any(|word| line.contains(word)) {
        Severity::Error
    } else {
        Severity::Information
    }
}
