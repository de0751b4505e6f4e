//! What a signature is worth: it is checked as we want it and never as the token does, each changed letter is seen, and
//! what is no token at all costs no request.

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PKCS_RSA_SHA512, PublicKeyData, SigningKey};
use rowgate::identity::EntraRefusal;
use serde_json::{Value, json};

use super::{Entra, NEW, OBJECT, OLD, Reply, TENANT, message, names, refused};

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
