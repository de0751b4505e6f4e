//! Vectors from Azure OpenAI's v1 API, over one HTTP client for all calls. An attempt that failed is repeated where
//! that can help and the service lets us; while it is down, calls are refused without asking it.

mod circuit;
mod wire;

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rand::TryRng;
use rand::rngs::SysRng;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Client, Url, redirect};
use tokio::select;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::circuit::Circuit;
use super::{Embedded, Embedder, EmbeddingError, EmbeddingModel};

/// Most texts for one request. The service takes 2,048 (and 300,000 tokens); fewer cost less when they are sent again.
const BATCH: usize = 256;
const CONNECT: Duration = Duration::from_secs(5);
/// Half of the longest wait before the second attempt; it doubles from attempt to attempt, four times.
const BACK_OFF: Duration = Duration::from_millis(125);
/// How long a request of a trial may be unanswered before the same is asked once more beside it.
const ASKED_AGAIN: Duration = Duration::from_millis(600);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// What to ask, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct AzureOpenAiSettings {
    /// `https://<resource>.openai.azure.com`. Plain HTTP is for this machine only.
    pub endpoint: String,
    /// The name of the deployment, which the API calls the model.
    pub deployment: String,
    /// Whose vectors it gives.
    pub model: EmbeddingModel,
    /// Longest time for one request and its answer.
    pub attempt_timeout: Duration,
    /// Longest time for one `embed`, with all its attempts and waits.
    pub deadline: Duration,
    /// Most attempts for one `embed`, not counting one with a fresh token.
    pub attempts: u32,
}

/// How to prove who asks.
#[derive(Clone)]
pub enum Credential {
    /// The resource's key.
    Key(String),
    /// The resource's key, from where it is kept.
    KeyFrom(Arc<dyn TokenSource>),
    /// A token of the identity that this program runs as.
    Token(Arc<dyn TokenSource>),
}

/// Where access tokens come from, or a key that is treated as one. It may keep them.
pub trait TokenSource: Send + Sync {
    /// A token. `fresh`: the service refused the last one, so a kept one will not do.
    fn token(&self, fresh: bool) -> BoxFuture<'_, Result<String, Box<dyn StdError + Send + Sync>>>;
}

/// A deployment of an embedding model on Azure OpenAI.
#[derive(Debug)]
pub struct AzureOpenAi {
    settings: AzureOpenAiSettings,
    url: Url,
    credential: Credential,
    client: OnceCell<Client>,
    circuit: Circuit,
}

/// The header that proves who asks, and what in it is secret.
struct Proof {
    name: HeaderName,
    value: HeaderValue,
    secret: String,
}

impl AzureOpenAi {
    /// Reads and connects to nothing yet. Fails on settings or a key that can not work.
    pub fn new(settings: AzureOpenAiSettings, credential: Credential) -> Result<Self, EmbeddingError> {
        let url = address(&settings.endpoint)?;
        let allowed = Duration::from_millis(1)..=LONGEST_TIMEOUT;
        if !allowed.contains(&settings.attempt_timeout) || !allowed.contains(&settings.deadline) {
            return Err(EmbeddingError::Settings("a time-out is zero or longer than an hour"));
        }
        if let Credential::Key(key) = &credential {
            HeaderValue::from_str(key).map_err(|error| EmbeddingError::Credential(Box::new(error)))?;
        }
        Ok(Self { settings, url, credential, client: OnceCell::new(), circuit: Circuit::default() })
    }

