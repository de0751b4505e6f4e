//! The wire format, and what an answer means.
//! <https://learn.microsoft.com/rest/api/microsoft-foundry/azureopenai/embeddings>

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::embedding::{Embedded, EmbeddingError};

/// The largest answer of the largest request has about 10 MB, if its numbers have the usual length.
const ANSWER_BYTES: usize = 64 << 20;
const EXPLANATION_BYTES: usize = 64 << 10;
const EXPLANATION_CHARS: usize = 300;

#[derive(Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    input: &'a [String],
    dimensions: usize,
    encoding_format: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
    usage: Usage,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: u64,
}

impl<'a> Request<'a> {
    /// `deployment`: what the API calls the model.
    pub(super) fn new(deployment: &'a str, input: &'a [String], dimensions: usize) -> Self {
        Self { model: deployment, input, dimensions, encoding_format: "float" }
    }
}

/// An error of the connection.
pub(super) fn broken(error: reqwest::Error) -> EmbeddingError {
    EmbeddingError::Unreachable(Box::new(error))
}

/// The vectors of an answer, checked and in order.
pub(super) async fn vectors(response: Response, texts: usize, dimensions: usize) -> Result<Embedded, EmbeddingError> {
    let body = read(response, ANSWER_BYTES).await?;
    let Ok(Answer { data: mut items, usage }) = serde_json::from_slice(&body) else {
        return Err(EmbeddingError::Shape("it is not the JSON of embeddings"));
    };
    items.sort_unstable_by_key(|item| item.index);
    if !items.iter().map(|item| item.index).eq(0..texts) {
        return Err(EmbeddingError::Shape("it has not one vector for each text"));
    }
    if items.iter().any(|item| item.embedding.len() != dimensions) {
        return Err(EmbeddingError::Shape("a vector has other dimensions"));
    }
    // A number can be fine as JSON and too large for f32.
    if items.iter().flat_map(|item| &item.embedding).any(|number| !number.is_finite()) {
        return Err(EmbeddingError::Shape("a number is not finite"));
    }
    let vectors = items.into_iter().map(|item| item.embedding).collect();
    Ok(Embedded { vectors, tokens: usage.total_tokens })
}

/// What an answer without vectors means. `secret`: what the service must not make us repeat.
pub(super) async fn refusal(response: Response, secret: &str) -> EmbeddingError {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    // The status decides; why, is good to know if it can be read.
    let (code, message) = explain(&read(response, EXPLANATION_BYTES).await.unwrap_or_default(), secret);
    let busy = status == StatusCode::TOO_MANY_REQUESTS;
    if !busy && !status.is_server_error() && status != StatusCode::REQUEST_TIMEOUT {
        EmbeddingError::Refused { status: status.as_u16(), code, message }
    } else if busy || retry_after.is_some() {
        EmbeddingError::Busy { retry_after, message }
    } else {
        EmbeddingError::Failing { status: status.as_u16(), code, message }
    }
}

/// How long the service wants to be left alone: in milliseconds as Azure OpenAI says it, in seconds, or until a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |name, unit| Duration::try_from_secs_f64(text(name)?.parse::<f64>().ok()? * unit).ok();
    number("retry-after-ms", 0.001).or_else(|| number("retry-after", 1.0)).or_else(|| {
        let date = httpdate::parse_http_date(text("retry-after")?).ok()?;
        Some(date.duration_since(SystemTime::now()).unwrap_or_default())
    })
}

/// The service's code and message, fit for a log: `{"error": {"code", "message"}}`, or `{"statusCode", "message"}` from
/// the gateway in front of it.
fn explain(body: &[u8], secret: &str) -> (String, String) {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = json.get("error").unwrap_or(&json);
    let text = |name| {
        let text = error.get(name).and_then(Value::as_str).filter(|text| !text.contains(secret)).unwrap_or_default();
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXPLANATION_CHARS).collect()
    };
    (text("code"), text("message"))
}

async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, EmbeddingError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if chunk.len() > limit - body.len() {
            return Err(EmbeddingError::Shape("it is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
