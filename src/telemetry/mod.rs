//! What the program says of itself. Logs go to standard output: the Functions host reads alarm words on standard
//! error as failures. Never logs SQL text (unless turned on), rows, bind values, claims or secrets.

mod json;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::TelemetrySettings;

/// Libraries that tell what we tell once and better. A filter can name them to hear them.
const QUIET: [(&str, LevelFilter); 3] =
    [("rmcp", LevelFilter::OFF), ("deadpool", LevelFilter::WARN), ("azure_identity", LevelFilter::WARN)];

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Not a level or a filter.
    #[error("ROWGATE_LOG is neither a level nor a filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
}

/// Starts logging. Without a format setting it is JSON, or text where `text_by_default`.
pub fn start(settings: &TelemetrySettings, text_by_default: bool) -> Result<(), TelemetryError> {
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
    // A second start, as in tests, keeps the first one's choice.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(lines.with_filter(filter)));
    Ok(())
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
