//! Microsoft Entra's tokens against a server on loopback that publishes keys as Entra does. The tokens are signed by
//! another library than the one that checks them. One long file, because every test reads the same tenant.

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
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PKCS_RSA_SHA256, PKCS_RSA_SHA512, PublicKeyData, SigningKey};
use rowgate::identity::{EntraRefusal, EntraSettings, EntraVerifier};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
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

#[tokio::test]
async fn a_users_token() {
    let entra = Entra::start(Reply::Keys(vec![NEW.jwk(), OLD.jwk()])).await;
    let verifier = entra.verifier();
    assert_eq!(entra.requests(), 0);
    assert_eq!(names(&verifier, &OLD.token(&entra.claims())).await.unwrap(), [OBJECT]);
    assert_eq!(names(&verifier, &NEW.token(&entra.claims())).await.unwrap(), [OBJECT]);
    assert_eq!(*entra.asked.borrow(), [format!("/{TENANT}/discovery/v2.0/keys")]);
    assert_eq!(verifier.scopes(), ["Rows.Read", "Rows.Write"]);

    // As RFC 9068 has it, and for several audiences.
    let token = OLD.token_with(&json!({"typ": "at+jwt", "alg": "RS256", "kid": OLD.id}), &entra.claims());
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    let token = entra.changed(|c| c["aud"] = json!(["https://graph.microsoft.com", "api://rowgate"]));
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
}

#[tokio::test]
async fn groups_and_roles() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let token = entra.changed(|c| {
        c["groups"] =
            json!(["93e8f556-8661-4955-87b6-890bc043c30f", "not one", 7, "fc781505-18ef-4a31-a7d5-7d931d7b857e"]);
        c["roles"] = json!(["Manager", "Rows.Read.All"]);
    });
    let all = [
        OBJECT,
        "group:93e8f556-8661-4955-87b6-890bc043c30f",
        "group:fc781505-18ef-4a31-a7d5-7d931d7b857e",
        "role:Manager",
    ];
    assert_eq!(names(&verifier, &token).await.unwrap(), all);

    let token = entra.changed(|c| {
        c["_claim_names"] = json!({"groups": "src1"});
        c["_claim_sources"] = json!({"src1": {"endpoint": format!("http://{}/groups", entra.address)}});
    });
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    let token = entra.changed(|c| c["hasgroups"] = json!(true));
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    assert_eq!(entra.requests(), 1);
}

#[tokio::test]
async fn tokens_for_others_and_of_others() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    for aud in [json!("https://graph.microsoft.com"), json!(["a", "b"]), json!([]), json!(""), json!("api://rowgate/")]
    {
        let refusal = refused(&verifier, &entra.changed(|c| c["aud"] = aud)).await;
        assert_eq!(refusal, EntraRefusal::Audience);
        assert_eq!((refusal.status(), refusal.code()), (StatusCode::UNAUTHORIZED, Some("invalid_token")));
    }
    for iss in [
        format!("http://{}/{OTHER_TENANT}/v2.0", entra.address),
        format!("http://{}/{TENANT}", entra.address),
        format!("https://{}/{TENANT}/v2.0", entra.address),
        format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
        format!("https://sts.example.com/{TENANT}/v2.0"),
        // Tokens of the first version are the public cloud's.
        format!("https://sts.windows.net/{TENANT}/"),
    ] {
        assert_eq!(refused(&verifier, &entra.changed(|c| c["iss"] = json!(iss))).await, EntraRefusal::Issuer);
    }
    for tid in [json!(OTHER_TENANT), json!(null), json!("")] {
        assert_eq!(refused(&verifier, &entra.changed(|c| c["tid"] = tid)).await, EntraRefusal::Issuer);
    }
}

