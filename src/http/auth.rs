//! Who sends a request: found out once, before anything else reads it, and carried with it. Whoever has to sign in is
//! told how, as RFC 6750 and RFC 9728 have it and MCP's authorization asks for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HOST, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::MCP_PATH;
use crate::config::{EntraChoice, IdentitySettings};
use crate::identity::{Challenge, Refusal, Verifier};
use crate::mcp::CallStatus;
use crate::telemetry::measure;

/// Where the metadata of the protected resource is, RFC 9728 section 3.1: followed by the resource's path, or not.
pub(super) const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

/// The door: who is let in, and what others are told.
pub(super) struct Door {
    verifier: Verifier,
    entra: EntraChoice,
    public_url: Option<String>,
}

impl Door {
    pub(super) fn new(verifier: Verifier, settings: &IdentitySettings) -> Self {
        Self { verifier, entra: settings.entra.clone(), public_url: settings.public_url.clone() }
    }

    /// Where this client reaches the server.
    fn address(&self, headers: &HeaderMap) -> String {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        // It is quoted in a header; what is no host's name goes no further.
        let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(*c)).collect();
        self.public_url.clone().unwrap_or_else(|| format!("http://{host}"))
    }

    /// The scopes as a client asks Entra for them.
    fn scopes(&self) -> Vec<String> {
        let audience = self.entra.audiences.iter().find(|audience| audience.contains("://"));
        let resource = match (audience, self.entra.audiences.first()) {
            (Some(uri), _) => uri.clone(),
            (None, Some(id)) => format!("api://{id}"),
            (None, None) => return Vec::new(),
        };
        self.entra.scopes.iter().map(|scope| format!("{resource}/{scope}")).collect()
    }

    /// RFC 6750 section 3, with the parameter of RFC 9728 section 5.1 where this server has metadata.
    fn challenge(&self, challenge: Challenge, sentence: &str, headers: &HeaderMap) -> Option<HeaderValue> {
        let code = match challenge {
            Challenge::SignIn => None,
            Challenge::InvalidToken => Some("invalid_token"),
            Challenge::InsufficientScope => Some("insufficient_scope"),
            Challenge::None | Challenge::TryAgain(_) => return None,
        };
        let mut parameters = Vec::new();
        if let Some(code) = code {
            let sentence: String = sentence.chars().filter(|c| c.is_ascii() && !"\"\\".contains(*c)).collect();
            parameters.push(format!("error=\"{code}\", error_description=\"{sentence}\""));
        }
        if self.verifier.entra().is_some() {
            let address = self.address(headers);
            parameters.push(format!("resource_metadata=\"{address}{METADATA_PATH}{MCP_PATH}\""));
            parameters.push(format!("scope=\"{}\"", self.scopes().join(" ")));
        }
        HeaderValue::try_from(format!("Bearer {}", parameters.join(", ")).trim()).ok()
    }

    fn refuse(&self, refusal: &Refusal, challenge: Challenge, headers: &HeaderMap) -> Response {
        let sentence = refusal.to_string();
        let code = match challenge {
            Challenge::None | Challenge::SignIn => "unauthorized",
            Challenge::InvalidToken => "invalid_token",
            Challenge::InsufficientScope => "insufficient_scope",
            Challenge::TryAgain(_) => "temporarily_unavailable",
        };
        let body = Json(json!({ "error": code, "error_description": sentence }));
        let header = self.challenge(challenge, &sentence, headers);
        with_status(body.into_response(), challenge, header)
    }
}

/// Puts the caller beside the request, or answers why there is none. Where a header is believed there is nothing to sign
/// in to: what needs no caller is answered all the same, and the rest refused where it is asked for.
pub(super) async fn prove_caller(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let proved = door.verifier.verify(request.headers()).await;
    if let Err(refusal) = &proved {
        let challenge = refusal.challenge();
        measure::refused(refusal.reason());
        if challenge != Challenge::None {
            tracing::info!(error = refusal as &dyn std::error::Error, "nobody was let in");
            return door.refuse(refusal, challenge, request.headers());
        }
    }
    let status = CallStatus::default();
    request.extensions_mut().insert(status.clone());
    request.extensions_mut().insert(proved);
    let headers = request.headers().clone();
    let response = next.run(request).await;
    match status.said() {
        Some(challenge) => {
            with_status(response, challenge, door.challenge(challenge, "The token was revoked.", &headers))
        }
        None => response,
    }
}

/// The metadata of this resource, RFC 9728 section 2, for clients that have to sign in with Entra.
pub(super) async fn metadata(State(door): State<Arc<Door>>, headers: HeaderMap) -> Response {
    let EntraChoice { authority, tenant, .. } = &door.entra;
    let (Some(_), Some(tenant)) = (door.verifier.entra(), tenant) else {
        return super::landing::not_found().await.into_response();
    };
    let metadata = json!({
        "resource": format!("{}{MCP_PATH}", door.address(&headers)),
        "authorization_servers": [format!("{}/{tenant}/v2.0", authority.trim_end_matches('/'))],
        "scopes_supported": door.scopes(),
        "bearer_methods_supported": ["header"],
        "resource_name": "Rowgate",
    });
    // It is public, and clients in a browser read it before they have signed in.
    ([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(metadata)).into_response()
}

fn with_status(mut response: Response, challenge: Challenge, header: Option<HeaderValue>) -> Response {
    *response.status_mut() = match challenge {
        Challenge::None => return response,
        Challenge::SignIn | Challenge::InvalidToken => StatusCode::UNAUTHORIZED,
        Challenge::InsufficientScope => StatusCode::FORBIDDEN,
        Challenge::TryAgain(after) => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    if let Some(header) = header {
        response.headers_mut().insert(WWW_AUTHENTICATE, header);
    }
    response
}
