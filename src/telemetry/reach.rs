//! Whether what is exported would be taken, for `rowgate doctor`: asked by the very exporter that a server has, with its
//! headers and its limits, and once instead of again and again.

use std::error::Error as StdError;
use std::future::pending;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use opentelemetry_application_insights::Exporter;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::trace::SpanExporter;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::TelemetryError;
use super::courier::Courier;
use crate::config::{ApplicationInsightsSettings, OtlpSettings};

/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why nothing would be taken.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// There is no exporter for such settings.
    #[error(transparent)]
    Settings(#[from] TelemetryError),
    /// The status that was answered.
    #[error("the answer was {0}")]
    Refused(u16),
    /// What was at the bottom of it. The errors above repeat the address, in which a key may stand.
    #[error("not reached: {0}")]
    Network(String),
    /// No answer.
    #[error("no answer in {0:?}")]
    TimedOut(Duration),
}

/// Sends an export without a span to a collector, and says how long its answer took.
pub async fn export_nothing(settings: &OtlpSettings) -> Result<Duration, Unreached> {
    let (say, heard) = oneshot::channel();
    let client = Once { courier: Courier::new(Handle::current(), None), say: Mutex::new(Some(say)) };
    let exporter = OtlpExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(settings.endpoint_of("traces"))
        .build()
        .map_err(TelemetryError::from)?;
    let began = Instant::now();
    let exporting = async {
        // Ends only where nothing was sent: what is heard ends it otherwise.
        tokio::select! {
            biased;
            heard = heard => heard.unwrap_or_else(|_| Err(Unreached::Network("nothing was sent".to_owned()))),
            Err(error) = exporter.export(Vec::new()) => Err(Unreached::Network(error.to_string())),
        }
    };
    match timeout(PATIENCE, exporting).await {
        Ok(Ok(status)) if (200..300).contains(&status) => Ok(began.elapsed()),
        Ok(Ok(status)) => Err(Unreached::Refused(status)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Unreached::TimedOut(PATIENCE)),
    }
}

/// Whether a connection string is one. Sends nothing.
pub fn check_connection_string(settings: &ApplicationInsightsSettings) -> Result<(), TelemetryError> {
    let courier = Courier::new(Handle::current(), None);
    let exporter = Exporter::new_from_connection_string(settings.connection_string.expose(), courier);
    exporter.map(drop).map_err(TelemetryError::ApplicationInsights)
}

/// Carries one request and says what was answered. The exporter does not learn it, or it would try again.
#[derive(Debug)]
struct Once {
    courier: Courier,
    say: Mutex<Option<oneshot::Sender<Result<u16, Unreached>>>>,
}

impl HttpClient for Once {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> BoxFuture<'b, Result<Response<Bytes>, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        let sent = self.courier.send_bytes(request);
        let say = self.say.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            let answer = sent.await.map(|answer| answer.status().as_u16());
            let answer = answer.map_err(|error| Unreached::Network(innermost(&*error)));
            drop(say.map(|say| say.send(answer)));
            pending().await
        })
    }
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