#[tokio::test]
async fn the_token_does_not_choose_how_it_is_checked() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let claims = entra.claims();
    let with = |changes: Value| {
        let mut header = OLD.header();
        header.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        header
    };
    let unsigned = |alg: &str| message(&with(json!({"alg": alg})), &claims);
    let malformed = EntraRefusal::Malformed("it is not signed with RS256");

    for alg in ["none", "None", "NONE", ""] {
        assert_eq!(refused(&verifier, &format!("{}.", unsigned(alg))).await, malformed);
        let signed = OLD.token_with(&with(json!({"alg": alg})), &claims);
        assert_eq!(refused(&verifier, &signed).await, malformed);
    }
    // What is public is no secret to sign with.
    let (der, pem, jwk) = (OLD.pair.der_bytes().to_vec(), OLD.pair.public_key_pem(), OLD.jwk().to_string());
    for secret in [OLD.modulus(), &der, pem.as_bytes(), pem.trim().as_bytes(), jwk.as_bytes(), b""] {
        for alg in ["HS256", "RS256"] {
            let message = unsigned(alg);
            let key = EncodingKey::from_secret(secret);
            let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
            let refusal = refused(&verifier, &format!("{message}.{signature}")).await;
            assert_eq!(refusal, if alg == "HS256" { malformed.clone() } else { EntraRefusal::Signature });
        }
    }
    // The right key, and another hash.
    let other = KeyPair::from_pkcs8_der_and_sign_algo(&OLD.pair.serialize_der().into(), &PKCS_RSA_SHA512).unwrap();
    for (alg, refusal) in [("RS512", malformed), ("RS256", EntraRefusal::Signature)] {
        let message = unsigned(alg);
        let signature = URL_SAFE_NO_PAD.encode(other.sign(message.as_bytes()).unwrap());
        assert_eq!(refused(&verifier, &format!("{message}.{signature}")).await, refusal);
    }
    let token = OLD.token_with(&with(json!({"crit": ["exp"], "exp": 1})), &claims);
    assert_eq!(refused(&verifier, &token).await, EntraRefusal::Malformed("it has critical extensions"));

    // Keys that come with the token are nobody's.
    let theirs = Entra::start(Reply::Keys(vec![NEW.jwk()])).await;
    let url = format!("http://{}/{TENANT}/discovery/v2.0/keys", theirs.address);
    let own = json!({"jwk": NEW.jwk(), "jku": url, "x5u": url, "x5c": ["MIIC"]});
    let mut header = with(own);
    assert_eq!(refused(&verifier, &NEW.token_with(&header, &claims)).await, EntraRefusal::Signature);
    assert_eq!(names(&verifier, &OLD.token_with(&header, &claims)).await.unwrap(), [OBJECT]);
    header["kid"] = json!(NEW.id);
    assert_eq!(refused(&verifier, &NEW.token_with(&header, &claims)).await, EntraRefusal::UnknownKey);
    assert_eq!(theirs.requests(), 0);
}

#[tokio::test]
async fn ids_of_keys() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk(), json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"})])).await;
    let verifier = entra.verifier();
    let long = "k".repeat(200);
    for kid in [json!(null), json!(""), json!("a b"), json!("a\u{0}"), json!("kéy"), json!(7), json!([]), json!(long)]
    {
        let mut header = OLD.header();
        header["kid"] = kid;
        let refusal = refused(&verifier, &OLD.token_with(&header, &entra.claims())).await;
        assert!(matches!(refusal, EntraRefusal::Malformed(_)), "{refusal:?}");
    }
    let mut header = OLD.header();
    header.as_object_mut().unwrap().remove("kid");
    let refusal = refused(&verifier, &OLD.token_with(&header, &entra.claims())).await;
    assert!(matches!(refusal, EntraRefusal::Malformed(_)), "{refusal:?}");
    // None of these was worth a request.
    assert_eq!(entra.requests(), 0);
    for kid in ["old", "../../keys", "' or 1=1 --".replace(' ', "+").as_str(), &OLD.id.to_uppercase(), "%00", "*"] {
        header["kid"] = json!(kid);
        let refusal = refused(&verifier, &OLD.token_with(&header, &entra.claims())).await;
        assert_eq!(refusal, EntraRefusal::UnknownKey);
        assert_eq!((refusal.status(), refusal.code()), (StatusCode::UNAUTHORIZED, Some("invalid_token")));
    }
}

