//! What the program says of itself: logs, spans and measures. Logs go to standard output: the Functions host reads alarm
//! words on standard error as failures. Never says SQL text (unless turned on), rows, bind values, claims or secrets, and
//! never keeps a call waiting.

mod causes;
mod courier;
mod export;
mod idle;
mod json;
mod log_records;
pub mod measure;
pub mod names;
pub mod reach;
mod span;
pub mod start;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt};

pub use courier::TokenSource;
pub use idle::InFlight;
pub use span::{Kind, Span, Within, carried};

use crate::config::TelemetrySettings;
use export::Exports;
use log_records::LogRecords;

/// The scope of the tokens that Application Insights takes.
pub const AZURE_MONITOR: &str = "https://monitor.azure.com/.default";

/// Libraries that tell what we tell once and better. A filter can name them to hear them.
const QUIET: [(&str, LevelFilter); 4] = [
    ("rmcp", LevelFilter::OFF),
    ("deadpool", LevelFilter::WARN),
    ("azure_identity", LevelFilter::WARN),
    ("opentelemetry", LevelFilter::OFF),
];

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Not a level or a filter.
    #[error("ROWGATE_LOG is neither a level nor a filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The collector's address.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT is no address of a collector, `http://host:4318`")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Application Insights' address.
    #[error("APPLICATIONINSIGHTS_CONNECTION_STRING is none")]
    ApplicationInsights(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The measures for Prometheus.
    #[error("the measures can not be read by Prometheus")]
    Prometheus(#[from] opentelemetry_sdk::error::OTelSdkError),
}

/// Telemetry, as long as the program runs.
#[derive(Clone, Default)]
pub struct Telemetry(Exports);

impl Telemetry {
    /// Starts to log, and to export what the settings name. Without a format setting logs are JSON, or text where
    /// `text_by_default`. `token` proves to Application Insights who sends, where it wants to know.
    pub fn start(
        settings: &TelemetrySettings,
        text_by_default: bool,
        token: Option<TokenSource>,
    ) -> Result<Self, TelemetryError> {
        let asked: Targets = settings.filter.parse()?;
        let named: Vec<String> = asked.iter().map(|(target, _)| target.to_owned()).collect();
        let quiet = QUIET.into_iter().filter(|(library, _)| named.iter().all(|name| !name.starts_with(library)));
        let filter = asked.with_targets(quiet);
        let lines = if settings.json.unwrap_or(!text_by_default) {
            fmt::layer().event_format(json::Json).with_writer(std::io::stdout).boxed()
        } else {
            let colour = std::io::stdout().is_terminal();
            fmt::layer().with_writer(std::io::stdout).with_ansi(colour).with_target(false).boxed()
        };
        let exports = Exports::begin(settings, token)?;
        let records = exports.records.as_ref().map(|provider| LogRecords::to(provider).with_filter(filter.clone()));
        let subscriber = Registry::default().with(lines.with_filter(filter)).with(records);
        // A second start, as in tests, keeps the first one's choice.
        let _ = tracing::subscriber::set_global_default(subscriber);
        Ok(Self(exports))
    }

    /// What follows the requests in flight, and sends what was recorded when there have been none for a moment.
    pub fn in_flight(&self) -> InFlight {
        InFlight::new(self.0.clone())
    }

    /// All measures in Prometheus' text format; `None` unless `ROWGATE_METRICS_ADDRESS` is set.
    pub fn metrics_text(&self) -> Option<String> {
        self.0.text()
    }

    /// Sends what is left, within [`export::LAST`].
    pub async fn end(self) {
        if self.0.pushes() {
            let (done, ended) = tokio::sync::oneshot::channel::<()>();
            // On a thread that nobody waits for: an exporter may go on trying for longer than there is time.
            std::thread::spawn(move || {
                self.0.end();
                drop(done);
            });
            let _ = tokio::time::timeout(export::LAST, ended).await;
        }
    }
}

/// A statement as the log may show it: its text if that is turned on, else a hash that tells two apart.
pub fn loggable_sql(sql: &str, in_full: bool) -> String {
    if in_full {
        return sql.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    sql.hash(&mut hasher);
    format!("#{:016x}", hasher.finish())
}