    /// The client, made when it is first needed: it reads all certificates of the system.
    async fn client(&self) -> Result<&Client, EmbeddingError> {
        let build = || async {
            let client = Client::builder()
                .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT)
                // A redirect would take the key to another host.
                .redirect(redirect::Policy::none());
            // What stays on this machine is for no proxy of the environment to carry, or to read.
            let client = if self.url.scheme() == "http" { client.no_proxy() } else { client };
            client.build().map_err(wire::broken)
        };
        self.client.get_or_try_init(build).await
    }

    /// Attempts until one works, none can help or the service asks for a later time than `deadline`.
    async fn call(&self, texts: &[String], deadline: Instant) -> Result<Embedded, EmbeddingError> {
        let client = self.client().await?;
        let mut proof = self.credential.prove(false).await?;
        let mut renewed = matches!(self.credential, Credential::Key(_));
        let mut failed = 0;
        loop {
            let attempt = timeout(self.settings.attempt_timeout, self.attempt(client, texts, &proof));
            let error = match attempt.await.unwrap_or(Err(EmbeddingError::TimedOut)) {
                Ok(embedded) => return Ok(embedded),
                Err(EmbeddingError::Refused { status: 401, .. }) if !renewed => {
                    renewed = true;
                    proof = self.credential.prove(true).await?;
                    continue;
                }
                Err(error) => error,
            };
            failed += 1;
            let Some(wait) = back_off(&error, failed) else { return Err(error) };
            if failed >= self.settings.attempts || wait >= deadline.saturating_duration_since(Instant::now()) {
                return Err(error);
            }
            tracing::debug!(error = &error as &dyn StdError, failed, "an attempt to embed failed and is repeated");
            sleep(wait).await;
        }
    }

    /// Finds out whether a service that failed is back. It is not asked again after an answer, whatever that is; but
    /// while there is none: what was asked while it hung may never be answered.
    async fn trial(&self, texts: &[String]) -> Result<Embedded, EmbeddingError> {
        let client = self.client().await?;
        let mut proof = self.credential.prove(false).await?;
        let mut renewed = matches!(self.credential, Credential::Key(_));
        loop {
            let answered = self.first_answer(client, texts, &proof).await;
            let refused = matches!(answered, Err(EmbeddingError::Refused { status: 401, .. }));
            if renewed || !refused {
                return answered;
            }
            renewed = true;
            proof = self.credential.prove(true).await?;
        }
    }

    async fn first_answer(&self, client: &Client, texts: &[String], proof: &Proof) -> Result<Embedded, EmbeddingError> {
        let mut asked = FuturesUnordered::new();
        let end = sleep(self.settings.attempt_timeout);
        tokio::pin!(end);
        loop {
            asked.push(self.attempt(client, texts, proof));
            select! {
                Some(answered) = asked.next() => return answered,
                () = sleep(ASKED_AGAIN) => {}
                () = &mut end => return Err(EmbeddingError::TimedOut),
            }
        }
    }

    async fn attempt(&self, client: &Client, texts: &[String], proof: &Proof) -> Result<Embedded, EmbeddingError> {
        let AzureOpenAiSettings { deployment, model, .. } = &self.settings;
        let request = wire::Request::new(deployment, texts, model.dimensions);
        let post = client.post(self.url.clone()).header(&proof.name, &proof.value).json(&request);
        let response = post.send().await.map_err(wire::broken)?;
        if response.status().is_success() {
            wire::vectors(response, texts.len(), model.dimensions).await
        } else {
            Err(wire::refusal(response, &proof.secret).await)
        }
    }
}

impl Embedder for AzureOpenAi {
    fn model(&self) -> &EmbeddingModel {
        &self.settings.model
    }

    fn provider(&self) -> &'static str {
        "azure.ai.openai"
    }

    fn batch(&self) -> usize {
        BATCH
    }

    fn embed<'a>(&'a self, texts: &'a [String]) -> BoxFuture<'a, Result<Embedded, EmbeddingError>> {
        Box::pin(async move {
            if texts.is_empty() {
                return Ok(Embedded { vectors: Vec::new(), tokens: 0 });
            }
            let trying = self.circuit.admit(self.settings.deadline)?;
            let deadline = Instant::now() + self.settings.deadline;
            let call =
                async { if trying.is_trial() { self.trial(texts).await } else { self.call(texts, deadline).await } };
            let outcome = timeout_at(deadline, call).await.unwrap_or(Err(EmbeddingError::TimedOut));
            trying.learn(&outcome);
            outcome
        })
    }
}

impl Credential {
    async fn prove(&self, fresh: bool) -> Result<Proof, EmbeddingError> {
        let (name, prefix, secret) = match self {
            Self::Key(key) => (HeaderName::from_static("api-key"), "", key.clone()),
            Self::KeyFrom(source) => {
                (HeaderName::from_static("api-key"), "", source.token(fresh).await.map_err(EmbeddingError::Credential)?)
            }
            Self::Token(source) => {
                (AUTHORIZATION, "Bearer ", source.token(fresh).await.map_err(EmbeddingError::Credential)?)
            }
        };
        let value = HeaderValue::try_from(format!("{prefix}{secret}"));
        let mut value = value.map_err(|error| EmbeddingError::Credential(Box::new(error)))?;
        value.set_sensitive(true);
        Ok(Proof { name, value, secret })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Token(_)) { "Token(…)" } else { "Key(…)" })
    }
}

/// Where to post for an endpoint. Plain HTTP would show the credential to the network.
fn address(endpoint: &str) -> Result<Url, EmbeddingError> {
    let wrong = EmbeddingError::Settings("the endpoint is not the https address of a service");
    let Ok(mut url) = Url::parse(endpoint) else { return Err(wrong) };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let more = !url.username().is_empty() || url.password().is_some() || url.query().or(url.fragment()).is_some();
    if more || !(url.scheme() == "https" || url.scheme() == "http" && here) {
        return Err(wrong);
    }
    // Azure's own examples also write the endpoint with the version.
    let path = url.path().trim_end_matches('/');
    let path = format!("{}/openai/v1/embeddings", path.strip_suffix("/openai/v1").unwrap_or(path));
    url.set_path(&path);
    Ok(url)
}

/// How long to wait after the attempt that failed; `None` where another one can not help. Never less than the service
/// asks for, and random ("full jitter"), so that callers who failed together do not come back together.
fn back_off(error: &EmbeddingError, failed: u32) -> Option<Duration> {
    let asked = match error {
        EmbeddingError::Busy { retry_after, .. } => retry_after.unwrap_or_default(),
        EmbeddingError::Unreachable(_) | EmbeddingError::TimedOut | EmbeddingError::Failing { .. } => Duration::ZERO,
        _ => return None,
    };
    let part = SysRng.try_next_u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    Some(asked.max((BACK_OFF * (1 << failed.min(5))).mul_f64(part)))
}