#[tokio::test]
async fn when_a_token_is_good() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let now = now();
    for (claim, at, refusal) in [
        ("exp", now - 3600, Some(EntraRefusal::Expired)),
        ("exp", now - 60, Some(EntraRefusal::Expired)),
        // Half of the leeway, lest a slow machine be at its end.
        ("exp", now - 30, None),
        ("nbf", now + 30, None),
        ("nbf", now + 600, Some(EntraRefusal::NotYetValid)),
        ("iat", now + 30, None),
        ("iat", now + 600, Some(EntraRefusal::NotYetValid)),
    ] {
        let outcome = names(&verifier, &entra.changed(|c| c[claim] = json!(at))).await;
        assert_eq!(outcome.err(), refusal, "{claim} {at}");
    }
    for exp in [json!(null), json!("never"), json!((now + 3600).to_string()), json!(-1), json!({})] {
        let refusal = refused(&verifier, &entra.changed(|c| c["exp"] = exp)).await;
        assert_eq!(refusal, EntraRefusal::Malformed("its claims are not those of an access token"));
    }
    let token = entra.changed(|c| drop(c.as_object_mut().unwrap().remove("exp")));
    assert!(matches!(refused(&verifier, &token).await, EntraRefusal::Malformed(_)));
}

#[tokio::test]
async fn what_a_token_permits() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let user = |scp: Value, roles: Value| entra.changed(|c| (c["scp"], c["roles"]) = (scp, roles));
    for scp in ["openid", "", "Rows.Read.All", "rows.read"] {
        let refusal = refused(&verifier, &user(json!(scp), json!(["Rows.Read.All"]))).await;
        assert_eq!(refusal, EntraRefusal::InsufficientScope);
        assert_eq!((refusal.status(), refusal.code()), (StatusCode::FORBIDDEN, Some("insufficient_scope")));
    }
    // A user's ID token: the same audience, no scope, the user's roles.
    assert_eq!(refused(&verifier, &user(json!(null), json!(["Rows.Read.All"]))).await, EntraRefusal::InsufficientScope);

    let application = |roles: Value| {
        entra.changed(|c| {
            for claim in ["scp", "name", "preferred_username"] {
                c.as_object_mut().unwrap().remove(claim);
            }
            (c["sub"], c["roles"]) = (json!(OBJECT), roles);
        })
    };
    assert_eq!(
        names(&verifier, &application(json!(["Other", "Rows.Read.All"]))).await.unwrap(),
        [OBJECT, "role:Other"]
    );
    for roles in [json!(null), json!([]), json!(["Other"]), json!(["Rows.Read"])] {
        assert_eq!(refused(&verifier, &application(roles)).await, EntraRefusal::InsufficientScope);
    }
    let token = entra.changed(|c| (c["idtyp"], c["roles"]) = (json!("app"), json!(["Rows.Read.All"])));
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    let token = entra.changed(|c| c["idtyp"] = json!("app"));
    assert_eq!(refused(&verifier, &token).await, EntraRefusal::InsufficientScope);

    for oid in [json!(null), json!("a.b"), json!("role:Manager"), json!("")] {
        let refusal = refused(&verifier, &entra.changed(|c| c["oid"] = oid)).await;
        assert_eq!(refusal, EntraRefusal::Malformed("it has no object id (`oid`)"));
    }
}

#[tokio::test]
async fn every_change_is_seen() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let token = OLD.token(&entra.claims());
    names(&verifier, &token).await.unwrap();
    for at in 0..token.len() {
        let was = token.as_bytes()[at];
        for letter in [b'A', b'B', b'-', b'.', b'=', was ^ 1, was ^ 2, was ^ 32] {
            if letter != was && letter.is_ascii() {
                let mut changed = token.clone().into_bytes();
                changed[at] = letter;
                refused(&verifier, &String::from_utf8(changed).unwrap()).await;
            }
        }
        refused(&verifier, &token[..at]).await;
        refused(&verifier, &token[at + 1..]).await;
    }
    for text in
        [format!("{token}="), format!("{token}."), format!("{token}A"), format!(" {token}"), format!("{token}\n")]
    {
        refused(&verifier, &text).await;
    }
    // The payload of one and the signature of another.
    let other = entra.changed(|c| c["oid"] = json!("0b2cbd2c-5d8b-4d52-9c0c-6f0b8b1f4c57"));
    let (message, _) = other.rsplit_once('.').unwrap();
    let (_, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(refused(&verifier, &format!("{message}.{signature}")).await, EntraRefusal::Signature);
    assert_eq!(refused(&verifier, &format!("{message}.")).await, EntraRefusal::Signature);
    names(&verifier, &token).await.unwrap();
}

