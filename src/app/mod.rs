//! Builds everything once, from settings, and runs it until the process is told to end. Connects to nothing by itself.

mod sources;

use std::sync::Arc;

use axum::Router;

pub use sources::{Azure, AzureError, embedder};

use crate::config::{Settings, SignInChoice};
use crate::db::{Db, DbError};
use crate::domain::{Profile, ProfileError};
use crate::embedding::{Embedder, EmbeddingError};
use crate::http::{self, Listener};
use crate::identity::EntraSettingsError;
use crate::mcp::{McpServer, Searching};
use crate::telemetry::Telemetry;

/// A server ready to listen.
pub struct App {
    settings: Settings,
    router: Router,
    server: McpServer,
    telemetry: Telemetry,
}

/// What a server can not be built from.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting is missing.
    #[error("{0} is not set: {1}")]
    Missing(&'static str, &'static str),
    /// Nobody could be told apart.
    #[error(
        "ROWGATE_IDENTITY is not set, so no caller could be proved: on Azure it is easy-auth, elsewhere entra; for \
         development, or behind a proxy that sets x-rls-user-id itself, trusted-header"
    )]
    NoIdentity,
    /// Not compiled in.
    #[error("ROWGATE_EMBEDDER is local, but this program was built without the feature local-embedder")]
    NoLocalEmbedder,
    /// A model that the profile does not know.
    #[error("the profile knows no model {0:?}: ROWGATE_EMBEDDING_MODEL has to name one of its [[search.models]]")]
    UnknownModel(String),
    /// The embedder.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    /// The profile file can not be opened.
    #[error("the profile {0} can not be opened")]
    ProfileFile(std::path::PathBuf, #[source] std::io::Error),
    /// The profile is not one.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Whose tokens are taken.
    #[error("the settings ROWGATE_ENTRA_… do not fit")]
    Entra(#[from] EntraSettingsError),
    /// The pool.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The profile that the settings name, or else `shipped`.
pub fn profile(settings: &Settings, shipped: &str) -> Result<Profile, AppError> {
    match &settings.profile {
        None => Ok(Profile::parse(shipped)?),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| AppError::ProfileFile(path.clone(), error))?;
            Ok(Profile::parse(&text)?)
        }
    }
}

/// As whom to connect, and where.
fn login(settings: &Settings) -> Result<tokio_postgres::Config, AppError> {
    settings.database.app.clone().ok_or(AppError::Missing(
        "ROWGATE_DATABASE_URL",
        "it names the database, as postgres://rowgate_app:password@host/database",
    ))
}

/// The database of the settings, as callers use it. Connects to nothing yet.
pub fn database(settings: &Settings, profile: &Profile, azure: &Azure) -> Result<Db, AppError> {
    let database = login(settings)?;
    let keys = azure.claim_keys(settings)?;
    let password = azure.password(&settings.database.login)?;
    Ok(Db::new(database, &settings.database, &settings.limits, &profile.search_path, keys, password)?)
}

impl App {
    /// A server from settings. Touches no network.
    /// `embedder`: what searches by meaning, if anything.
    pub fn build(
        settings: Settings,
        profile: Profile,
        embedder: Option<Arc<dyn Embedder>>,
        azure: &Azure,
        telemetry: &Telemetry,
    ) -> Result<Self, AppError> {
        login(&settings)?;
        let verifier = sources::verifier(&settings, azure)?;
        let db = database(&settings, &profile, azure)?;
        let searching = embedder.and_then(|embedder| Searching::new(&profile, embedder));
        let server = McpServer::new(profile, db, searching, settings.limits, settings.telemetry.sql);
        let in_flight = telemetry.in_flight();
        let router =
            http::router(&settings.http, &settings.identity, verifier, server.clone(), settings.limits.call, in_flight);
        Ok(Self { settings, router, server, telemetry: telemetry.clone() })
    }

    /// Whether callers are believed whatever they say: to be warned of.
    pub fn believes_anybody(&self) -> bool {
        self.settings.identity.sign_in == Some(SignInChoice::TrustedHeader)
    }

    /// The server as MCP sees it.
    pub fn server(&self) -> &McpServer {
        &self.server
    }

    /// Serves on an open listener until `end` is done; then lets calls finish and closes the pool.
    pub async fn serve(self, mut listener: Listener, end: impl Future<Output = ()>) {
        let metrics = listener.metrics().map(|socket| tokio::spawn(http::serve_metrics(socket, self.telemetry)));
        listener.serve(self.router, end).await;
        if let Some(metrics) = metrics {
            metrics.abort();
        }
        self.server.db().close();
    }

    /// Opens the socket that the settings name.
    pub async fn listen(&self) -> Result<Listener, http::ListenError> {
        Listener::open(&self.settings.http, self.settings.telemetry.metrics).await
    }
}

/// On a core or two one thread does it all: a call waits for the database most of its time, and handing it from thread
/// to thread would cost more than the other core could give.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = match cores {
        1 | 2 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

/// Waits for the process to be told to end: Ctrl-C, or SIGTERM from the Functions host.
pub async fn told_to_end() {
    let interrupt = async {
        // Without a handler there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending::<()>().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
