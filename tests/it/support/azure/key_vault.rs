//! The secrets of a Key Vault with role-based access. It reads secrets out, and does nothing else that a vault does.
//! <https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret/get-secret>

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use serde_json::{Value, json};

use super::TENANT;
use super::identity::{CLIENT_ID, Identity, KEY_VAULT, TokenProblem, random};
use super::script::{Faults, Requests, says};

/// The vault.
pub const VAULT_HOST: &str = "kv-test.vault.azure.net";

/// Faults come after the token was found good, as the vault throttles and authorises by who asks.
#[derive(Clone, Copy, Debug)]
pub enum VaultFault {
    /// 403: the identity has no role on the vault.
    Forbidden,
    /// 429, to be tried again after so many seconds.
    Throttled(u32),
    /// 500.
    Failing,
    /// No answer, ever.
    Hangs,
}

pub struct KeyVault {
    pub faults: Faults<VaultFault>,
    /// Of paths without a slash at their end: `/secrets/{name}`.
    pub requests: Requests,
    identity: Arc<Identity>,
    challenge: Mutex<String>,
    /// By lower-case name, for names do not differ in case; oldest version first.
    secrets: Mutex<BTreeMap<String, Vec<Version>>>,
}

#[derive(Clone)]
struct Version {
    id: String,
    value: String,
    content_type: Option<String>,
    enabled: bool,
    made: u64,
    expires: Option<u64>,
}

impl KeyVault {
    pub(super) fn new(identity: Arc<Identity>) -> Arc<Self> {
        let (faults, requests, secrets) = (Faults::new(), Requests::default(), Mutex::default());
        Arc::new(Self { faults, requests, identity, challenge: Mutex::new(KEY_VAULT.to_owned()), secrets })
    }

