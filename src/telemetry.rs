//! What the program says of itself. Logs go to standard output: the Functions host reads alarm words on standard
//! error as failures. Never logs SQL text (unless turned on), rows, bind values, claims or secrets.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::TelemetrySettings;

/// Libraries that tell what we tell once and better. A filter can name them to hear them.
const QUIET: &str = "rmcp=off,deadpool=warn";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Not a level or a filter.
    #[error("ROWGATE_LOG is neither a level nor a filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
}

/// Starts logging. Without a format setting it is JSON, or text where `text_by_default`.
pub fn start(settings: &TelemetrySettings, text_by_default: bool) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.filter))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stdout);
    // A second start, as in tests, keeps the first one's choice.
    let _ = if settings.json.unwrap_or(!text_by_default) {
        tracing::subscriber::set_global_default(subscriber.json().flatten_event(true).finish())
    } else {
        let colour = std::io::stdout().is_terminal();
        tracing::subscriber::set_global_default(subscriber.with_ansi(colour).with_target(false).finish())
    };
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
