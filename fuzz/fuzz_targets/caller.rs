//! How callers prove who they are. Whatever is sent, nobody becomes a caller without a signature of ours or Entra's, or
//! the platform's word while it counts. The first byte chooses the proof.
#![no_main]

use std::sync::{Arc, LazyLock};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use futures_util::FutureExt;
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use rowgate::identity::{Caller, Refusal, SignIn, SigningKeys, Verifier, fuzzing};
use sha2::Sha256;

/// Keys of nobody: the secret half of Entra's was thrown away, and the other one guards nothing.
const ENTRA_KEYS: &[u8] = include_bytes!("../keys/entra.json");
const ISSUED_SECRET: &[u8] = b"this secret guards nothing at all";
const ISSUED_KEY: &str = "t:dGhpcyBzZWNyZXQgZ3VhcmRzIG5vdGhpbmcgYXQgYWxs";

/// The one token that the key of Entra's has signed, after the byte that chooses it.
const ENTRA_TOKEN: &str = include_str!("../seeds/caller/entra_token");

static ISSUED: LazyLock<Verifier> = LazyLock::new(|| {
    let keys = SigningKeys::parse(ISSUED_KEY).unwrap();
    Verifier::new(None, Some(Arc::new(Arc::new(keys))))
});

fuzz_target!(|input: (u8, &[u8])| {
    let (proof, bytes) = input;
    match proof % 6 {
        0 => issued(bytes),
        1 => easy_auth(bytes),
        2 => entra_token(bytes),
        3 => entra_claims(bytes),
        4 => signing_keys(bytes),
        _ => trusted(bytes),
    }
});

fn ask(verifier: &Verifier, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let proved = verifier.verify(headers).now_or_never().expect("nothing is waited for");
    if let Err(refusal) = &proved {
        assert!(!refusal.to_string().is_empty());
        let _ = refusal.challenge();
    }
    proved
}

fn headers(bytes: &[u8], names: &[&'static str]) -> HeaderMap {
    let lines = bytes.split(|byte| *byte == b'\n');
    let named = names.iter().cycle().zip(lines.take(8));
    let mut headers = HeaderMap::new();
    for (name, value) in named {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    headers
}

fn issued(bytes: &[u8]) {
    let headers = headers(bytes, &["authorization"]);
    let Ok(caller) = ask(&ISSUED, &headers) else { return };
    let text = headers["authorization"].to_str().unwrap().trim();
    let (body, signature) = text.split_once(' ').unwrap().1.trim().rsplit_once('.').unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(ISSUED_SECRET).unwrap();
    mac.update(format!("rowgate issued token\n{body}").as_bytes());
    let signed: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(signed, signature);
    assert!(caller.token().is_some() && caller.principals().count() == 1);
}

fn easy_auth(bytes: &[u8]) {
    let names = ["x-ms-client-principal-id", "x-ms-client-principal-idp", "x-ms-client-principal"];
    let headers = headers(bytes, &names);
    let verifier = |enabled| Verifier::new(Some(SignIn::EasyAuth { enabled }), None);
    assert!(ask(&verifier(false), &headers).is_err());
    let Ok(caller) = ask(&verifier(true), &headers) else { return };
    assert_eq!(caller.principal().as_str(), headers[names[0]].to_str().unwrap().trim());
    assert!(headers[names[1]].to_str().unwrap().trim().eq_ignore_ascii_case("aad"));
    assert!(names.iter().all(|name| headers.get_all(*name).iter().count() <= 1));
    let also: Vec<_> = caller.principals().skip(1).map(|principal| principal.as_str()).collect();
    assert!(also.iter().all(|one| one.starts_with("group:") || one.starts_with("role:")), "{also:?}");
}

fn entra_token(bytes: &[u8]) {
    let signed = ENTRA_TOKEN.trim_end().strip_prefix('2').expect("the byte that chooses");
    if let Ok(token) = std::str::from_utf8(bytes) {
        assert!(!fuzzing::believed(ENTRA_KEYS, token) || token == signed);
    }
    // Only a set of keys with the very modulus can vouch for it.
    assert!(!fuzzing::believed(bytes, signed) || bytes.len() > 256);
}

fn entra_claims(bytes: &[u8]) {
    let Some(principals) = fuzzing::principals(bytes, 1_800_000_000) else { return };
    assert!(principals.first().is_some_and(|object| !object.contains(':')));
    assert!(principals.iter().skip(1).all(|one| one.starts_with("group:") || one.starts_with("role:")));
    // A claim that means nothing here is not read, and need not be text.
    let Ok(claims) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    if claims["_claim_names"].get("groups").is_some() || !claims["hasgroups"].is_null() {
        assert!(!principals.iter().any(|one| one.starts_with("group:")), "{principals:?}");
    }
}

fn signing_keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(keys) = SigningKeys::parse(text) else { return };
    let ids: Vec<_> = keys.iter().map(|key| key.id().as_str()).collect();
    assert_eq!(ids.first(), Some(&keys.newest().id().as_str()));
    for (n, key) in keys.iter().enumerate() {
        assert!(!ids[..n].contains(&ids[n]));
        let (inner, outer) = key.pads();
        assert_eq!((inner.len(), outer.len()), (64, 64));
        assert!(format!("{key:?}").len() <= "SigningKey()".len() + 32);
    }
}

fn trusted(bytes: &[u8]) {
    let headers = headers(bytes, &["x-rls-user-id"]);
    if let Ok(caller) = ask(&Verifier::trusted_header(), &headers) {
        assert_eq!(headers.get_all("x-rls-user-id").iter().count(), 1);
        let told = headers["x-rls-user-id"].to_str().unwrap().trim();
        assert_eq!(caller.principals().map(|one| one.as_str()).collect::<Vec<_>>(), [told]);
    }
    // Nothing else is ever believed.
    assert!(ask(&Verifier::new(None, None), &headers).is_err());
}
