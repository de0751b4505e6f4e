//! `.vscode/mcp.json` for the sample's callers, in development.

use serde_json::{Map, Value, json};

use super::catalogue::{SampleError, callers};
use crate::identity::DEVELOPMENT_HEADER;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum McpConfigError {
    /// The data files.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// Nobody of that name.
    #[error("no caller's name has {wanted:?} in it; there are: {names}")]
    NoSuchCaller {
        /// What was asked for.
        wanted: String,
        /// Who there is.
        names: String,
    },
    /// The file that is there is not JSON (VS Code also takes comments, which would be lost).
    #[error("the .vscode/mcp.json that is there is not plain JSON, so it is left alone")]
    Existing(#[source] serde_json::Error),
}

/// The text of `.vscode/mcp.json`: a server for each caller whose name has one of `wanted` in it, or for all.
/// Servers of other names in `existing` are kept.
pub fn mcp_config(url: &str, wanted: &[String], existing: Option<&str>) -> Result<String, McpConfigError> {
    let all = callers()?;
    let fits = |name: &str, part: &String| name.to_lowercase().contains(&part.to_lowercase());
    if let Some(wanted) = wanted.iter().find(|part| all.iter().all(|caller| !fits(&caller.name, part))) {
        let names = all.iter().map(|caller| caller.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(McpConfigError::NoSuchCaller { wanted: wanted.clone(), names });
    }
    let mut config: Value = existing.map_or(Ok(json!({})), serde_json::from_str).map_err(McpConfigError::Existing)?;
    if !config.is_object() {
        config = json!({});
    }
    let mut servers = config.get("servers").and_then(Value::as_object).cloned().unwrap_or_default();
    for caller in all.iter().filter(|caller| wanted.is_empty() || wanted.iter().any(|part| fits(&caller.name, part))) {
        let name = caller.name.to_lowercase().replace(' ', "-");
        let server = json!({ "type": "http", "url": url, "headers": { DEVELOPMENT_HEADER: caller.principal } });
        servers.insert(name, server);
    }
    if let Some(config) = config.as_object_mut() {
        config.insert("servers".to_owned(), Value::Object(Map::from_iter(servers)));
    }
    let text = serde_json::to_string_pretty(&config).map_err(McpConfigError::Existing)?;
    Ok(format!("{text}\n"))
}
