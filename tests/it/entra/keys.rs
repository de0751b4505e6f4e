//! The keys that Entra publishes: a new one is found and an old one forgotten, unknown ones and many callers do not
//! make us ask without end, and answers and keys that are not for this are not taken.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use rowgate::identity::EntraRefusal;
use serde_json::json;
use tokio::time::timeout;

use super::{Entra, LONG, NEW, OBJECT, OLD, OTHER_TENANT, Reply, TENANT, later, names, refused, retry_after};

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
