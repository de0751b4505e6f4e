//! Key Vault: secrets by name. One request at a time for each, shared by all who wait; what was fetched is kept and
//! renewed in the background, so that a rotated secret is picked up without a restart and a vault that fails later on
//! fails nobody.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, RetryOptions, StatusCode, Transport};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use futures_util::future::{BoxFuture, Shared};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::select;
use tokio::time::{interval, timeout};

use super::managed_identity::{IdentityError, ManagedIdentity};
use crate::telemetry::start::{self, Phase};
use crate::telemetry::{Kind, Span, carried, measure};

/// How old a secret may get before it is asked for again, in the background.
const RENEWED_AFTER: Duration = Duration::from_secs(300);
/// How long one attempt to fetch may take, with the token for it.
const ATTEMPT: Duration = Duration::from_millis(2_500);
/// From the beginning of an attempt to that of the next one, where another can help: whether the last one failed or has
/// no answer yet, which it may never get from a vault that hung when it was asked.
const EVERY: Duration = Duration::from_millis(500);
/// So many failed attempts, and the fetch has failed.
const ATTEMPTS: usize = 3;
/// How long a failure that may pass is remembered. With `EVERY` it bounds how often a vault that fails is asked, and how
/// long it takes to see that it is back.
const PASSES: Duration = Duration::from_millis(500);
/// How old a secret has to be to be asked for again when what it was used for was refused; and how long it is
/// remembered that there is no token, which Azure's own library has tried for a while.
const ASKED_AGAIN: Duration = Duration::from_secs(2);
/// The same where a person has to mend something first.
const MENDED_AFTER: Duration = Duration::from_secs(5);

/// A vault.
pub struct KeyVault {
    url: String,
    identity: Arc<ManagedIdentity>,
    transport: Option<Transport>,
    renewed_after: Duration,
    client: Mutex<Option<Arc<SecretClient>>>,
    kept: Mutex<HashMap<String, Kept>>,
}

/// A secret's text.
#[derive(PartialEq, Eq)]
pub struct SecretValue(String);

