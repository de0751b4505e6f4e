//! Azure OpenAI's embeddings (v1 API): vectors that depend on the text alone and mean nothing.
//! <https://learn.microsoft.com/rest/api/microsoft-foundry/azureopenai/embeddings>

use std::future::pending;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::identity::{COGNITIVE_SERVICES, Identity, random};
use super::script::{Faults, Requests, says};

pub const OPENAI_HOST: &str = "oai-test.openai.azure.com";
/// The path of the API.
pub const EMBEDDINGS: &str = "/openai/v1/embeddings";

/// Most dimensions, which are those of `text-embedding-3-small`.
const DIMENSIONS: u64 = 1536;

/// Faults come after the credential was found good.
#[derive(Clone, Copy, Debug)]
pub enum OpenAiFault {
    /// 401 all the same, as right after a role was given.
    Unauthorized,
    /// 403: the identity has no role on the resource.
    Forbidden,
    /// 404.
    DeploymentNotFound,
    /// 429, to be tried again after so many seconds.
    Throttled(u32),
    /// 500.
    Failing,
    /// No answer, ever.
    Hangs,
}

pub struct OpenAi {
    pub faults: Faults<OpenAiFault>,
    pub requests: Requests,
    /// The resource's key.
    pub key: String,
    identity: Arc<Identity>,
    texts: Mutex<Vec<String>>,
}

impl OpenAi {
    pub(super) fn new(identity: Arc<Identity>) -> Arc<Self> {
        let (faults, requests) = (Faults::new(), Requests::default());
        Arc::new(Self { faults, requests, key: random(), identity, texts: Mutex::default() })
    }

    pub(super) fn router(self: &Arc<Self>) -> Router {
        Router::new().route(EMBEDDINGS, post(answer)).with_state(Arc::clone(self))
    }

    /// Every text that was embedded, in order.
    pub fn texts(&self) -> Vec<String> {
        self.texts.lock().unwrap().clone()
    }

    /// The vector of a text: of length 1, and always the same.
    pub fn vector(text: &str, dimensions: usize) -> Vec<f32> {
        let digest: [u8; 32] = Sha256::digest(text).into();
        let mut state = u64::from_le_bytes(*digest.first_chunk().unwrap());
        let numbers: Vec<f64> = (0..dimensions).map(|_| uniform(&mut state)).collect();
        let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
        numbers.iter().map(|number| (number / length) as f32).collect()
    }

    fn embed(&self, body: &[u8]) -> Response {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return bad("We could not parse the JSON body of your request.", None);
        };
        let Some(model) = body["model"].as_str() else {
            return bad("you must provide a model parameter", Some("model"));
        };
        let texts: Option<Vec<&str>> = match &body["input"] {
            Value::String(text) => Some(vec![text]),
            Value::Array(texts) => texts.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let Some(texts) = texts.filter(|texts| !texts.is_empty() && texts.iter().all(|text| !text.is_empty())) else {
            return bad("'$.input' is invalid. Please check the API reference.", Some("input"));
        };
        if texts.len() > 2048 {
            return bad("'input' array must have at most 2048 elements.", Some("input"));
        }
        let dimensions = if body["dimensions"].is_null() { Some(DIMENSIONS) } else { body["dimensions"].as_u64() };
        let Some(dimensions) = dimensions.filter(|number| (1..=DIMENSIONS).contains(number)) else {
            return bad("Invalid value for 'dimensions'.", Some("dimensions"));
        };
        let in_base64 = match body["encoding_format"].as_str().unwrap_or("float") {
            "float" => false,
            "base64" => true,
            _ => return bad("Invalid value for 'encoding_format'.", Some("encoding_format")),
        };
        let vectors = texts.iter().map(|text| Self::vector(text, dimensions as usize));
        let shown = vectors.map(|vector| match in_base64 {
            false => json!(vector),
            true => json!(STANDARD.encode(vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())),
        });
        let data: Vec<Value> = shown
            .enumerate()
            .map(|(index, embedding)| json!({ "object": "embedding", "index": index, "embedding": embedding }))
            .collect();
        // About four characters a token.
        let tokens: usize = texts.iter().map(|text| text.chars().count().div_ceil(4)).sum();
        self.texts.lock().unwrap().extend(texts.iter().map(|text| (*text).to_owned()));
        let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
        says(200, &[], json!({ "object": "list", "data": data, "model": model, "usage": usage }))
    }
}

async fn answer(State(openai): State<Arc<OpenAi>>, headers: HeaderMap, body: Bytes) -> Response {
    let number = openai.requests.note(&Method::POST, EMBEDDINGS, "");
    let by_key = headers.get("api-key").map(|key| key == openai.key.as_str());
    let by_token = openai.identity.check_request(&headers, COGNITIVE_SERVICES).map(|checked| checked.is_ok());
    let response = match (by_key.or(by_token), openai.faults.take()) {
        (Some(true), None) => openai.embed(&body),
        (Some(true), Some(OpenAiFault::Forbidden)) => forbidden(),
        (Some(true), Some(OpenAiFault::DeploymentNotFound)) => {
            let message = "The API deployment for this resource does not exist. If you created the deployment within \
                           the last 5 minutes, please wait a moment and try again.";
            says(404, &[], json!({ "error": { "code": "DeploymentNotFound", "message": message } }))
        }
        (Some(true), Some(OpenAiFault::Throttled(seconds))) => {
            let message = format!(
                "Requests to the Embeddings_Create Operation have exceeded call rate limit. Please retry after \
                 {seconds} second."
            );
            let error = json!({ "error": { "code": "429", "message": message } });
            says(429, &[("retry-after", &seconds.to_string())], error)
        }
        (Some(true), Some(OpenAiFault::Failing)) => {
            let message = "Backend returned unexpected response.";
            says(500, &[], json!({ "error": { "code": "InternalServerError", "message": message } }))
        }
        (Some(true), Some(OpenAiFault::Hangs)) => pending().await,
        // The gateway in front of the service says this, and has no `error` around it.
        _ => {
            let message = format!(
                "Unauthorized. Access token is missing, invalid, audience is incorrect ({COGNITIVE_SERVICES}), or \
                 have expired."
            );
            says(401, &[], json!({ "statusCode": 401, "message": message }))
        }
    };
    openai.requests.answered(number, response)
}

fn forbidden() -> Response {
    let message = "The principal lacks the required data action \
                   `Microsoft.CognitiveServices/accounts/OpenAI/deployments/embeddings/action` to perform \
                   `POST /openai/v1/embeddings` operation.";
    says(403, &[], json!({ "error": { "code": "PermissionDenied", "message": message } }))
}

fn bad(message: &str, parameter: Option<&str>) -> Response {
    let error = json!({ "message": message, "type": "invalid_request_error", "param": parameter, "code": null });
    says(400, &[], json!({ "error": error }))
}

/// The next number of a SplitMix64 sequence, from -1 to 1.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}
