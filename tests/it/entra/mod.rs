//! Microsoft Entra's tokens against a server on loopback that publishes keys as Entra does. The tokens are signed by
//! another library than the one that checks them. Here is the tenant that every test reads, with two keys of its own.

mod claims;
mod keys;
mod outages;
mod signatures;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{StreamExt, stream};
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData, SigningKey};
use rowgate::identity::{EntraRefusal, EntraSettings, EntraVerifier};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

const TENANT: &str = "8f9c1b1e-6a3a-4d0f-9d53-0e7cf5a4b1d2";
const OTHER_TENANT: &str = "4a1c7f5e-0b52-4f0e-8e0c-2d7f6f9f3c11";
const DOMAIN: &str = "contoso.onmicrosoft.com";
const AUDIENCE: &str = "6e74172b-be56-4843-9ff4-e66a39bb12e3";
const OBJECT: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";

/// Longer than anything here takes. Only a test that fails waits for it.
const LONG: Duration = Duration::from_secs(30);

struct Key {
    id: &'static str,
    pair: KeyPair,
}

static OLD: LazyLock<Key> = LazyLock::new(|| Key::new("old-kWBhnQ6bXJ2gZcQ3uJg-Tg"));
static NEW: LazyLock<Key> = LazyLock::new(|| Key::new("new-8IIDH6M8c3cXoeojKme8Jv"));

impl Key {
    fn new(id: &'static str) -> Self {
        Self { id, pair: KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap() }
    }

    /// The modulus, from `RSAPublicKey` of RFC 8017: two integers of 257 and 3 bytes.
    fn modulus(&self) -> &[u8] {
        let der = self.pair.der_bytes();
        assert_eq!(
            (&der[..9], &der[265..]),
            (&b"\x30\x82\x01\x0a\x02\x82\x01\x01\x00"[..], &b"\x02\x03\x01\x00\x01"[..])
        );
        &der[9..265]
    }

    /// As Entra publishes it, with what it writes beside.
    fn jwk(&self) -> Value {
        json!({"kty": "RSA", "use": "sig", "kid": self.id, "x5t": self.id, "n": URL_SAFE_NO_PAD.encode(self.modulus()),
            "e": "AQAB", "x5c": ["MIIC"], "cloud_instance_name": "microsoftonline.com"})
    }

    fn header(&self) -> Value {
        json!({"typ": "JWT", "alg": "RS256", "x5t": self.id, "kid": self.id})
    }

    fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    fn token_with(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = self.pair.sign(message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// What Entra does with one request for keys.
#[derive(Clone)]
enum Reply {
    /// These keys.
    Keys(Vec<Value>),
    /// This and nothing else.
    Says(u16, String),
    /// Go there.
    Redirects(String),
    /// No answer, ever.
    Hangs,
    /// Half of an answer, and no more.
    Stalls,
    /// Half of an answer, and the end of the connection.
    Breaks,
    /// An answer without an end.
    Floods,
}

struct Entra {
    address: SocketAddr,
    reply: Mutex<Reply>,
    /// What it says to which tenant a domain belongs.
    issuer: Mutex<String>,
    asked: watch::Sender<Vec<String>>,
}

impl Entra {
    async fn start(reply: Reply) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let issuer = Mutex::new(format!("http://{address}/{TENANT}/v2.0"));
        let entra = Arc::new(Self { address, reply: Mutex::new(reply), issuer, asked: watch::Sender::default() });
        let router = axum::Router::new().fallback(answer).with_state(entra.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        entra
    }

    /// Publishes these keys from now on.
    fn publish(&self, keys: &[&Key]) {
        self.will(Reply::Keys(keys.iter().map(|key| key.jwk()).collect()));
    }

    fn will(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    fn requests(&self) -> usize {
        self.asked.borrow().len()
    }

    /// Until it was asked so often.
    async fn was_asked(&self, times: usize) {
        let mut asked = self.asked.subscribe();
        timeout(LONG, asked.wait_for(|asked| asked.len() >= times)).await.expect("it is not asked").unwrap();
    }

    fn settings(&self) -> EntraSettings {
        EntraSettings {
            authority: format!("http://{}", self.address),
            tenant: TENANT.into(),
            audiences: vec!["api://rowgate".into(), AUDIENCE.into()],
            scopes: vec!["Rows.Read".into(), "Rows.Write".into()],
            app_roles: vec!["Rows.Read.All".into()],
        }
    }

    fn verifier(&self) -> EntraVerifier {
        EntraVerifier::new(self.settings()).unwrap()
    }

    /// Of a user, good now.
    fn claims(&self) -> Value {
        let now = now();
        json!({
            "aud": AUDIENCE, "iss": format!("http://{}/{TENANT}/v2.0", self.address), "iat": now - 300, "nbf": now - 300,
            "exp": now + 3600, "azp": "1fec8e78-bce4-4aaf-ab1b-5451cc387264", "azpacr": "0", "name": "Ada",
            "oid": OBJECT, "preferred_username": "ada@example.com", "rh": "0.AAA", "scp": "openid Rows.Read",
            "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ", "tid": TENANT, "uti": "AAA", "ver": "2.0",
        })
    }

    fn changed(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        OLD.token(&claims)
    }
}

async fn answer(State(entra): State<Arc<Entra>>, request: Request) -> Response {
    let path = request.uri().to_string();
    entra.asked.send_modify(|asked| asked.push(path.clone()));
    let answer = Response::builder().header("content-type", "application/json; charset=utf-8");
    if path == format!("/{DOMAIN}/v2.0/.well-known/openid-configuration") {
        let issuer = entra.issuer.lock().unwrap().clone();
        return answer.body(Body::from(json!({"token_endpoint": "https://x", "issuer": issuer}).to_string())).unwrap();
    }
    if ![TENANT, DOMAIN].iter().any(|tenant| path == format!("/{tenant}/discovery/v2.0/keys")) {
        return answer.status(404).body(Body::empty()).unwrap();
    }
    let reply = entra.reply.lock().unwrap().clone();
    let half = Ok(Bytes::from_static(br#"{"keys":[{"kty":"RSA","#));
    match reply {
        Reply::Keys(keys) => answer.body(Body::from(json!({"keys": keys}).to_string())),
        Reply::Says(status, body) => answer.status(status).body(Body::from(body)),
        Reply::Redirects(to) => answer.status(302).header("location", to).body(Body::empty()),
        Reply::Hangs => pending().await,
        Reply::Stalls => answer.body(Body::from_stream(stream::iter([half]).chain(stream::pending::<io::Result<_>>()))),
        Reply::Breaks => answer.body(Body::from_stream(stream::iter([half, Err(io::Error::other("broken"))]))),
        Reply::Floods => {
            let flood = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[b' '; 1 << 16])));
            answer.body(Body::from_stream(flood))
        }
    }
    .unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Moves the clock of Tokio, by which the age of keys is told, and not that by which tokens are.
async fn later(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

async fn names(verifier: &EntraVerifier, token: &str) -> Result<Vec<String>, EntraRefusal> {
    let outcome = timeout(LONG, verifier.verify(token)).await.expect("it does not end");
    if let Err(refusal) = &outcome {
        let text = format!("{refusal} {refusal:?}");
        let parts = token.split('.').filter(|part| part.len() > 8);
        for part in parts.chain([OLD.id, NEW.id, OBJECT, TENANT, "sts.example.com"]) {
            assert!(!text.contains(part), "{text}");
        }
    }
    outcome.map(|principals| principals.iter().map(|p| p.as_str().to_owned()).collect())
}

async fn refused(verifier: &EntraVerifier, token: &str) -> EntraRefusal {
    names(verifier, token).await.expect_err("it is taken")
}

fn retry_after(refusal: &EntraRefusal) -> u64 {
    assert_eq!((refusal.status(), refusal.code()), (StatusCode::SERVICE_UNAVAILABLE, None), "{refusal:?}");
    refusal.retry_after().unwrap().as_secs()
}