#[tokio::test]
async fn what_is_no_token() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let huge = entra.changed(|c| c["x"] = json!("x".repeat(13_000)));
    let large = entra.changed(|c| c["x"] = json!("x".repeat(11_000)));
    assert!(huge.len() > 16 << 10 && large.len() < 16 << 10);
    assert_eq!(refused(&verifier, &huge).await, EntraRefusal::Malformed("it is longer than 16 kB"));
    let deep = format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode("[".repeat(6_000)), "a");
    for text in
        ["", ".", "..", "a.b.c", "password", "💥.💥.💥", "\u{0}", &"a".repeat(1 << 20), &"a.".repeat(8_000), &deep]
    {
        let refusal = refused(&verifier, text).await;
        assert!(matches!(refusal, EntraRefusal::Malformed(_)), "{refusal:?}");
    }
    assert_eq!(entra.requests(), 0);
    assert_eq!(names(&verifier, &large).await.unwrap(), [OBJECT]);
    // What Entra signs is read with the same care.
    for claims in [json!(null), json!([]), json!({}), json!("text")] {
        let refusal = refused(&verifier, &OLD.token(&claims)).await;
        assert_eq!(refusal, EntraRefusal::Malformed("its claims are not those of an access token"));
    }
}

#[tokio::test]
async fn a_new_key_is_found_and_an_old_one_forgotten() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let (old, new) = (OLD.token(&entra.claims()), NEW.token(&entra.claims()));
    names(&verifier, &old).await.unwrap();
    entra.publish(&[&OLD, &NEW]);
    assert_eq!(names(&verifier, &new).await.unwrap(), [OBJECT]);
    assert_eq!(names(&verifier, &old).await.unwrap(), [OBJECT]);
    assert_eq!(entra.requests(), 2);

    // At the age of a day they are read again, and nobody waits for it.
    entra.publish(&[&NEW]);
    later(Duration::from_secs(24 * 3600 - 1)).await;
    names(&verifier, &old).await.unwrap();
    // In the time of three other readings it would have begun.
    let other = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    for _ in 0..3 {
        names(&other.verifier(), &OLD.token(&other.claims())).await.unwrap();
    }
    assert_eq!(entra.requests(), 2);
    later(Duration::from_secs(2)).await;
    names(&verifier, &old).await.unwrap();
    entra.was_asked(3).await;
    let verdict = async {
        while names(&verifier, &old).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, verdict).await.expect("the old key is kept");
    assert_eq!(refused(&verifier, &old).await, EntraRefusal::UnknownKey);
    assert_eq!(names(&verifier, &new).await.unwrap(), [OBJECT]);
}

