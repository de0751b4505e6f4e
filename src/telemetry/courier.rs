//! Carries what is exported to a collector or to Application Insights. The exporters wait on threads of their own; the
//! request itself is made by this program's runtime, within its time. Failures are told once in a while, and lose nothing
//! but what could not be carried.

use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::http;
use futures_util::future::BoxFuture;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, redirect};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

/// How long one export may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a failure is told at most.
const TOLD: Duration = Duration::from_secs(300);

/// Gives an access token for the service that takes the telemetry. It may keep it.
pub type TokenSource =
    Arc<dyn Fn() -> BoxFuture<'static, Result<String, Box<dyn StdError + Send + Sync>>> + Send + Sync>;

/// An HTTP client for exporters.
#[derive(Clone)]
pub(super) struct Courier(Arc<Inner>);

struct Inner {
    runtime: Handle,
    client: OnceCell<Client>,
    token: Option<TokenSource>,
    began: OnceLock<Instant>,
    /// Seconds from `began` to when a failure may be told again.
    quiet_until: AtomicU64,
}

impl Courier {
    /// `token`: what proves who sends, if the connection string alone does not.
    pub(super) fn new(runtime: Handle, token: Option<TokenSource>) -> Self {
        let (client, began, quiet_until) = Default::default();
        Self(Arc::new(Inner { runtime, client, token, began, quiet_until }))
    }
}

impl Inner {
    /// The client, made when it is first needed: it reads all certificates of the system.
    async fn client(&self) -> Result<&Client, HttpError> {
        let build = || async { Client::builder().timeout(PATIENCE).redirect(redirect::Policy::none()).build() };
        Ok(self.client.get_or_try_init(build).await?)
    }

    async fn carry(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut headers = parts.headers;
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token().await?))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let post = self.client().await?.request(parts.method, address(&parts.uri)).headers(headers).body(body);
        let answer = post.send().await?;
        let (status, bytes) = (answer.status(), answer.bytes().await?);
        Ok(Response::builder().status(status).body(bytes)?)
    }

    fn tell(&self, why: &(dyn StdError + 'static)) {
        let now = self.began.get_or_init(Instant::now).elapsed().as_secs();
        let quiet_until = self.quiet_until.load(Ordering::Relaxed);
        let then = now + TOLD.as_secs();
        if now >= quiet_until
            && self.quiet_until.compare_exchange(quiet_until, then, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            tracing::warn!(error = why, "telemetry can not be exported");
        }
    }
}

/// Where a request goes. Application Insights looks at tokens in a later version of its API than the exporter names
/// (<https://learn.microsoft.com/azure/azure-monitor/app/azure-ad-authentication>); that one takes keys alone as well.
fn address(uri: &http::Uri) -> String {
    let address = uri.to_string();
    match address.strip_suffix("/v2/track") {
        Some(host) => format!("{host}/v2.1/track"),
        None => address,
    }
}

/// What the one who takes the telemetry answered.
#[derive(Debug, thiserror::Error)]
#[error("the answer was {0}")]
struct Refused(u16);

impl HttpClient for Courier {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> BoxFuture<'b, Result<Response<Bytes>, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        let inner = Arc::clone(&self.0);
        let carried = self.0.runtime.spawn(async move {
            let carried = tokio::time::timeout(PATIENCE * 2, inner.carry(request)).await;
            let carried = carried.unwrap_or_else(|late| Err(Box::new(late)));
            match &carried {
                Ok(answer) if !answer.status().is_success() => inner.tell(&Refused(answer.status().as_u16())),
                Ok(_) => {}
                Err(error) => inner.tell(&**error),
            }
            carried
        });
        Box::pin(async move { carried.await? })
    }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Courier")
    }
}
