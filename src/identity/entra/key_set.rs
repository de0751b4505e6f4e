//! The keys that a tenant publishes, RFC 7517, without those that this server has no use for. Reads bytes only.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::directory::Issuer;

/// The only algorithm that Entra signs tokens with, RFC 7518 section 3.3.
pub(super) const ALGORITHM: &str = "RS256";

/// RFC 7518 section 3.3 asks for 2,048 bits at least; more than 8,192 cost too much to check.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// FIPS 186-5 section 5.1 asks for more than 2^16. With 1, everything is its own signature.
const LEAST_EXPONENT: u32 = 65_537;

/// A public key, and whose it is.
#[derive(Debug)]
pub(super) struct SigningKey {
    key: DecodingKey,
    issuer: Arc<Issuer>,
}

/// Keys by their ids.
pub(super) type KeySet = HashMap<String, Arc<SigningKey>>;

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    n: String,
    e: String,
    /// Entra's own: the issuer that the key is for.
    issuer: Option<String>,
}

impl SigningKey {
    /// Whether this key signed the message.
    pub(super) fn signed(&self, message: &str, signature: &Vec<u8>) -> bool {
        // Not by way of jsonwebtoken's process-wide provider, which panics where nobody has set it.
        (DEFAULT_PROVIDER.verifier_factory)(&Algorithm::RS256, &self.key)
            .is_ok_and(|verifier| verifier.verify(message.as_bytes(), signature).is_ok())
    }

    /// Whose key it is.
    pub(super) fn issuer(&self) -> &Issuer {
        &self.issuer
    }
}

/// The keys in a set that may sign this issuer's tokens. A key that can not be read is left out, and does not keep the
/// others from being used (RFC 7517 section 5). None if it is no set of keys.
pub(super) fn read(body: &[u8], issuer: &Arc<Issuer>) -> Option<KeySet> {
    let set: JwkSet = serde_json::from_slice(body).ok()?;
    let jwks = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Some(jwks.filter_map(|jwk| signing_key(jwk, issuer)).collect())
}

fn signing_key(jwk: Jwk, issuer: &Arc<Issuer>) -> Option<(String, Arc<SigningKey>)> {
    let fits = jwk.kty == "RSA"
        && jwk.usage.is_none_or(|usage| usage == "sig")
        && jwk.alg.is_none_or(|alg| alg == ALGORITHM)
        && jwk.issuer.is_none_or(|of| issuer.may_sign_with(&of));
    if !fits {
        return None;
    }
    let (n, e) = (number(&jwk.n)?, number(&jwk.e)?);
    let bits = n.len() * 8 - usize::try_from(n.first()?.leading_zeros()).ok()?;
    let exponent = e.iter().try_fold(0_u32, |sum, byte| sum.checked_mul(256)?.checked_add(u32::from(*byte)))?;
    if !MODULUS_BITS.contains(&bits) || exponent < LEAST_EXPONENT || exponent % 2 == 0 {
        return None;
    }
    let key = DecodingKey::from_rsa_raw_components(&n, &e);
    Some((jwk.kid, Arc::new(SigningKey { key, issuer: Arc::clone(issuer) })))
}

/// The bytes of a Base64urlUInt (RFC 7518 section 2), from the first that is not zero.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::entra::directory::Directory;
    use serde_json::json;

    const ID: &str = "8f9c1b1e-6a3a-4d0f-9d53-0e7cf5a4b1d2";
    const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

    fn kept(change: impl FnOnce(&mut Value)) -> bool {
        let directory = Directory::parse("https://login.microsoftonline.com", ID).unwrap();
        let issuer = directory.issuer_named(&format!("https://login.microsoftonline.com/{ID}/v2.0")).unwrap();
        let n = URL_SAFE_NO_PAD.encode([0x81; 256]);
        let mut key = json!({"kty": "RSA", "use": "sig", "kid": "k", "n": n, "e": "AQAB", "x5c": ["x"]});
        change(&mut key);
        let set = json!({"keys": [{"kty": "EC"}, 7, null, key, {"kty": "oct", "k": "AAAA", "kid": "k2"}]});
        let set = read(set.to_string().as_bytes(), &Arc::new(issuer)).unwrap();
        assert!(set.keys().all(|kid| kid == "k"));
        set.contains_key("k")
    }

    fn modulus(first: u8, bytes: usize) -> String {
        let mut n = vec![0xff; bytes];
        n[0] = first;
        URL_SAFE_NO_PAD.encode(n)
    }

    #[test]
    fn only_keys_for_signatures_of_this_tenant_are_kept() {
        assert!(kept(|_| ()));
        for (member, value) in [
            ("use", json!(null)),
            ("alg", json!("RS256")),
            ("issuer", json!("https://login.microsoftonline.com/{tenantid}/v2.0")),
            ("issuer", json!(format!("https://login.microsoftonline.com/{ID}/v2.0"))),
            ("n", json!(modulus(0x80, 256))),
            ("n", json!(modulus(0xff, 1024))),
            // Some write a zero first, so that it is no negative number.
            ("n", json!(modulus(0x00, 257))),
        ] {
            assert!(kept(|key| key[member] = value.clone()), "{member} {value}");
        }
        for (member, value) in [
            ("kty", json!("EC")),
            ("kty", json!("oct")),
            ("kty", json!("rsa")),
            ("use", json!("enc")),
            ("use", json!("")),
            ("alg", json!("RS512")),
            ("alg", json!("RSA-OAEP")),
            ("alg", json!("HS256")),
            ("alg", json!("none")),
            ("kid", json!(null)),
            ("kid", json!(1)),
            ("issuer", json!(format!("https://login.microsoftonline.com/{PERSONAL}/v2.0"))),
            ("issuer", json!("")),
            ("n", json!("")),
            ("n", json!("AA")),
            ("n", json!("*")),
            ("n", json!(modulus(0x7f, 256))),
            ("n", json!(modulus(0xff, 128))),
            ("n", json!(modulus(0x01, 1025))),
            ("n", json!(modulus(0x00, 256))),
            ("e", json!("")),
            ("e", json!("AQ")),
            ("e", json!("Aw")),
            ("e", json!("AQAA")),
            ("e", json!("AQAC")),
            ("e", json!("AQAAAAE")),
            ("e", json!(null)),
        ] {
            assert!(!kept(|key| key[member] = value.clone()), "{member} {value}");
        }
    }

    #[test]
    fn what_is_no_set_of_keys() {
        let directory = Directory::parse("https://login.microsoftonline.com", ID).unwrap();
        let issuer = directory.issuer_named(&format!("https://login.microsoftonline.com/{ID}/v2.0")).unwrap();
        let issuer = Arc::new(issuer);
        for body in ["", "{}", "[]", "null", "<html>", r#"{"keys":{}}"#, r#"{"keys":[}"#, "\u{0}", r#"{"keys":[]}x"#] {
            assert!(read(body.as_bytes(), &issuer).is_none(), "{body}");
        }
        assert!(read(br#"{"keys":[]}"#, &issuer).unwrap().is_empty());
    }
}