    pub(super) fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(answer).with_state(Arc::clone(self))
    }

    /// A secret, or a new version of it: that is how one is rotated. Returns the version.
    pub fn set(&self, name: &str, value: &str) -> String {
        let version = Version {
            id: random(),
            value: value.to_owned(),
            content_type: Some("text/plain".to_owned()),
            enabled: true,
            made: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
            expires: None,
        };
        let id = version.id.clone();
        self.secrets.lock().unwrap().entry(name.to_lowercase()).or_default().push(version);
        id
    }

    /// From now on, requests without a good token are told to get one for this resource.
    pub fn challenge_for(&self, resource: &str) {
        resource.clone_into(&mut self.challenge.lock().unwrap());
    }

    /// Disables the newest version.
    pub fn disable(&self, name: &str) {
        self.change(name, |version| version.enabled = false);
    }

    /// Gives the newest version an expiry date, in seconds since 1970. The vault still reads it out afterwards.
    pub fn set_expiry(&self, name: &str, expires: u64) {
        self.change(name, |version| version.expires = Some(expires));
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Version)) {
        let mut secrets = self.secrets.lock().unwrap();
        change(secrets.get_mut(&name.to_lowercase()).unwrap().last_mut().unwrap());
    }

    /// How often a secret was read out, in any version.
    pub fn reads(&self, name: &str) -> usize {
        let path = format!("/secrets/{name}");
        let of = |asked: &str| asked == path || asked.strip_prefix(&path).is_some_and(|rest| rest.starts_with('/'));
        self.requests.count(|asked| asked.status == 200 && of(&asked.path))
    }

    /// 401 with where to get a token, and for what.
    fn challenge(&self, message: &str) -> Response {
        let mut response = failure(401, "Unauthorized", message, None);
        let resource = self.challenge.lock().unwrap();
        let challenge =
            format!("Bearer authorization=\"https://login.microsoftonline.com/{TENANT}\", resource=\"{resource}\"");
        response.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        response
    }

    fn read(&self, path: &str) -> Response {
        let mut parts = path.split('/').skip(1);
        let (Some("secrets"), Some(name), version, None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return failure(404, "NotFound", "There is no such thing in this vault.", None);
        };
        let secrets = self.secrets.lock().unwrap();
        let versions = secrets.get(&name.to_lowercase()).map(Vec::as_slice).unwrap_or_default();
        let found = match version {
            None => versions.last(),
            Some(id) => versions.iter().find(|version| version.id == id),
        };
        let Some(found) = found else {
            let message = format!(
                "A secret with (name/id) {name} was not found in this key vault. If you recently deleted this secret \
                 you may be able to recover it using the correct recovery command. For help resolving this issue, \
                 please see https://go.microsoft.com/fwlink/?linkid=2125182"
            );
            return failure(404, "SecretNotFound", &message, None);
        };
        if !found.enabled {
            let message = "Operation get is not allowed on a disabled secret.";
            return failure(403, "Forbidden", message, Some("SecretDisabled"));
        }
        let mut attributes = json!({ "enabled": true, "created": found.made, "updated": found.made,
            "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90 });
        if let Some(expires) = found.expires {
            attributes["exp"] = json!(expires);
        }
        let mut bundle = json!({ "value": found.value, "attributes": attributes, "tags": {},
            "id": format!("https://{VAULT_HOST}/secrets/{name}/{}", found.id) });
        if let Some(content_type) = &found.content_type {
            bundle["contentType"] = json!(content_type);
        }
        vault_says(200, bundle)
    }
}

async fn answer(State(vault): State<Arc<KeyVault>>, request: Request) -> Response {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let query = request.uri().query().unwrap_or_default();
    let number = vault.requests.note(request.method(), &path, query);
    let response = match vault.identity.check_request(request.headers(), KEY_VAULT) {
        None => vault.challenge("AKV10000: Request is missing a Bearer or PoP token."),
        Some(Err(TokenProblem::Resource(found))) => {
            vault.challenge(&format!("AKV10022: Invalid audience. Expected {KEY_VAULT}, found: {found}."))
        }
        Some(Err(_)) => vault.challenge("AKV10001: The token is not valid or has expired."),
        Some(Ok(())) => match vault.faults.take() {
            None if !query.split('&').any(|pair| pair.starts_with("api-version=")) => {
                failure(400, "BadParameter", "api-version must be specified", None)
            }
            None if request.method() != Method::GET => {
                failure(405, "MethodNotAllowed", "This vault is for reading.", None)
            }
            None => vault.read(&path),
            Some(VaultFault::Forbidden) => forbidden(&path),
            Some(VaultFault::Throttled(seconds)) => throttled(seconds),
            Some(VaultFault::Failing) => failure(500, "InternalServerError", "An internal error occurred.", None),
            Some(VaultFault::Hangs) => pending().await,
        },
    };
    vault.requests.answered(number, response)
}

fn forbidden(path: &str) -> Response {
    let message = format!(
        "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role \
         definitions were changed recently, please observe propagation time.\r\nCaller: appid={CLIENT_ID};oid={};\
         iss=https://sts.windows.net/{TENANT}/\r\nAction: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\n\
         Resource: '/subscriptions/{}/resourcegroups/rg-test/providers/microsoft.keyvault/vaults/kv-test{path}'\r\n\
         Assignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: null \r\n\
         Vault: kv-test;location=westeurope\r\n",
        random(),
        random()
    );
    failure(403, "Forbidden", &message, Some("ForbiddenByRbac"))
}

fn throttled(seconds: u32) -> Response {
    let message =
        "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached";
    let mut response = failure(429, "Throttled", message, None);
    response.headers_mut().insert("retry-after", seconds.into());
    response
}

fn failure(status: u16, code: &str, message: &str, inner: Option<&str>) -> Response {
    let mut error = json!({ "code": code, "message": message });
    if let Some(inner) = inner {
        error["innererror"] = json!({ "code": inner });
    }
    vault_says(status, json!({ "error": error }))
}

fn vault_says(status: u16, body: Value) -> Response {
    let headers: HeaderMap = [
        ("cache-control", "no-cache".to_owned()),
        ("x-ms-keyvault-region", "westeurope".to_owned()),
        ("x-ms-request-id", random()),
    ]
    .into_iter()
    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
    .collect();
    let mut response = says(status, &[], body);
    response.headers_mut().extend(headers);
    response
}
