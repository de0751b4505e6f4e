//! Builds everything once, from settings, and runs it until the process is told to end. Connects to nothing by itself.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::config::{EmbedderChoice, Settings};
use crate::db::{Db, DbError};
use crate::domain::{Profile, ProfileError};
use crate::embedding::{
    AzureOpenAi, AzureOpenAiSettings, Credential, Embedder, EmbeddingError, EmbeddingModel, TokenSource,
};
use crate::http::{self, Listener};
use crate::identity::{ClaimKeyError, ClaimSigner};
use crate::mcp::{McpServer, Searching};
use crate::secrets::{COGNITIVE_SERVICES, ManagedIdentity};

/// A server ready to listen.
pub struct App {
    settings: Settings,
    router: Router,
    server: McpServer,
}

/// What a server can not be built from.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting is missing.
    #[error("{0} is not set: {1}")]
    Missing(&'static str, &'static str),
    /// Nobody could be told apart.
    #[error(
        "ROWGATE_IDENTITY is not set, so no caller could be proved. For development, or behind a proxy that sets \
         x-rls-user-id itself, set it to trusted-header"
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
    /// The claim keys.
    #[error("ROWGATE_CLAIM_KEYS")]
    ClaimKeys(#[from] ClaimKeyError),
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

/// How long one request to an embedding service, and one call with all its attempts, may take.
const EMBEDDING_ATTEMPT: Duration = Duration::from_secs(10);
const EMBEDDING_CALL: Duration = Duration::from_secs(60);

/// The embedder that the settings choose. Loads and connects to nothing yet.
pub fn embedder(settings: &Settings, profile: &Profile) -> Result<Option<Arc<dyn Embedder>>, AppError> {
    let chosen = &settings.embedding;
    match chosen.embedder {
        None | Some(EmbedderChoice::None) => Ok(None),
        #[cfg(feature = "local-embedder")]
        Some(EmbedderChoice::Local) => {
            let file = chosen.model_file.clone().ok_or(AppError::Missing(
                "ROWGATE_EMBEDDING_MODEL_FILE",
                "it names the ONNX file of the local model",
            ))?;
            Ok(Some(Arc::new(crate::embedding::LocalModel::new(file))))
        }
        #[cfg(not(feature = "local-embedder"))]
        Some(EmbedderChoice::Local) => Err(AppError::NoLocalEmbedder),
        Some(EmbedderChoice::AzureOpenAi) => {
            let endpoint = chosen.endpoint.clone().ok_or(AppError::Missing(
                "ROWGATE_OPENAI_ENDPOINT",
                "it is the address of the Azure OpenAI resource, https://<resource>.openai.azure.com",
            ))?;
            let known =
                profile.search.iter().flat_map(|search| &search.models).find(|model| model.name == chosen.model);
            let known = known.ok_or_else(|| AppError::UnknownModel(chosen.model.clone()))?;
            let service = AzureOpenAiSettings {
                endpoint,
                deployment: chosen.deployment.clone().unwrap_or_else(|| chosen.model.clone()),
                model: EmbeddingModel { name: known.name.clone(), dimensions: known.dimensions },
                attempt_timeout: EMBEDDING_ATTEMPT,
                deadline: EMBEDDING_CALL,
                attempts: 5,
            };
            let credential = match &chosen.key {
                Some(key) => Credential::Key(key.expose().to_owned()),
                None => Credential::Token(Arc::new(Tokens(ManagedIdentity::new(chosen.client_id.clone())))),
            };
            Ok(Some(Arc::new(AzureOpenAi::new(service, credential)?)))
        }
    }
}

/// The managed identity's tokens for Azure OpenAI.
struct Tokens(ManagedIdentity);

impl TokenSource for Tokens {
    fn token(&self, fresh: bool) -> BoxFuture<'_, Result<String, Box<dyn Error + Send + Sync>>> {
        async move { Ok(self.0.token(COGNITIVE_SERVICES, fresh).await?) }.boxed()
    }
}

impl App {
    /// A server from settings. Touches no network.
    /// `embedder`: what searches by meaning, if anything.
    pub fn build(settings: Settings, profile: Profile, embedder: Option<Arc<dyn Embedder>>) -> Result<Self, AppError> {
        let database = settings.database.app.clone().ok_or(AppError::Missing(
            "ROWGATE_DATABASE_URL",
            "it names the database, as postgres://rowgate_app:password@host/database",
        ))?;
        let verifier = settings.identity.ok_or(AppError::NoIdentity)?;
        if settings.claim_keys.is_empty() {
            return Err(AppError::Missing(
                "ROWGATE_CLAIM_KEYS",
                "it signs claims; make one with `echo k1:$(openssl rand -base64 32)` and give it to `rowgate migrate` too",
            ));
        }
        let signer = ClaimSigner::new(&settings.claim_keys)?;
        let db = Db::new(database, &settings.database, &settings.limits, &profile.search_path, signer)?;
        let searching = embedder.and_then(|embedder| Searching::new(&profile, embedder));
        let server = McpServer::new(profile, db, searching, settings.limits, settings.telemetry.sql);
        let router = http::router(&settings.http, verifier, server.clone(), settings.limits.call);
        Ok(Self { settings, router, server })
    }

    /// The server as MCP sees it.
    pub fn server(&self) -> &McpServer {
        &self.server
    }

    /// Serves on an open listener until `end` is done; then lets calls finish and closes the pool.
    pub async fn serve(self, listener: Listener, end: impl Future<Output = ()>) {
        listener.serve(self.router, end).await;
        self.server.db().close();
    }

    /// Opens the socket that the settings name.
    pub async fn listen(&self) -> Result<Listener, http::ListenError> {
        Listener::open(&self.settings.http).await
    }
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
