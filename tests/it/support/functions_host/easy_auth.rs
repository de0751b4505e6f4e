//! App Service authentication in front of the host: it knows some bearer tokens, tells the app who sent them, and lets
//! nobody else pass. Without it, headers that claim to come from it pass too.
//! <https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities>

use std::collections::HashMap;
use std::sync::Mutex;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::azure::{APP_ID, Entra, TENANT};

const PREFIX: &str = "x-ms-client-principal";
const METADATA: &str = "/.well-known/oauth-protected-resource";
/// Set to the scopes of the app, it makes the platform publish the protected resource's metadata (RFC 9728).
const SCOPES: &str = "WEBSITE_AUTH_PRM_DEFAULT_WITH_SCOPES";

/// A caller as the platform tells of one.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The object id, which is also a claim.
    pub object_id: String,
    pub name: String,
    /// Further claims: type and value.
    pub claims: Vec<(String, String)>,
}

/// The stage. Off, it leaves requests as they are.
pub struct EasyAuth {
    on: bool,
    known: Mutex<HashMap<String, Principal>>,
}

impl EasyAuth {
    pub fn off() -> Self {
        Self { on: false, known: Mutex::default() }
    }

    /// Every request needs a token of someone known.
    pub fn on() -> Self {
        Self { on: true, known: Mutex::default() }
    }

    pub fn is_on(&self) -> bool {
        self.on
    }

    /// From now on, this token is this caller's.
    pub fn know(&self, token: &str, principal: Principal) {
        self.known.lock().unwrap().insert(token.to_owned(), principal);
    }

    /// Changes the headers of a request to a path, or answers it itself.
    pub(super) fn pass(
        &self,
        path: &str,
        headers: &mut HeaderMap,
        settings: &[(String, String)],
    ) -> Option<Response<Body>> {
        if !self.on {
            return None;
        }
        let scopes = settings.iter().find(|(name, _)| name == SCOPES).map(|(_, value)| value.as_str());
        let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        if let Some(scopes) = scopes
            && let Some(resource) = path.strip_prefix(METADATA)
        {
            return Some(metadata(&host, resource, scopes));
        }
        let forged: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
        for name in forged {
            headers.remove(name);
        }
        let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let principal = token.and_then(|token| self.known.lock().unwrap().get(token).cloned());
        let Some(principal) = principal else { return Some(refusal(&host, path, scopes.is_some())) };
        for (name, value) in principal.headers() {
            headers.insert(name, HeaderValue::from_str(&value).unwrap());
        }
        None
    }
}

impl Principal {
    fn headers(&self) -> [(&'static str, String); 4] {
        let own = [
            ("http://schemas.microsoft.com/identity/claims/objectidentifier", self.object_id.as_str()),
            ("http://schemas.microsoft.com/identity/claims/tenantid", TENANT),
            ("name", self.name.as_str()),
        ];
        let more = self.claims.iter().map(|(typ, val)| (typ.as_str(), val.as_str()));
        let claims: Vec<Value> =
            own.into_iter().chain(more).map(|(typ, val)| json!({ "typ": typ, "val": val })).collect();
        let principal = json!({
            "auth_typ": "aad",
            "claims": claims,
            "name_typ": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
            "role_typ": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
        });
        [
            ("x-ms-client-principal", STANDARD.encode(principal.to_string())),
            ("x-ms-client-principal-id", self.object_id.clone()),
            ("x-ms-client-principal-name", self.name.clone()),
            ("x-ms-client-principal-idp", "aad".to_owned()),
        ]
    }
}

fn refusal(host: &str, path: &str, published: bool) -> Response<Body> {
    let mut challenge = format!(
        "Bearer realm=\"{host}\" authorization_uri=\"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/authorize\" \
         resource_id=\"{APP_ID}\""
    );
    if published {
        challenge = format!("Bearer resource_metadata=\"https://{host}{METADATA}{path}\"");
    }
    Response::builder()
        .status(StatusCode::UNAUTHORIZED)
        .header("www-authenticate", challenge)
        .body(Body::from("You do not have permission to view this directory or page."))
        .unwrap()
}

fn metadata(host: &str, resource: &str, scopes: &str) -> Response<Body> {
    let document = json!({
        "resource": format!("https://{host}{resource}"),
        "authorization_servers": [Entra::issuer()],
        "scopes_supported": scopes.split([',', ' ']).filter(|scope| !scope.is_empty()).collect::<Vec<_>>(),
    });
    Response::builder().header("content-type", "application/json").body(Body::from(document.to_string())).unwrap()
}
