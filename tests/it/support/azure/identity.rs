//! The managed-identity endpoint of App Service and Functions, with a user-assigned identity and no system-assigned
//! one, and the tokens that it gave. The other fakes ask here whether a token is for them.
//! <https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use reqwest::Url;
use serde_json::json;

use super::script::{Faults, Requests, says};

/// The client id of the identity.
pub const CLIENT_ID: &str = "0f1e2d3c-4b5a-4678-8796-a5b4c3d2e1f0";
/// Resources, as tokens are made out to.
pub const KEY_VAULT: &str = "https://vault.azure.net";
pub const COGNITIVE_SERVICES: &str = "https://cognitiveservices.azure.com";

pub(super) const PATH: &str = "/msi/token";

#[derive(Clone, Copy, Debug)]
pub enum IdentityFault {
    /// 400: no such identity.
    NotFound,
    /// 429 without a time.
    Throttled,
    /// 500.
    Failing,
    /// No answer, ever.
    Hangs,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenProblem {
    Unknown,
    /// Made out to this resource.
    Resource(String),
    Expired,
}

pub struct Identity {
    /// What a request has to send as `X-IDENTITY-HEADER`.
    pub header: String,
    pub faults: Faults<IdentityFault>,
    pub requests: Requests,
    lifetime: Mutex<Duration>,
    issued: Mutex<Vec<Token>>,
    texts: Mutex<HashMap<String, String>>,
}

struct Token {
    text: String,
    resource: String,
    end: SystemTime,
    revoked: bool,
}

impl Identity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            header: random(),
            faults: Faults::new(),
            requests: Requests::default(),
            lifetime: Mutex::new(Duration::from_secs(24 * 3600)),
            issued: Mutex::default(),
            texts: Mutex::default(),
        })
    }

    pub(super) fn router(self: &Arc<Self>) -> Router {
        Router::new().route(PATH, get(answer)).with_state(Arc::clone(self))
    }

    /// How long new tokens live; a day unless set. The SDK asks for a new one in the last five minutes, so one that
    /// lives shorter is never kept.
    pub fn set_lifetime(&self, lifetime: Duration) {
        *self.lifetime.lock().unwrap() = lifetime;
    }

    /// A token, as the endpoint would give it.
    pub fn issue(&self, resource: &str) -> String {
        let mut issued = self.issued.lock().unwrap();
        let said = self.texts.lock().unwrap().get(resource).cloned();
        let text = said.unwrap_or_else(|| format!("loopback.{}.{}", URL_SAFE_NO_PAD.encode(resource), random()));
        let end = SystemTime::now() + *self.lifetime.lock().unwrap();
        issued.push(Token { text: text.clone(), resource: resource.to_owned(), end, revoked: false });
        text
    }

    /// From now on the tokens for a resource have this text, for a service that can not ask who issued one.
    pub fn say(&self, resource: &str, text: &str) {
        self.texts.lock().unwrap().insert(resource.to_owned(), text.to_owned());
    }

    /// All tokens that were given for a resource, oldest first: also what must not be in any log.
    pub fn issued(&self, resource: &str) -> Vec<String> {
        let issued = self.issued.lock().unwrap();
        issued.iter().filter(|token| token.resource == resource).map(|token| token.text.clone()).collect()
    }

    /// No token that was given until now is good any longer.
    pub fn revoke_all(&self) {
        self.issued.lock().unwrap().iter_mut().for_each(|token| token.revoked = true);
    }

    /// Whether a service for this resource would take the token.
    pub fn check(&self, token: &str, resource: &str) -> Result<(), TokenProblem> {
        let issued = self.issued.lock().unwrap();
        match issued.iter().find(|known| known.text == token) {
            None => Err(TokenProblem::Unknown),
            Some(known) if known.revoked || known.end <= SystemTime::now() => Err(TokenProblem::Expired),
            Some(known) if known.resource != resource => Err(TokenProblem::Resource(known.resource.clone())),
            Some(_) => Ok(()),
        }
    }

    /// The same for a request's `Authorization`. `None`: it has no bearer token.
    pub(super) fn check_request(&self, headers: &HeaderMap, resource: &str) -> Option<Result<(), TokenProblem>> {
        let token = headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
        Some(self.check(token, resource))
    }
}

async fn answer(State(identity): State<Arc<Identity>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let query = query.unwrap_or_default();
    let number = identity.requests.note(&Method::GET, PATH, &query);
    let response = match identity.faults.take() {
        None => identity.answer(&query, &headers),
        Some(IdentityFault::NotFound) => not_found(),
        Some(IdentityFault::Throttled) => failure(429, "Too many requests."),
        Some(IdentityFault::Failing) => failure(500, "An unexpected error occured while fetching the AAD Token."),
        Some(IdentityFault::Hangs) => pending().await,
    };
    identity.requests.answered(number, response)
}

impl Identity {
    fn answer(&self, query: &str, headers: &HeaderMap) -> Response {
        if headers.get("x-identity-header").is_none_or(|value| value != self.header.as_str()) {
            return failure(401, "The header X-IDENTITY-HEADER is missing or wrong.");
        }
        let url = Url::parse(&format!("http://identity/?{query}")).unwrap();
        let parameter =
            |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        if parameter("api-version").as_deref() != Some("2019-08-01") {
            return failure(400, "The parameter api-version is missing or not supported.");
        }
        let Some(resource) = parameter("resource").filter(|resource| !resource.is_empty()) else {
            return failure(400, "The parameter resource is missing.");
        };
        if parameter("client_id").as_deref() != Some(CLIENT_ID) {
            return not_found();
        }
        let end = SystemTime::now() + *self.lifetime.lock().unwrap();
        let body = json!({
            "access_token": self.issue(&resource),
            "expires_on": end.duration_since(UNIX_EPOCH).unwrap().as_secs().to_string(),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": CLIENT_ID,
        });
        says(200, &[], body)
    }
}

fn not_found() -> Response {
    failure(400, "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.")
}

fn failure(status: u16, message: &str) -> Response {
    says(status, &[], json!({ "statusCode": status, "message": message, "correlationId": random() }))
}

/// 128 random bits in hexadecimal.
pub(super) fn random() -> String {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