/// Why a secret could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No token.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Not allowed.
    #[error("the managed identity may not read the secret {0}: give it the role Key Vault Secrets User")]
    Forbidden(String, #[source] VaultAnswer),
    /// Not there, or without a value.
    #[error("the vault has no secret {0}: make it, or set its name right")]
    Missing(String),
    /// Too often.
    #[error("the vault is asked too often")]
    Throttled(Option<Duration>),
    /// Any other answer.
    #[error("the vault did not give the secret {0}")]
    Refused(String, #[source] VaultAnswer),
    /// No answer that can be read.
    #[error("the vault did not answer for the secret {0}")]
    Unreachable(String, #[source] azure_core::Error),
    /// No answer in time.
    #[error("the vault took longer than {ATTEMPT:?} for the secret {0}")]
    TimedOut(String),
}

/// What a vault answered, without its sentence: that names the subscription, the identity and the vault.
#[derive(Debug, thiserror::Error)]
#[error("the vault answered {status} {code}")]
pub struct VaultAnswer {
    status: u16,
    code: String,
}

/// There is no secret now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a secret can not be had now")]
pub struct SecretUnavailable {
    /// When to ask again.
    pub retry_after: Duration,
    /// Why.
    #[source]
    pub source: Arc<SecretError>,
}

type Outcome = Result<Arc<SecretValue>, SecretUnavailable>;

/// What is known of one secret.
#[derive(Default)]
struct Kept {
    value: Option<(Arc<SecretValue>, Instant)>,
    flight: Option<Shared<BoxFuture<'static, Outcome>>>,
    failed: Option<(SecretUnavailable, Instant)>,
}

impl KeyVault {
    /// A vault at `https://<name>.vault.azure.net`. Asks nothing yet.
    pub fn new(url: &str, identity: Arc<ManagedIdentity>) -> Self {
        let (client, kept) = Default::default();
        Self { url: url.to_owned(), identity, transport: None, renewed_after: RENEWED_AFTER, client, kept }
    }

    /// The same vault, by another HTTP client than the default.
    pub fn with_transport(self, transport: Transport) -> Self {
        Self { transport: Some(transport), ..self }
    }

    /// The same vault, whose secrets are asked for again, in the background, when they are older than this.
    pub fn renewed_after(self, renewed_after: Duration) -> Self {
        Self { renewed_after, ..self }
    }

    /// A secret's newest version, from memory unless it has to be fetched first.
    pub async fn secret(self: &Arc<Self>, name: &str) -> Outcome {
        let flight = {
            let mut kept = self.kept();
            let kept = kept.entry(name.to_owned()).or_default();
            measure::looked_up("secrets", kept.value.is_some());
            if let Some((value, fetched)) = &kept.value {
                let value = Arc::clone(value);
                if fetched.elapsed() >= self.renewed_after && !kept.waits() {
                    drop(self.launch(name, kept));
                }
                return Ok(value);
            }
            match &kept.failed {
                Some((unavailable, since)) if since.elapsed() < unavailable.retry_after => {
                    return Err(unavailable.clone());
                }
                _ => kept.flight.clone().unwrap_or_else(|| self.launch(name, kept)),
            }
        };
        flight.await
    }

    /// Says that what a secret was used for was refused: it is asked for again, though not in a row.
    pub fn refused(self: &Arc<Self>, name: &str) {
        let mut kept = self.kept();
        let kept = kept.entry(name.to_owned()).or_default();
        let asked_lately = kept.value.as_ref().is_some_and(|(_, fetched)| fetched.elapsed() < ASKED_AGAIN);
        if !asked_lately && !kept.waits() {
            kept.value = None;
        }
    }

    /// Begins to fetch a secret. It goes on if those who wait for it go away.
    fn launch(self: &Arc<Self>, name: &str, kept: &mut Kept) -> Shared<BoxFuture<'static, Outcome>> {
        let (vault, name, waited_for) = (Arc::clone(self), name.to_owned(), name.to_owned());
        let fetching = tokio::spawn(carried(async move {
            let (span, began) = (Span::begin(Kind::Client, "get secret"), Instant::now());
            let fetched = span.around(pin!(vault.fetch(&name))).await;
            if fetched.is_err() {
                span.fail("unavailable");
            }
            start::spent(Phase::Secret, began.elapsed());
            measure::secret("secret", fetched.is_ok(), began.elapsed());
            vault.land(&name, fetched)
        }));
        let flight = async move {
            fetching.await.unwrap_or_else(|_| {
                let source = Arc::new(SecretError::TimedOut(waited_for));
                Err(SecretUnavailable { retry_after: PASSES, source })
            })
        };
        let flight = flight.boxed().shared();
        kept.flight = Some(flight.clone());
        flight
    }

    /// Keeps what came of a fetch.
    fn land(&self, name: &str, fetched: Result<SecretValue, SecretError>) -> Outcome {
        let mut all = self.kept();
        let kept = all.entry(name.to_owned()).or_default();
        kept.flight = None;
        match fetched {
            Ok(value) => {
                let value = Arc::new(value);
                kept.failed = None;
                // The same text keeps its place, so that what was made from it need not be made again.
                let value = match &kept.value {
                    Some((known, _)) if *known == value => Arc::clone(known),
                    _ => value,
                };
                kept.value = Some((Arc::clone(&value), Instant::now()));
                Ok(value)
            }
            Err(error) => {
                let unavailable = SecretUnavailable { retry_after: error.retry_after(), source: Arc::new(error) };
                // Said here, once; those who wait for it say only that it was not there.
                tracing::warn!(error = &unavailable as &dyn std::error::Error, "no secret");
                kept.failed = Some((unavailable.clone(), Instant::now()));
                Err(unavailable)
            }
        }
    }

    /// The first good answer to a few attempts, or the last bad one.
    async fn fetch(&self, name: &str) -> Result<SecretValue, SecretError> {
        let client = self.client()?;
        let (mut asked, mut every, mut failed) = (FuturesUnordered::new(), interval(EVERY), 0);
        loop {
            select! {
                _ = every.tick() => asked.push(Self::attempt(&client, name)),
                Some(fetched) = asked.next() => match fetched {
                    Err(error) if error.may_pass() && failed + 1 < ATTEMPTS => failed += 1,
                    fetched => return fetched,
                },
            }
        }
    }

    async fn attempt(client: &SecretClient, name: &str) -> Result<SecretValue, SecretError> {
        match timeout(ATTEMPT, client.get_secret(name, None)).await {
            Err(_) => Err(SecretError::TimedOut(name.to_owned())),
            Ok(Ok(response)) => match response.into_model().map(|secret| secret.value) {
                Ok(Some(value)) => Ok(SecretValue(value)),
                Ok(None) => Err(SecretError::Missing(name.to_owned())),
                Err(error) => Err(SecretError::Unreachable(name.to_owned(), error)),
            },
            Ok(Err(error)) => Err(SecretError::sort(name, error)),
        }
    }

    /// The client, made when it is first needed: it reads all certificates of the system.
    fn client(&self) -> Result<Arc<SecretClient>, SecretError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(Arc::clone(client));
        }
        let client_options =
            ClientOptions { retry: RetryOptions::none(), transport: self.transport.clone(), ..Default::default() };
        let options = SecretClientOptions { client_options, ..Default::default() };
        let made = SecretClient::new(&self.url, self.identity.credential()?, Some(options));
        let made = Arc::new(made.map_err(|error| SecretError::Unreachable("any".to_owned(), error))?);
        *client = Some(Arc::clone(&made));
        Ok(made)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Whether it is being fetched, or failed so lately that it is not fetched yet.
    fn waits(&self) -> bool {
        let failed = self.failed.as_ref().is_some_and(|(why, since)| since.elapsed() < why.retry_after);
        failed || self.flight.is_some()
    }
}