#[tokio::test]
async fn unknown_keys_do_not_make_us_ask_without_end() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let claims = entra.claims();
    let token = NEW.token(&claims);
    let (_, rest) = token.split_once('.').unwrap();
    for n in 0..1000 {
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": format!("k{n}")}).to_string();
        let token = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
        assert_eq!(refused(&verifier, &token).await, EntraRefusal::UnknownKey);
    }
    assert_eq!(entra.requests(), 2);
    let all = join_all((0..200).map(|_| refused(&verifier, &token))).await;
    assert!(all.iter().all(|refusal| *refusal == EntraRefusal::UnknownKey));
    later(Duration::from_secs(58)).await;
    refused(&verifier, &token).await;
    assert_eq!(entra.requests(), 2);
    later(Duration::from_secs(2)).await;
    let all = join_all((0..200).map(|_| refused(&verifier, &token))).await;
    assert!(all.iter().all(|refusal| *refusal == EntraRefusal::UnknownKey));
    assert_eq!(entra.requests(), 3);
    names(&verifier, &OLD.token(&claims)).await.unwrap();
    assert_eq!(entra.requests(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_ask_once() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = Arc::new(entra.verifier());
    let token = OLD.token(&entra.claims());
    let all = (0..50).map(|_| {
        let (verifier, token) = (verifier.clone(), token.clone());
        tokio::spawn(async move { names(&verifier, &token).await })
    });
    for outcome in join_all(all).await {
        assert_eq!(outcome.unwrap().unwrap(), [OBJECT]);
    }
    assert_eq!(entra.requests(), 1);
}

#[tokio::test]
async fn who_asked_first_can_leave() {
    let entra = Entra::start(Reply::Hangs).await;
    let verifier = entra.verifier();
    let token = OLD.token(&entra.claims());
    let mut first = Box::pin(verifier.verify(&token));
    tokio::select! {
        _ = &mut first => panic!("there is no answer yet"),
        () = entra.was_asked(1) => {}
    }
    drop(first);
    // The request goes on and fails without anybody; then others can ask.
    entra.publish(&[&OLD]);
    let second = tokio::join!(names(&verifier, &token), later(Duration::from_secs(5))).0;
    assert_eq!(retry_after(&second.unwrap_err()), 5);
    assert_eq!(entra.requests(), 1);
    later(Duration::from_secs(5)).await;
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    assert_eq!(entra.requests(), 2);
}

#[tokio::test]
async fn entra_is_down_and_back() {
    // An address of our own at which nothing listens.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let entra = Entra::start(Reply::Says(503, "busy".into())).await;
    let verifier =
        EntraVerifier::new(EntraSettings { authority: format!("http://{address}"), ..entra.settings() }).unwrap();
    assert_eq!(retry_after(&refused(&verifier, &OLD.token(&entra.claims())).await), 5);

    let verifier = entra.verifier();
    let (old, new) = (OLD.token(&entra.claims()), NEW.token(&entra.claims()));
    for _ in 0..100 {
        assert!((4..=5).contains(&retry_after(&refused(&verifier, &old).await)));
    }
    assert_eq!(entra.requests(), 1);
    entra.publish(&[&OLD]);
    later(Duration::from_secs(3)).await;
    assert!((1..=2).contains(&retry_after(&refused(&verifier, &old).await)));
    assert_eq!(entra.requests(), 1);
    later(Duration::from_secs(2)).await;
    assert_eq!(names(&verifier, &old).await.unwrap(), [OBJECT]);
    assert_eq!(entra.requests(), 2);

    // Down again: what is known goes on; of what is not, nobody can tell.
    entra.will(Reply::Says(500, String::new()));
    assert!((59..=60).contains(&retry_after(&refused(&verifier, &new).await)));
    for _ in 0..100 {
        assert!((58..=60).contains(&retry_after(&refused(&verifier, &new).await)));
        names(&verifier, &old).await.unwrap();
    }
    assert_eq!(entra.requests(), 3);
    entra.publish(&[&OLD, &NEW]);
    later(Duration::from_secs(60)).await;
    assert_eq!(names(&verifier, &new).await.unwrap(), [OBJECT]);
    assert_eq!(entra.requests(), 4);
}

#[tokio::test]
async fn keys_outlive_an_outage_of_a_week() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let verifier = entra.verifier();
    let token = OLD.token(&entra.claims());
    names(&verifier, &token).await.unwrap();
    entra.will(Reply::Says(200, "<html>".into()));
    for day in 1..7 {
        later(Duration::from_secs(24 * 3600)).await;
        for _ in 0..20 {
            assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT], "day {day}");
        }
        entra.was_asked(1 + day).await;
        let reading = async {
            while refused(&verifier, &NEW.token(&entra.claims())).await.retry_after().is_none() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, reading).await.expect("it does not fail");
        assert_eq!(entra.requests(), 1 + day);
    }
    later(Duration::from_secs(24 * 3600)).await;
    assert_eq!(retry_after(&refused(&verifier, &token).await), 5);
    entra.publish(&[&OLD]);
    later(Duration::from_secs(5)).await;
    assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
}

#[tokio::test]
async fn entra_is_slow() {
    for reply in [Reply::Hangs, Reply::Stalls] {
        let entra = Entra::start(reply).await;
        let verifier = entra.verifier();
        let token = OLD.token(&entra.claims());
        let mut call = Box::pin(names(&verifier, &token));
        tokio::select! {
            _ = &mut call => panic!("there is no answer yet"),
            () = entra.was_asked(1) => {}
        }
        let before = tokio::time::Instant::now();
        later(Duration::from_secs(5)).await;
        assert_eq!(retry_after(&call.await.unwrap_err()), 5);
        // By the clock that was moved: what is left is what the machine took.
        assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
        entra.publish(&[&OLD]);
        later(Duration::from_secs(5)).await;
        assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    }
}

