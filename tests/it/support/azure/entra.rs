//! Microsoft Entra as far as a resource server sees it: the metadata and signing keys of one tenant, and access tokens
//! of version 2.0. It signs nobody in.
//! <https://learn.microsoft.com/entra/identity-platform/access-tokens>

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey};
use serde_json::{Value, json};

use super::TENANT;
use super::identity::random;
use super::script::{Faults, Requests, says};

pub const LOGIN_HOST: &str = "login.microsoftonline.com";
/// The signing keys, after the tenant.
pub const KEYS: &str = "/discovery/v2.0/keys";
/// The app registration that tokens are for: the audience of version 2.0.
pub const APP_ID: &str = "7c1d0a52-9d3e-4f0b-8a6e-2f4b6c8d0e12";
/// The client that asked for them, which is VS Code.
pub const VS_CODE: &str = "aebc6443-996d-45c2-90f0-388ff96faa56";

#[derive(Clone, Copy, Debug)]
pub enum EntraFault {
    /// 503.
    Failing,
    /// No answer, ever.
    Hangs,
}

pub struct Entra {
    pub faults: Faults<EntraFault>,
    pub requests: Requests,
    keys: Mutex<Vec<Key>>,
}

struct Key {
    id: String,
    pair: KeyPair,
}

impl Entra {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { faults: Faults::new(), requests: Requests::default(), keys: Mutex::default() })
    }

    pub(super) fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(answer).with_state(Arc::clone(self))
    }

    /// Who issues the tokens.
    pub fn issuer() -> String {
        format!("https://{LOGIN_HOST}/{TENANT}/v2.0")
    }

    /// A token of the published key. Claims that are not given are those of a person who uses VS Code, good for an
    /// hour from now; one that is given as null is left out.
    pub fn token(&self, claims: Value) -> String {
        let keys = self.keys();
        keys[0].sign(&keys[0].id, claims)
    }

    /// The same, signed by a key that is not published, under the id of the one that is.
    pub fn forged_token(&self, claims: Value) -> String {
        let id = self.keys()[0].id.clone();
        Key::generate().sign(&id, claims)
    }

    /// Another key from now on; the last one is not published any longer.
    pub fn rotate(&self) {
        *self.keys() = vec![Key::generate()];
    }

    /// Keys are made when they are first needed: few tests need one.
    fn keys(&self) -> MutexGuard<'_, Vec<Key>> {
        let mut keys = self.keys.lock().unwrap();
        if keys.is_empty() {
            keys.push(Key::generate());
        }
        keys
    }

    /// The published keys (RFC 7517). As in Entra they have no `alg`, and an issuer each.
    fn key_set(&self) -> Value {
        let keys: Vec<Value> = self.keys().iter().map(Key::published).collect();
        json!({ "keys": keys })
    }
}

impl Key {
    fn generate() -> Self {
        Self { id: random(), pair: KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap() }
    }

    fn published(&self) -> Value {
        let (modulus, exponent) = modulus_and_exponent(self.pair.public_key_raw());
        json!({ "kty": "RSA", "use": "sig", "kid": self.id, "x5t": self.id, "issuer": Entra::issuer(),
            "n": URL_SAFE_NO_PAD.encode(modulus), "e": URL_SAFE_NO_PAD.encode(exponent),
            "cloud_instance_name": "microsoftonline.com" })
    }

    /// A token in compact form (RFC 7515) under a key id.
    fn sign(&self, id: &str, claims: Value) -> String {
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": id });
        let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encoded(&header), encoded(&complete(claims)));
        let signature = self.pair.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn complete(claims: Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut all = json!({
        "aud": APP_ID, "iss": Entra::issuer(), "tid": TENANT, "ver": "2.0", "iat": now, "nbf": now, "exp": now + 3600,
        "azp": VS_CODE, "azpacr": "0", "scp": "user_impersonation", "name": "Sam of Seattle",
        "preferred_username": "sam@zava.example", "oid": "b7c0e5a1-52a3-4c49-9d5e-0a1b2c3d4e5f",
        "sub": "Zk1hbm9uLXBhaXJ3aXNlLXN1YmplY3Q",
    });
    for (name, value) in claims.as_object().unwrap() {
        match value {
            Value::Null => _ = all.as_object_mut().unwrap().remove(name),
            value => all[name] = value.clone(),
        }
    }
    all
}

/// The two numbers of an RSAPublicKey (RFC 8017, appendix A.1.1), without leading zeros.
fn modulus_and_exponent(der: &[u8]) -> (&[u8], &[u8]) {
    let (sequence, _) = element(0x30, der);
    let (modulus, rest) = element(0x02, sequence);
    let (exponent, _) = element(0x02, rest);
    (without_zero(modulus), without_zero(exponent))
}

fn without_zero(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}

/// An element's content, and what follows it.
fn element(tag: u8, der: &[u8]) -> (&[u8], &[u8]) {
    assert_eq!(der[0], tag);
    let (length, start) = match der[1] {
        short @ ..0x80 => (usize::from(short), 2),
        long => {
            let bytes = usize::from(long & 0x7f);
            (der[2..2 + bytes].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + bytes)
        }
    };
    der[start..].split_at(length)
}

async fn answer(State(entra): State<Arc<Entra>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let number = entra.requests.note(request.method(), &path, request.uri().query().unwrap_or_default());
    let of_tenant = path.strip_prefix(&format!("/{TENANT}"));
    let response = match (entra.faults.take(), of_tenant) {
        (Some(EntraFault::Hangs), _) => pending().await,
        (Some(EntraFault::Failing), _) => says(503, &[], json!({ "error": "temporarily_unavailable" })),
        (None, Some(KEYS)) => says(200, &[("cache-control", "max-age=86400, private")], entra.key_set()),
        (None, Some("/v2.0/.well-known/openid-configuration")) => {
            let base = format!("https://{LOGIN_HOST}/{TENANT}");
            let document = json!({
                "issuer": Entra::issuer(),
                "jwks_uri": format!("{base}{KEYS}"),
                "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
                "token_endpoint": format!("{base}/oauth2/v2.0/token"),
                "id_token_signing_alg_values_supported": ["RS256"],
                "subject_types_supported": ["pairwise"],
            });
            says(200, &[("cache-control", "max-age=86400, private")], document)
        }
        (None, _) => {
            let description = "AADSTS90002: Tenant not found. Check to make sure you have the correct tenant ID.";
            says(400, &[], json!({ "error": "invalid_tenant", "error_description": description }))
        }
    };
    entra.requests.answered(number, response)
}
