//! The signed claim: how a transaction says for whom it runs, in a form that SQL inside it can not forge.
//!
//! `v2.<key id>.<principals>.<token id or ->.<expires>.<nonce>.<HMAC-SHA-256>`, checked by `rowgate.visible_stores()`
//! (migrations/core/0003_principals.sql). Principals are separated by commas; the signature is RFC 2104 over everything
//! before its dot, in hexadecimal.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::TryRng;
use rand::rngs::SysRng;

use super::{Caller, SigningKey};

/// How long a claim is good for. Longer than any call may take.
const LIFETIME: Duration = Duration::from_secs(300);

/// A claim, ready to be bound to the transaction. Its text is a secret while it lasts.
pub struct Claim(String);

impl Claim {
    /// A claim for this caller, for five minutes. `now`: by the clock of the database, which compares.
    pub fn sign(key: &SigningKey, caller: &Caller, now: SystemTime) -> Self {
        Self::sign_until(key, caller, now + LIFETIME)
    }

    /// A claim for this caller until a given time.
    pub fn sign_until(key: &SigningKey, caller: &Caller, expires: SystemTime) -> Self {
        let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut nonce = [0; 12];
        // Without entropy the claim is still bound to its caller and its time; the nonce only tells two apart.
        SysRng.try_fill_bytes(&mut nonce).unwrap_or_default();
        let principals: Vec<_> = caller.principals().map(|principal| principal.as_str()).collect();
        let signed = format!(
            "v2.{}.{}.{}.{expires}.{}",
            key.id().as_str(),
            principals.join(","),
            caller.token().map_or("-", |token| token.as_str()),
            hexadecimal(&nonce)
        );
        let signature = hexadecimal(&key.sign(&signed));
        Self(format!("{signed}.{signature}"))
    }

    /// The text to bind. Never place it in SQL text: other sessions can read that.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim(…)")
    }
}

/// Two lower-case digits a byte.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|nibble| DIGITS.get(usize::from(nibble))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Principal, TokenId};

    #[test]
    fn a_claim_names_its_key_caller_and_time() {
        let key = SigningKey::parse(&SigningKey::generate("k2").unwrap()).unwrap();
        let at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let principal = Principal::parse("f47ac10b-58cc-4372-a567-0e02b2c3d479").unwrap();
        let claim = Claim::sign_until(&key, &Caller::proved(principal.clone()), at);
        let parts: Vec<_> = claim.expose().split('.').collect();
        assert_eq!(&parts[..5], ["v2", "k2", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "-", "1800000000"]);
        assert_eq!((parts.len(), parts[5].len(), parts[6].len()), (7, 24, 64));
        assert!(!format!("{claim:?} {key:?}").contains(parts[6]));

        let group = Principal::parse("group:a").unwrap();
        let token = TokenId::parse(&"0a".repeat(8)).unwrap();
        let caller = Caller::proved(principal).also(vec![group]).by_token(token);
        let claim = Claim::sign_until(&key, &caller, at);
        let parts: Vec<_> = claim.expose().split('.').collect();
        assert_eq!(&parts[2..4], ["f47ac10b-58cc-4372-a567-0e02b2c3d479,group:a", "0a0a0a0a0a0a0a0a"]);
    }
}