#[tokio::test]
async fn answers_that_are_no_keys() {
    let theirs = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let there = format!("http://{}/{TENANT}/discovery/v2.0/keys", theirs.address);
    let good = json!({"keys": [OLD.jwk()]}).to_string();
    let says = |body: &str| Reply::Says(200, body.into());
    for reply in [
        says(""),
        says("<html>Sign in</html>"),
        says("null"),
        says("[]"),
        says("{}"),
        says(r#"{"keys":[]}"#),
        says(r#"{"keys":[{"kid":"old"}]}"#),
        says(&good[..good.len() - 1]),
        says(&format!("{good}{}", " ".repeat(1 << 20))),
        Reply::Says(404, good.clone()),
        Reply::Says(203, good.clone()),
        Reply::Redirects(there),
        Reply::Breaks,
        Reply::Floods,
    ] {
        let entra = Entra::start(reply).await;
        let verifier = entra.verifier();
        let token = OLD.token(&entra.claims());
        assert_eq!(retry_after(&refused(&verifier, &token).await), 5);
        assert_eq!(entra.requests(), 1);
        entra.will(Reply::Says(200, good.clone()));
        later(Duration::from_secs(5)).await;
        assert_eq!(names(&verifier, &token).await.unwrap(), [OBJECT]);
    }
    assert_eq!(theirs.requests(), 0);
}

#[tokio::test]
async fn keys_that_are_not_for_this() {
    for (member, value) in [
        ("use", json!("enc")),
        ("alg", json!("RSA-OAEP")),
        ("alg", json!("RS512")),
        ("kty", json!("EC")),
        ("issuer", json!(format!("https://login.microsoftonline.com/{OTHER_TENANT}/v2.0"))),
        ("n", json!(URL_SAFE_NO_PAD.encode(&OLD.modulus()[..128]))),
        ("e", json!("Aw")),
        ("kid", json!(null)),
    ] {
        let mut jwk = OLD.jwk();
        jwk[member] = value.clone();
        let ec = json!({"kty": "EC", "use": "sig", "crv": "P-256", "kid": OLD.id, "x": "AAAA", "y": "AAAA"});
        let oct = json!({"kty": "oct", "k": "AAAA", "kid": OLD.id});
        let entra = Entra::start(Reply::Keys(vec![ec, jwk, oct, NEW.jwk()])).await;
        let verifier = entra.verifier();
        let refusal = refused(&verifier, &OLD.token(&entra.claims())).await;
        assert_eq!(refusal, EntraRefusal::UnknownKey, "{member} {value}");
        // The others are good for all that.
        assert_eq!(names(&verifier, &NEW.token(&entra.claims())).await.unwrap(), [OBJECT]);
    }
    let entra = Entra::start(Reply::Hangs).await;
    let mut jwk = OLD.jwk();
    (jwk["issuer"], jwk["alg"]) = (json!(format!("http://{}/{{tenantid}}/v2.0", entra.address)), json!("RS256"));
    entra.will(Reply::Keys(vec![jwk]));
    assert_eq!(names(&entra.verifier(), &OLD.token(&entra.claims())).await.unwrap(), [OBJECT]);
}

#[tokio::test]
async fn a_tenant_by_its_domain() {
    let entra = Entra::start(Reply::Keys(vec![OLD.jwk()])).await;
    let settings = || EntraSettings { tenant: DOMAIN.to_uppercase(), ..entra.settings() };
    let verifier = EntraVerifier::new(settings()).unwrap();
    assert_eq!(names(&verifier, &OLD.token(&entra.claims())).await.unwrap(), [OBJECT]);
    let asked =
        ["v2.0/.well-known/openid-configuration", "discovery/v2.0/keys"].map(|path| format!("/{DOMAIN}/{path}"));
    assert_eq!(*entra.asked.borrow(), asked);
    // Only the tenant that the domain belongs to.
    let other = format!("http://{}/{OTHER_TENANT}/v2.0", entra.address);
    let token = entra.changed(|c| (c["iss"], c["tid"]) = (json!(other), json!(OTHER_TENANT)));
    assert_eq!(refused(&verifier, &token).await, EntraRefusal::Issuer);
    let token = entra.changed(|c| c["iss"] = json!(format!("http://{}/{DOMAIN}/v2.0", entra.address)));
    assert_eq!(refused(&verifier, &token).await, EntraRefusal::Issuer);

    for issuer in
        ["", "https://login.microsoftonline.com/{tenantid}/v2.0", &format!("https://sts.windows.net/{TENANT}/")]
    {
        *entra.issuer.lock().unwrap() = issuer.to_owned();
        let verifier = EntraVerifier::new(settings()).unwrap();
        assert_eq!(retry_after(&refused(&verifier, &OLD.token(&entra.claims())).await), 5);
    }
}
