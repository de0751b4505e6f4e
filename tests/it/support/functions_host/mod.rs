//! The Azure Functions host as a classic custom handler with `enableProxyingHttpRequest` meets it, read from the
//! sources of Azure/azure-functions-host: it reads a package, starts its executable and passes requests on.

mod easy_auth;
mod forward;
mod package;
mod packages;
mod worker;

pub use easy_auth::{EasyAuth, Principal};
pub use package::PackageError;
pub use packages::{function_json, host_json, package, package_of, rowgate_package};
pub use worker::{LogLine, Severity};

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use forward::Forward;
use package::Package;
use worker::{State, Worker};

/// What is not in the package.
pub struct HostOptions {
    pub easy_auth: EasyAuth,
    /// How long a request may go without a byte in either direction.
    pub activity_timeout: Duration,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self { easy_auth: EasyAuth::off(), activity_timeout: Duration::from_secs(240) }
    }
}

/// Why there is no host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error("the handler's process did not start")]
    Start(#[source] std::io::Error),
    /// It ended, crashed three times or did not answer in time. With all that it wrote.
    #[error("the handler does not answer: {0:?}")]
    NotReady(Vec<LogLine>),
}

/// A host with its handler. Both end when it is dropped.
pub struct FunctionsHost {
    address: SocketAddr,
    forward: Arc<Forward>,
    accepting: JoinHandle<()>,
}

impl FunctionsHost {
    /// Starts a package with these app settings, and waits until the handler is ready. The handler gets nothing of this
    /// process's environment but `PATH`.
    pub async fn start(folder: &Path, settings: &[(String, String)]) -> Result<Self, HostError> {
        Self::start_with(folder, settings, HostOptions::default()).await
    }

    pub async fn start_with(
        folder: &Path,
        settings: &[(String, String)],
        options: HostOptions,
    ) -> Result<Self, HostError> {
        let package = Arc::new(Package::read(folder)?);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(HostError::Start)?;
        let address = listener.local_addr().map_err(HostError::Start)?;
        let mut settings = settings.to_vec();
        if options.easy_auth.is_on() {
            settings.push(("WEBSITE_AUTH_ENABLED".to_owned(), "True".to_owned()));
        }
        let port = unused_port().await.map_err(HostError::Start)?;
        let worker = Worker::start(Arc::clone(&package), &settings, port).map_err(HostError::Start)?;
        if worker.settled(1).await != State::Ready {
            return Err(HostError::NotReady(worker.log()));
        }
        let forward = Arc::new(Forward {
            package,
            settings,
            easy_auth: options.easy_auth,
            worker,
            activity_timeout: options.activity_timeout,
            twice: AtomicBool::new(false),
            delivered: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&forward)));
        Ok(Self { address, forward, accepting })
    }

    /// The public address, without TLS.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn easy_auth(&self) -> &EasyAuth {
        &self.forward.easy_auth
    }

    /// From now on, each POST reaches the handler twice, one after the other and with the same invocation id. The
    /// client gets the second answer.
    pub fn deliver_twice(&self, twice: bool) {
        self.forward.twice.store(twice, Ordering::SeqCst);
    }

    /// How many requests the handler answered, those for readiness left out.
    pub fn delivered(&self) -> usize {
        self.forward.delivered.load(Ordering::SeqCst)
    }

    /// Everything that the handler wrote until now.
    pub fn log(&self) -> Vec<LogLine> {
        self.forward.worker.log()
    }

    /// The handler's process, if one runs.
    pub fn handler_pid(&self) -> Option<u32> {
        self.forward.worker.pid()
    }

    /// How often the handler was started.
    pub fn starts(&self) -> usize {
        self.forward.worker.starts()
    }

    /// Whether the host gave up, after three crashes within half an hour.
    pub fn is_shut_down(&self) -> bool {
        self.forward.worker.state() == State::ShutDown
    }

    /// Waits until the handler was started so often and is ready, or will never be again.
    pub async fn settled(&self, starts: usize) {
        self.forward.worker.settled(starts).await;
    }

    /// Ends the handler as the platform does: it is killed.
    pub fn stop(&self) {
        self.forward.worker.stop();
    }
}

impl Drop for FunctionsHost {
    fn drop(&mut self) {
        self.accepting.abort();
        // Requests in flight hold the handler too; it must not wait for them.
        self.forward.worker.stop();
    }
}

async fn accept(listener: TcpListener, forward: Arc<Forward>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, client)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let _ = stream.set_nodelay(true);
        let forward = Arc::clone(&forward);
        let service = service_fn(move |request| {
            let forward = Arc::clone(&forward);
            async move { Ok::<_, Infallible>(forward.answer(request, client).await) }
        });
        connections.spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A port that was free a moment ago. The handler is only told of it, so someone else may take it first.
async fn unused_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

/// A version 4 UUID (RFC 9562).
fn random_uuid() -> String {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).unwrap();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