impl SecretValue {
    /// The text, to be handed to whom it is for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

impl SecretError {
    fn sort(name: &str, error: azure_core::Error) -> Self {
        let name = name.to_owned();
        let ErrorKind::HttpResponse { status, raw_response, .. } = error.kind() else {
            let credential = matches!(error.kind(), ErrorKind::Credential);
            return if credential { Self::Identity(error.into()) } else { Self::Unreachable(name, error) };
        };
        let body = raw_response.as_ref().and_then(|response| serde_json::from_slice(response.body()).ok());
        let answer = VaultAnswer { status: u16::from(*status), code: body.as_ref().map(code).unwrap_or_default() };
        match *status {
            StatusCode::Unauthorized | StatusCode::Forbidden => Self::Forbidden(name, answer),
            StatusCode::NotFound => Self::Missing(name),
            // RFC 9110 section 10.2.3, in seconds.
            StatusCode::TooManyRequests => Self::Throttled(raw_response.as_ref().and_then(|response| {
                let seconds: u64 = response.headers().get_optional_str(&"retry-after".into())?.parse().ok()?;
                Some(Duration::from_secs(seconds.clamp(1, 60)))
            })),
            _ => Self::Refused(name, answer),
        }
    }

    /// Whether another attempt may help at once.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(..) | Self::TimedOut(_) => true,
            Self::Refused(_, answer) => answer.status >= 500,
            _ => false,
        }
    }

    /// When to ask again: as the vault says, or as it seems right.
    fn retry_after(&self) -> Duration {
        match self {
            Self::Throttled(asked_for) => asked_for.unwrap_or(MENDED_AFTER),
            Self::Forbidden(..) | Self::Missing(_) => MENDED_AFTER,
            passing if passing.may_pass() => PASSES,
            _ => ASKED_AGAIN,
        }
    }
}

/// The code of an error's body, `ForbiddenByRbac` rather than `Forbidden` where there is one inside.
fn code(body: &serde_json::Value) -> String {
    let code = |pointer| body.pointer(pointer).and_then(|code| code.as_str());
    code("/error/innererror/code").or(code("/error/code")).unwrap_or_default().to_owned()
}
